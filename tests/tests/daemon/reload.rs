//! A configuration that changes while connections are alive.

use std::{
    io::Read as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::{self, Control},
    firewall,
    lab::{Lab, Plan},
    process::Outcome,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd, wait_for};

const SIZE: usize = 16 << 20;

/// Publishes something else, to which no inside interface leads.
const ANOTHER: &str = r#"
[gateway]
wan = ["wan"]
[[publish]]
public = "198.51.100.1:2100"
server = "local"
"#;

#[track_caller]
fn assert_says(outcome: &Outcome, code: i32, named: &[&str]) {
    let said = format!("{}{}", outcome.text(), outcome.stderr);
    assert_eq!(outcome.status.unwrap().code(), Some(code), "{said}");
    for word in named {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_transfer_goes_on_though_its_server_is_published_no_longer_and_new_clients_are_refused() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    server.offer("large.bin", vec![7; SIZE]).unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    let mut data = control::connect(lab.client(), address).unwrap();
    control.send("RETR /download/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    data.read_exact(&mut vec![0; SIZE / 4]).unwrap();

    file.write(ANOTHER);
    let outcome = gateway.ask(&["reload"]).unwrap();
    assert_says(
        &outcome,
        0,
        &[
            "reloaded wan",
            "no longer published: 198.51.100.1:21",
            "published: 198.51.100.1:2100 = local",
        ],
    );
    let attempt = lab
        .client()
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&PUBLIC, Duration::from_secs(5))))
        .unwrap();
    let error = attempt.expect_err("nobody is published on port 21");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);

    assert_eq!(control::read_all(&data).unwrap().len(), SIZE - SIZE / 4);
    control.expect("226").unwrap();
    // The session is as good as ever: what it announces is rewritten and let in.
    for verb in ["PASV", "EPSV"] {
        assert_eq!(control.fetch(lab.client(), verb, SMALL).unwrap(), CONTENT);
    }
    let status = gateway.json(&["status"]).unwrap();
    let programs = status["gateways"][0]["programs"].as_array().unwrap();
    assert!(
        programs.iter().any(|it| it["name"] == "lan_ingress"),
        "its connections still need the program inside: {programs:#?}"
    );

    // Published again, by the other way to say so.
    file.write(ONE_SERVER);
    gateway.signal(Signal::HUP).unwrap();
    wait_for("a new session", || fetch(&lab, &server, "PASV").ok());
    assert!(
        gateway
            .log()
            .contains("published: 198.51.100.1:21 = 10.0.0.5:21")
    );
}

#[test]
fn the_program_inside_goes_once_the_last_connection_that_needs_it_has_gone() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    file.write(ANOTHER);
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    let is_there = || {
        let status = gateway.json(&["status"]).unwrap();
        let programs = status["gateways"][0]["programs"].as_array().unwrap();
        programs.iter().any(|it| it["name"] == "lan_ingress")
    };
    // Closed connections are remembered for ten seconds.
    assert!(is_there());
    let start = Instant::now();
    while is_there() {
        assert!(start.elapsed() < Duration::from_secs(60), "it stays");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_changed_server_is_that_of_new_sessions() {
    let lab = Lab::with(Plan {
        inside: 2,
        ..Plan::default()
    })
    .unwrap();
    let servers = [
        vsftpd(&lab.inside[0], b"the first\n"),
        vsftpd(&lab.inside[1], b"the second\n"),
    ];
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    let mut old = Control::log_in(lab.client(), &servers[0].target_at(PUBLIC)).unwrap();
    let fetch = |control: &mut Control| control.fetch(lab.client(), "PASV", SMALL).unwrap();
    assert_eq!(fetch(&mut old), b"the first\n");

    file.write(&ONE_SERVER.replace("10.0.0.5", "10.0.0.6"));
    let outcome = gateway.ask(&["reload"]).unwrap();
    let change = "changed for new sessions: 198.51.100.1:21: server 10.0.0.5:21 -> 10.0.0.6:21";
    assert_says(&outcome, 0, &["1 change", change]);
    let mut new = Control::log_in(lab.client(), &servers[1].target_at(PUBLIC)).unwrap();
    assert_eq!(fetch(&mut new), b"the second\n");
    assert_eq!(fetch(&mut old), b"the first\n");
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_each_is_named() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    let before = gateway.json(&["status"]).unwrap()["gateways"][0]["published"].clone();

    file.write("[gateway]\nwan = [\"wan\"]\nmrak = 1\n[[publish]]\nserver = \"10.0.0.5\"\npublic = \"198.51.100.1:0\"\n");
    let mistakes = [
        "ftp-nat.toml:3: gateway.mrak: unknown key; did you mean `mark`?",
        "ftp-nat.toml:6: publish.public: \"0\" is not a port",
    ];
    let outcome = gateway.ask(&["reload"]).unwrap();
    assert_says(&outcome, 2, &mistakes);
    assert_says(&outcome, 2, &["the old configuration stays in effect"]);
    let outcome = gateway.ask(&["reload", "--json"]).unwrap();
    let answer: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(2));
    assert_eq!(answer[0]["applied"], false);
    assert_eq!(answer[0]["mistakes"][0]["line"], 3);

    gateway.signal(Signal::HUP).unwrap();
    wait_for("the third refusal", || {
        (gateway.log().matches("the old one stays").count() == 3).then_some(())
    });
    for mistake in mistakes {
        assert!(gateway.log().contains(mistake), "{mistake}");
    }
    // A file that is away is a mistake as well.
    std::fs::remove_file(file.path()).unwrap();
    assert_says(&gateway.ask(&["reload"]).unwrap(), 2, &["cannot be read"]);
    let after = gateway.json(&["status"]).unwrap()["gateways"][0]["published"].clone();
    assert_eq!(after, before);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);

    file.write(ONE_SERVER);
    assert_says(
        &gateway.ask(&["reload"]).unwrap(),
        0,
        &["nothing has changed"],
    );
}

#[test]
fn what_can_change_only_with_a_restart_is_said_and_all_else_changes() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    // What an argument says, a file does not change.
    let gateway = file.run_with(&lab, &["--remap-ports", "62000-62999"]);
    let changed = ONE_SERVER.replace("wan = [\"wan\"]", "wan = [\"wan\", \"wan2\"]\nmark = 7")
        + "[limits]\nsessions = 77\n[timeouts]\nmapping = 20\n";
    file.write(&changed.replace("mark = 7", "mark = 7\nremap_ports = \"63000-63999\""));
    let outcome = gateway.ask(&["reload"]).unwrap();
    assert_says(
        &outcome,
        0,
        &[
            "2 changes",
            "gateway.mark: 0x40 -> 0x7",
            "timeouts.mapping: 60 s -> 20 s",
            "not changed yet: gateway.wan: wan -> wan, wan2: restart the daemon",
            "not changed yet: limits.sessions: 32768 -> 77",
            "ftp-nat unload",
        ],
    );
    let status = gateway.json(&["status"]).unwrap();
    let settings = &status["gateways"][0]["settings"];
    assert_eq!(settings["mark"], 7);
    assert_eq!(settings["mapping_timeout"], 20.0);
    assert_eq!(settings["remap_ports"], "62000-62999");
    assert_eq!(fetch(&lab, &server, "EPSV").unwrap(), CONTENT);
}

#[test]
fn without_a_daemon_there_is_nothing_to_reload() {
    let lab = Lab::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let mut gateway = file.run(&lab);
    gateway.kill().unwrap();
    wait_for("the daemon's end", || {
        let outcome = gateway.ask(&["reload"]).unwrap();
        (outcome.status.unwrap().code() == Some(3)).then_some(())
    });
    for command in [
        &["reload", "--json"][..],
        &["events"],
        &["events", "--follow"],
    ] {
        let outcome = gateway.ask(command).unwrap();
        assert_says(&outcome, 3, &["no ftp-nat daemon answers"]);
    }
}
