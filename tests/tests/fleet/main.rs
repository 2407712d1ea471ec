//! Two gateways that share their sessions through a real Redis, moved by a real keepalived.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    fleet::{Fleet, PUBLIC},
    gateway::Gateway,
    process::Running,
    server::{FtpServer, Kind, Settings},
};
use serde_json::{Value, json};

const LOOP: &str = include_str!("loop.py");
const LIMIT: Duration = Duration::from_secs(15);

/// Waits until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_until_ready(gateways: &[Gateway<'_>]) {
    for gateway in gateways {
        eventually("ready", || {
            gateway
                .ask(&["cluster", "ready"])
                .is_ok_and(|it| it.success())
        });
    }
}

fn status(gateway: &Gateway<'_>) -> Value {
    gateway.json(&["cluster", "status"]).unwrap()[0].clone()
}

/// Starts the client's loop and waits until it is logged in.
fn start_loop(fleet: &Fleet, server: &FtpServer, seconds: u64) -> Running {
    let content = vec![b'x'; 20_000];
    server.offer("small", &content).unwrap();
    let target = server.target_at((PUBLIC, 21).into());
    let job = json!({
        "host": PUBLIC.to_string(), "port": 21, "user": target.user, "password": target.password,
        "path": "/download/small", "seconds": seconds,
        "md5": md5(&content),
    });
    let mut command = fleet.client.namespace.command("python3").unwrap();
    command.args(["-c", LOOP, &job.to_string()]);
    let mut running = Running::start(&mut command).unwrap();
    running.wait_for("started", LIMIT).unwrap();
    running
}

fn md5(content: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let text = child.wait_with_output().unwrap().stdout;
    String::from_utf8_lossy(&text[..32]).into_owned()
}

/// What the loop says at its end.
fn result(mut running: Running, seconds: u64) -> Value {
    running
        .wait_for("longest", Duration::from_secs(seconds + 40))
        .unwrap();
    let log = running.log();
    let line = log.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_session_goes_on_at_the_other_gateway() {
    let fleet = Fleet::new().unwrap();
    let server = FtpServer::start(Kind::Pyftpdlib, &fleet.server, &Settings::default()).unwrap();
    let gateways = [fleet.gateway(0, "").unwrap(), fleet.gateway(1, "").unwrap()];
    wait_until_ready(&gateways);
    let keepalived = [0, 1].map(|place| fleet.keepalived(place, &gateways[place]).unwrap());
    let log = || keepalived.iter().map(Running::log).collect::<String>();
    let master = fleet.master().unwrap_or_else(|error| {
        panic!(
            "{error:#}
{}",
            log()
        )
    });
    let running = start_loop(&fleet, &server, 6);
    thread::sleep(Duration::from_secs(2));
    fleet.cable(master, false).unwrap();
    let result = result(running, 6);
    for gateway in &gateways {
        let peers = status(gateway)["peers"].clone();
        assert_eq!(peers[0]["has_same_config"], true, "{peers}");
    }
    assert_eq!(
        result["failures"],
        json!([]),
        "{result} {}",
        status(&gateways[1 - master])
    );
    assert!(result["files"].as_u64().unwrap() > 100);
    assert!(result["longest"].as_f64().unwrap() < 4.0, "{result}");
}
