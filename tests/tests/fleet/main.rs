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
fn start_loop(fleet: &Fleet, server: &FtpServer, seconds: u64, rest: u64) -> Running {
    let content = vec![b'x'; 20_000];
    server.offer("small", &content).unwrap();
    let target = server.target_at((PUBLIC, 21).into());
    let job = json!({
        "host": PUBLIC.to_string(), "port": 21, "user": target.user, "password": target.password,
        "path": "/download/small", "seconds": seconds,
        "rest": rest, "md5": md5(&content),
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

/// How the addresses go to the other gateway.
#[derive(Clone, Copy, PartialEq)]
enum Move {
    /// keepalived is stopped at the master.
    Planned,
    /// All cables of the master are pulled at once.
    Cut,
}

/// A client fetches small files without pause while the addresses move.
fn play(how: Move, rest: u64) {
    let fleet = Fleet::new().unwrap();
    let server = FtpServer::start(Kind::Pyftpdlib, &fleet.server, &Settings::default()).unwrap();
    let gateways = [fleet.gateway(0, "").unwrap(), fleet.gateway(1, "").unwrap()];
    wait_until_ready(&gateways);
    let mut keepalived = [0, 1].map(|place| fleet.keepalived(place, &gateways[place]).ok());
    let log = keepalived.iter().flatten().map(Running::log);
    let master = fleet
        .master()
        .unwrap_or_else(|error| panic!("{error:#}\n{}", log.collect::<String>()));
    let running = start_loop(&fleet, &server, 7, rest);
    thread::sleep(Duration::from_secs(2));
    match how {
        Move::Planned => drop(keepalived[master].take().unwrap().stop(LIMIT).unwrap()),
        Move::Cut => fleet.cable(master, false).unwrap(),
    }
    let result = result(running, 7);
    let other = &gateways[1 - master];
    for gateway in &gateways {
        let peers = status(gateway)["peers"].clone();
        assert_eq!(peers[0]["has_same_config"], true, "{peers}");
    }
    let status = status(other);
    assert_eq!(result["failures"], json!([]), "{result} {status}");
    if how == Move::Planned {
        assert_eq!(fleet.master().ok(), Some(1 - master));
    }
    assert!(status["installed"].as_u64().unwrap() > 100, "{status}");
    assert!(result["files"].as_u64().unwrap() > 100);
    assert!(result["longest"].as_f64().unwrap() < 4.0, "{result}");
}

#[test]
fn a_resting_session_goes_on_at_the_other_gateway_when_the_addresses_are_moved() {
    play(Move::Planned, 2);
}

#[test]
fn a_resting_session_goes_on_at_the_other_gateway_when_the_first_one_is_cut_off() {
    play(Move::Cut, 2);
}

#[test]
#[ignore = "what was announced in the last moment before the move is refused: about every second time"]
fn files_fetched_without_pause_go_on_when_the_addresses_are_moved() {
    play(Move::Planned, 0);
}

#[test]
#[ignore = "a 227 that left in the last moment before the cut was not told: about every fourth time"]
fn files_fetched_without_pause_go_on_when_the_first_gateway_is_cut_off() {
    play(Move::Cut, 0);
}
