//! What else may go wrong around two gateways, while a client fetches files: nothing breaks, and `doctor`
//! names it.

use std::{
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    fleet::{
        Fleet,
        client::{Fetching, Files, eventually},
        moves::{Move, Stage},
    },
    gateway::Gateway,
};

pub(crate) const FILES: Files = Files {
    length: 20_000,
    rest: Duration::ZERO,
};

/// Names how many seconds an outage lasts here.
const VARIABLE: &str = "FTP_NAT_FLEET_SECONDS";

/// How long it lasts.
pub(crate) fn outage() -> Duration {
    let seconds = std::env::var(VARIABLE).ok();
    Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()))
}

/// Prints a line of the table of `cargo xtask fleet`.
pub(crate) fn show(scene: &str, promise: &str, seen: &str) {
    println!("| {scene} | {promise} | {seen} |");
}

/// How soon both gateways must have all of each other again.
const CAUGHT_UP: Duration = Duration::from_secs(2);

/// Whether they had it so soon, where that is measured: by `cargo xtask fleet`. Beside other tests they wait for a
/// processor.
pub(crate) fn is_soon(took: Duration) -> bool {
    took < CAUGHT_UP || std::env::var(VARIABLE).is_err()
}

/// The findings of `doctor` that are about the cluster.
pub(crate) fn findings(gateway: &Gateway<'_>) -> Vec<String> {
    let answer = gateway.ask(&["doctor", "--json"]).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let names = findings.iter().map(|it| it["name"].as_str().unwrap());
    let names = names.filter(|name| name.starts_with("cluster-"));
    names.map(str::to_owned).collect()
}

pub(crate) fn is_ready(stage: &Stage<'_>, place: usize) -> bool {
    stage.gateways[place]
        .ask(&["cluster", "ready"])
        .unwrap()
        .success()
}

/// The client goes on fetching: some more files arrive.
pub(crate) fn goes_on(fetching: &Fetching) {
    let before = fetching.files();
    eventually("more files are fetched", || {
        Ok(fetching.files() > before + 50)
    })
    .unwrap();
}

/// Waits until both have caught up; gives how long that took.
pub(crate) fn catch_up(stage: &Stage<'_>) -> Duration {
    let start = Instant::now();
    stage.wait_until_caught_up().unwrap();
    start.elapsed()
}

#[test]
fn an_engine_that_is_away_or_forgets_everything_breaks_nothing() {
    let mut fleet = Fleet::new().unwrap();
    // The engine is the fleet's, and the stage borrows the fleet: a server of its own stands in for it.
    fleet.stop_engine();
    let mut engine = Some(fleet.redis(&["--port", "6379"]).unwrap());
    let mut stage = Stage::set(&fleet, "").unwrap();
    let fetching = stage.fetch(&FILES).unwrap();
    let master = fleet.master().unwrap();
    for is_flushed in [false, true] {
        if is_flushed {
            fleet.engine(&["FLUSHALL"]).unwrap();
        } else {
            drop(engine.take());
            eventually("doctor names it", || {
                Ok(findings(&stage.gateways[master]).contains(&"cluster-engine-away".to_owned()))
            })
            .unwrap();
            thread::sleep(outage());
            // What opened before is here all the same: it may still take over.
            assert!(is_ready(&stage, 1 - master));
            assert!(is_ready(&stage, master));
            goes_on(&fetching);
            engine = Some(fleet.redis(&["--port", "6379"]).unwrap());
        }
        let took = catch_up(&stage);
        let (away, seen) = (outage().as_secs(), took.as_secs_f64());
        let scene = if is_flushed {
            "the engine is flushed".to_owned()
        } else {
            format!("the engine is away for {away} s, under load")
        };
        let seen = format!(
            "{} files failed, caught up in {seen:.2} s",
            fetching.failures().len()
        );
        show(&scene, "nothing breaks, caught up within 2 s", &seen);
        assert!(is_soon(took), "{took:?}");
        eventually("ready", || Ok(is_ready(&stage, 1 - master))).unwrap();
        goes_on(&fetching);
        assert_eq!(findings(&stage.gateways[master]), [""; 0]);
        assert_eq!(fetching.failures(), [""; 0]);
    }
    let round = stage.play(Move::Stopped, &fetching).unwrap();
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
    drop(engine);
}

#[test]
fn two_masters_break_nothing() {
    let fleet = Fleet::new().unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
    let fetching = stage.fetch(&FILES).unwrap();
    let master = fleet.master().unwrap();
    fleet.lose_advertisements(true).unwrap();
    eventually("both have the addresses", || {
        Ok(fleet.is_master(0)? && fleet.is_master(1)?)
    })
    .unwrap();
    eventually("doctor names it", || {
        Ok(findings(&stage.gateways[master]).contains(&"cluster-address-twice".to_owned()))
    })
    .unwrap();
    thread::sleep(outage());
    goes_on(&fetching);
    fleet.lose_advertisements(false).unwrap();
    fleet.master().unwrap();
    goes_on(&fetching);
    show(
        &format!("both are masters for {} s", outage().as_secs()),
        "nothing breaks, doctor names it",
        &format!(
            "{} files failed, cluster-address-twice",
            fetching.failures().len()
        ),
    );
    assert_eq!(fetching.failures(), [""; 0], "{}", stage.logs());
    let round = stage.play(Move::Stopped, &fetching).unwrap();
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

#[test]
fn a_gateway_that_was_away_is_not_ready_before_it_knows_what_has_happened() {
    let fleet = Fleet::new().unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
    let fetching = stage.fetch(&FILES).unwrap();
    let standby = 1 - fleet.master().unwrap();
    // It misses what thousands of files tell, and does not know it yet.
    stage.stop_daemon(standby, true).unwrap();
    let before = fetching.files();
    eventually("thousands of records are missed", || {
        Ok(fetching.files() > before + 1500)
    })
    .unwrap();
    fleet
        .engine(&["DEL", "ftpnat:{lab}:1", "ftpnat:{lab}:2"])
        .unwrap();
    let lost = stage.lost(standby);
    stage.stop_daemon(standby, false).unwrap();
    eventually("it notices", || Ok(stage.lost(standby) > lost)).unwrap();
    stage.wait_until_caught_up().unwrap();
    eventually("ready", || Ok(is_ready(&stage, standby))).unwrap();
    let log = stage.gateways[standby].log();
    let at = |words: &str| log.rfind(words).unwrap_or_else(|| panic!("{words}: {log}"));
    assert!(at("not ready") < at(": ready"), "{log}");
    let round = stage.play(Move::Cut, &fetching).unwrap();
    show(
        "a stale node returns, and the other one is cut off then",
        "nothing breaks, it is not ready before it has caught up",
        &format!("{} files failed", round.failures.len()),
    );
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

#[test]
fn two_gateways_of_one_number_are_named() {
    let fleet = Fleet::new().unwrap();
    let engine = format!("redis://{}:6379", ftp_nat_tests::fleet::ENGINE);
    let first = fleet.gateway_by(0, 7, &engine, "").unwrap();
    eventually("ready", || Ok(first.ask(&["cluster", "ready"])?.success())).unwrap();
    let second = fleet.gateway_by(1, 7, &engine, "").unwrap();
    for gateway in [&first, &second] {
        eventually("it is named", || {
            Ok(findings(gateway).contains(&"cluster-number-twice".to_owned()))
        })
        .unwrap();
    }
    let ready = second.ask(&["cluster", "ready"]).unwrap();
    assert!(
        !ready.success() && ready.stderr.contains("number 7"),
        "{ready:?}"
    );
}
