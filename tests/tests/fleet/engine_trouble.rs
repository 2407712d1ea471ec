//! An engine that answers and does not do its work, while a client fetches files: nothing breaks, `doctor`
//! says what the engine says, and all is caught up with as soon as it works again.

use std::{process::Command, thread, time::Duration};

use ftp_nat_tests::{
    fleet::{
        ENGINE, Fleet,
        client::eventually,
        moves::{Move, Stage},
    },
    gateway::Gateway,
    process::{self, Running},
};
use rustix::process::Signal;

use super::outages::{FILES, catch_up, findings, goes_on, is_ready, is_soon, outage, show};

/// A trouble.
struct Trouble {
    name: &'static str,
    /// What the engine's error says.
    says: &'static str,
    begin: fn(&Fleet, &Running),
    end: fn(&Fleet, &Running),
}

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "has no memory left",
        says: "OOM",
        begin: |fleet, _| set(fleet, "maxmemory", "1"),
        end: |fleet, _| set(fleet, "maxmemory", "0"),
    },
    Trouble {
        name: "cannot save to its disk",
        says: "MISCONF",
        begin: |fleet, engine| {
            // What it writes ends behind some bytes, as on a disk that is full.
            limit_files(engine, "1024");
            set(fleet, "save", "3600 1");
            fleet.engine(&["BGSAVE"]).unwrap();
        },
        end: |fleet, engine| {
            limit_files(engine, "unlimited");
            eventually("the engine saves", || {
                // One that is under way is an error of redis-cli.
                Ok(fleet.engine(&["BGSAVE"]).is_ok()
                    && fleet
                        .engine(&["INFO", "persistence"])?
                        .contains("rdb_last_bgsave_status:ok"))
            })
            .unwrap();
            set(fleet, "save", "");
        },
    },
    Trouble {
        name: "takes away the right to write",
        says: "permissions",
        begin: |fleet, _| user(fleet, &["-xadd"]),
        end: |fleet, _| user(fleet, &["+xadd"]),
    },
    Trouble {
        name: "takes away the right to read",
        says: "permissions",
        begin: |fleet, _| user(fleet, &["-xread"]),
        end: |fleet, _| user(fleet, &["+xread"]),
    },
    Trouble {
        name: "wants another password",
        says: "uthentication",
        begin: |fleet, _| {
            user(fleet, &["resetpass", ">other"]);
            let kill = ["-a", "other", "CLIENT", "KILL", "TYPE", "normal"];
            fleet.engine(&kill).unwrap();
        },
        end: |fleet, _| {
            let free = ["-a", "other", "ACL", "SETUSER", "default", "nopass"];
            fleet.engine(&free).unwrap();
        },
    },
    Trouble {
        name: "stands still",
        says: "",
        begin: |_, engine| engine.signal(Signal::STOP).unwrap(),
        end: |_, engine| engine.signal(Signal::CONT).unwrap(),
    },
];

fn set(fleet: &Fleet, name: &str, value: &str) {
    let answer = fleet.engine(&["CONFIG", "SET", name, value]).unwrap();
    assert_eq!(answer.trim(), "OK", "{name}");
}

/// Changes the rights of the user as whom gateways come that name none.
fn user(fleet: &Fleet, rights: &[&str]) {
    let words = [&["ACL", "SETUSER", "default"], rights].concat();
    assert_eq!(fleet.engine(&words).unwrap().trim(), "OK");
}

/// Bounds the files that the engine, and those that it starts, can write: softly, so that it can be taken back.
fn limit_files(engine: &Running, bytes: &str) {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--pid={}", engine.pid()))
        .arg(format!("--fsize={bytes}:"));
    let done = process::run(&mut command, Duration::from_secs(5)).unwrap();
    done.expect_success().unwrap();
}

/// What a gateway says of its engine.
fn error(gateway: &Gateway<'_>) -> String {
    let status = gateway.json(&["cluster", "status"]).unwrap()[0].take();
    status["engine_error"].as_str().unwrap_or("").to_owned()
}

#[test]
fn an_engine_that_does_not_do_its_work_breaks_nothing() {
    let mut fleet = Fleet::new().unwrap();
    // The engine is the fleet's, and the stage borrows the fleet: a server of its own stands in for it.
    fleet.stop_engine();
    let engine = fleet.redis(&["--port", "6379"]).unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
    let fetching = stage.fetch(&FILES).unwrap();
    let master = fleet.master().unwrap();
    for trouble in TROUBLES {
        (trouble.begin)(&fleet, &engine);
        for gateway in &stage.gateways {
            let named = eventually("doctor names it", || {
                Ok(
                    findings(gateway).contains(&"cluster-engine-away".to_owned())
                        && error(gateway).contains(trouble.says),
                )
            });
            assert!(named.is_ok(), "{}: {}", trouble.name, error(gateway));
        }
        thread::sleep(outage());
        for place in [0, 1] {
            assert!(is_ready(&stage, place), "{}", trouble.name);
        }
        goes_on(&fetching);
        (trouble.end)(&fleet, &engine);
        let took = catch_up(&stage);
        show(
            &format!("the engine {} for {} s", trouble.name, outage().as_secs()),
            "nothing breaks, caught up within 2 s",
            &format!(
                "{} files failed, caught up in {:.2} s",
                fetching.failures().len(),
                took.as_secs_f64()
            ),
        );
        assert!(is_soon(took), "{}: {took:?}", trouble.name);
        eventually("doctor finds nothing", || {
            Ok(findings(&stage.gateways[master]).is_empty())
        })
        .unwrap();
        assert_eq!(fetching.failures(), [""; 0], "{}", trouble.name);
        // It is said once, and not at each new try.
        for gateway in &stage.gateways {
            let log = gateway.log();
            let said = log.matches("trying again").count();
            assert!(said < 10 * TROUBLES.len(), "{}: {log}", trouble.name);
        }
    }
    let round = stage.play(Move::Stopped, &fetching).unwrap();
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

/// Whoever may not write does not keep a gateway from working for ever.
#[test]
fn a_gateway_that_starts_while_the_engine_takes_nothing_gets_ready() {
    let fleet = Fleet::new().unwrap();
    set(&fleet, "maxmemory", "1");
    let gateway = fleet.gateway(0, "").unwrap();
    eventually("ready", || {
        Ok(gateway.ask(&["cluster", "ready"])?.success())
    })
    .unwrap();
    assert!(error(&gateway).contains("OOM"), "{}", error(&gateway));
}

/// An engine that throws away what was not used of late throws the gateways' streams away too.
#[test]
fn streams_that_the_engine_throws_away_break_nothing() {
    let fleet = Fleet::new().unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
    let fetching = stage.fetch(&FILES).unwrap();
    let memory = fleet.engine(&["INFO", "memory"]).unwrap();
    let used = memory
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = used.unwrap().trim().parse().unwrap();
    set(&fleet, "maxmemory-policy", "allkeys-random");
    set(&fleet, "maxmemory", &used.to_string());
    let evicted = || -> anyhow::Result<u64> {
        let stats = fleet.engine(&["INFO", "stats"])?;
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("evicted_keys:"));
        Ok(count.unwrap_or("0").trim().parse()?)
    };
    eventually("streams were thrown away", || Ok(evicted()? >= 5)).unwrap();
    goes_on(&fetching);
    set(&fleet, "maxmemory", "0");
    assert!(is_soon(catch_up(&stage)));
    assert_eq!(fetching.failures(), [""; 0]);
    let round = stage.play(Move::Stopped, &fetching).unwrap();
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

#[test]
fn a_master_that_becomes_a_replica_is_left_for_the_new_one() {
    let fleet = Fleet::new().unwrap();
    let first = fleet.redis(&["--port", "6401"]).unwrap();
    let second = fleet
        .redis(&["--port", "6402", "--replicaof", ENGINE, "6401"])
        .unwrap();
    let both = format!("redis://{ENGINE}:6401\", \"redis://{ENGINE}:6402");
    let gateways = [0, 1].map(|place| fleet.gateway_by(place, place + 1, &both, "").unwrap());
    let are_joined = |engine: &Running, port: &str| {
        eventually("both are there and have caught up", || {
            let clients = fleet.engine(&["-p", port, "CLIENT", "LIST"])?;
            for gateway in &gateways {
                let status = gateway.json(&["cluster", "status"])?[0].take();
                let peer = &status["peers"][0];
                if status["is_connected"] != true
                    || peer["is_alive"] != true
                    || peer["is_caught_up"] != true
                {
                    return Ok(false);
                }
            }
            Ok(clients.matches("cmd=xread").count() == 2)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", gateways[0].log(), engine.log()));
    };
    are_joined(&first, "6401");
    fleet
        .engine(&["-p", "6402", "REPLICAOF", "NO", "ONE"])
        .unwrap();
    fleet
        .engine(&["-p", "6401", "REPLICAOF", ENGINE, "6402"])
        .unwrap();
    are_joined(&second, "6402");
}
