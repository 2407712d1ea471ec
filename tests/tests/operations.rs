//! docs/operations.md is true: its rule sets and configurations are tried as they stand there.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS},
    process,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};

const GUIDE: &str = include_str!("../../docs/operations.md");

const ALL_MODES: [Mode; 4] = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt];
const CONTENT: &[u8] = b"as it was stored\n";

/// The blocks of the guide that are marked with these words, in their order.
fn blocks(mark: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = GUIDE.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(mark) {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    assert!(!blocks.is_empty(), "the guide has no block {mark}");
    blocks
}

fn rules(name: &str) -> String {
    blocks(&format!("nft {name}")).concat()
}

/// The configuration with these words in it, the first of them if there are several.
fn config(scratch: &Scratch, word: &str) -> String {
    let found = blocks("toml").into_iter().find(|it| it.contains(word));
    let text = found.unwrap_or_else(|| panic!("no configuration with {word}"));
    let path = scratch.write("ftp-nat.toml", text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn start<'lab>(lab: &'lab Lab, word: &str, rule_set: &str) -> Gateway<'lab> {
    lab.router.nft(&rules(rule_set)).unwrap();
    let scratch = Scratch::new().unwrap();
    Gateway::start(&lab.router, &["--config", &config(&scratch, word)]).unwrap()
}

fn vsftpd(host: &Host, settings: &Settings) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, host, settings).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// The router's address, behind which the server is published.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

#[track_caller]
fn fetches(client: &Host, server: &FtpServer, address: SocketAddr, modes: &[Mode]) {
    for &mode in modes {
        let job = Job::Fetch("/download/small.txt");
        let session = Client::Curl
            .perform(client, &server.target_at(address), mode, job)
            .and_then(Session::expect_success)
            .unwrap_or_else(|error| panic!("{mode:?}: {error:#}"));
        assert_eq!(session.content, CONTENT, "{mode:?}");
    }
}

#[test]
fn redirected_packets_need_no_rule() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), &Settings::default());
    let gateway = start(&lab, "public = \"wan:21\"", "redirect");
    fetches(lab.client(), &server, PUBLIC, &ALL_MODES);
    let metric = |path| gateway.metric("inbound_packets_total", path).unwrap();
    assert!(metric("path=\"redirect\"") > 20);
}

#[test]
fn through_the_stack_one_rule_on_the_mark_is_enough() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), &Settings::default());
    let gateway = start(&lab, "lan = \"none\"", "stack");
    fetches(lab.client(), &server, PUBLIC, &ALL_MODES);
    let metric = |path| gateway.metric("inbound_packets_total", path).unwrap();
    assert_eq!(metric("path=\"redirect\""), 0);
}

#[test]
fn masqueraded_clients_are_reached_in_active_mode() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab.outside[0], &Settings::default());
    let gateway = start(&lab, "[[masquerade]]", "masquerade");
    fetches(&lab.inside[0], &server, server.address(), &ALL_MODES);
    let rewritten = gateway.metric("rewritten_total", "text=\"port\"").unwrap();
    assert!(rewritten > 0);
}

#[test]
fn where_the_kernel_translates_port_21_the_rest_is_looked_after() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), &Settings::default());
    let gateway = start(&lab, "control_nat = \"kernel\"", "kernel");
    fetches(lab.client(), &server, PUBLIC, &ALL_MODES);
    let opened = gateway.metric_in_all("mappings_used_total").unwrap();
    assert_eq!(opened, 4);
}

#[test]
fn encrypted_sessions_use_the_range_that_the_firewall_lets_in_and_others_are_served_beside() {
    let lab = Lab::new().unwrap();
    let settings = Settings {
        tls: true,
        passive_ports: Some(50_000..=50_999),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    };
    let server = vsftpd(lab.server(), &settings);
    let gateway = start(&lab, "public = \"wan:21\"", "ftps");
    fetches(lab.client(), &server, PUBLIC, &[Mode::Pasv, Mode::Epsv]);
    assert!(gateway.metric("sessions_encrypted_total", "").unwrap() >= 2);
    assert_eq!(gateway.metric_in_all("mappings_used_total").unwrap(), 0);

    drop(server);
    let plain = vsftpd(
        lab.server(),
        &Settings {
            tls: false,
            ..settings
        },
    );
    fetches(lab.client(), &plain, PUBLIC, &[Mode::Pasv, Mode::Epsv]);
    assert_eq!(gateway.metric_in_all("mappings_used_total").unwrap(), 2);
}

#[test]
fn without_these_rules_the_same_firewalls_let_nothing_through() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), &Settings::default());
    let _gateway = start(&lab, "lan = \"none\"", "redirect");
    let target = server.target_at(PUBLIC);
    let session = Client::Curl.perform(
        lab.client(),
        &target,
        Mode::Pasv,
        Job::Fetch("/download/small.txt"),
    );
    assert!(session.and_then(Session::expect_success).is_err());
    // That is what the rule on the mark is for.
    lab.router
        .nft(&firewall::ACCEPT_MARKED.replace("inet lab", "inet filter"))
        .unwrap();
    lab.router
        .nft("add rule inet filter forward ct state established accept")
        .unwrap();
    fetches(lab.client(), &server, PUBLIC, &[Mode::Pasv]);
}

#[test]
fn every_configuration_is_right() {
    let scratch = Scratch::new().unwrap();
    let binary = Tools::get().unwrap().binary;
    for text in blocks("toml") {
        let path = scratch.write("ftp-nat.toml", &text).unwrap();
        let mut check = std::process::Command::new(&binary);
        let outcome = process::run(
            check.args(["check", "--config"]).arg(path),
            Duration::from_secs(5),
        );
        if let Err(error) = outcome.unwrap().expect_success() {
            panic!("{error:#}\n{text}");
        }
    }
}

#[test]
fn every_metric_that_is_named_exists() {
    let lab = Lab::new().unwrap();
    let address = "127.0.0.1:9810";
    let scratch = Scratch::new().unwrap();
    // Some are there only with what they count: a pool, and a client that was refused something.
    let config = config(&scratch, "public = \"wan:21\"");
    let text = fs::read_to_string(&config).unwrap();
    let pool = text.replace("\"10.0.0.5:21\"", "[\"10.0.0.5:21\", \"10.0.0.5:2121\"]");
    assert_ne!(pool, text);
    fs::write(&config, pool + "\n[limits]\nclient_sessions = 1\n").unwrap();
    let arguments = ["--config", &config, "--metrics-listen", address];
    let _gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let listen = |port| {
        let address = lab.server().at(port);
        lab.server()
            .namespace
            .run(|| Ok(TcpListener::bind(address)?))
    };
    let _servers = [listen(21).unwrap(), listen(2121).unwrap()];
    let begin = || {
        lab.client()
            .namespace
            .run(|| Ok(TcpStream::connect_timeout(&PUBLIC, Duration::from_secs(2))?))
    };
    let _first = begin().unwrap();
    assert!(begin().is_err(), "a client has two sessions");
    let mut curl = lab.router.command("curl").unwrap();
    curl.args(["--silent", "--fail", &format!("http://{address}/metrics")]);
    let metrics = process::run(&mut curl, Duration::from_secs(5)).unwrap();
    let metrics = metrics.expect_success().unwrap().text();
    // NAME or NAME{label="value"}
    let named: BTreeSet<&str> = GUIDE
        .match_indices("ftp_nat_")
        .map(|(start, _)| {
            let rest = &GUIDE[start..];
            let name = rest
                .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len());
            if rest[name..].starts_with('{') {
                &rest[..=rest.find('}').unwrap()]
            } else {
                &rest[..name]
            }
        })
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let is_there = metrics.lines().any(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        assert!(is_there, "{name} is not in:\n{metrics}");
    }
}
