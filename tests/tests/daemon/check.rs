//! Bad configurations, each with its line, its key and a hint, and nothing touched.

use std::{fmt::Write as _, path::PathBuf, process::Command, time::Duration};

use ftp_nat_tests::{
    lab::Lab,
    process::{self, Outcome},
    tools::Tools,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, fetch, vsftpd};

const PATIENCE: Duration = Duration::from_secs(20);

fn check(path: &PathBuf, words: &[&str]) -> Outcome {
    let mut command = Command::new(Tools::get().unwrap().binary);
    command.args(["check", "--config"]).arg(path).args(words);
    process::run(&mut command, PATIENCE).unwrap()
}

#[test]
fn bad_files_are_named_by_line_and_key() {
    const WAN: &str = "[gateway]\nwan = [\"wan\"]\n";
    let publish = |lines: &str| format!("{WAN}[[publish]]\n{lines}");
    let cases = [
        (
            format!("{WAN}metric_listen = \"127.0.0.1:9810\"\n"),
            ":3: gateway.metric_listen: unknown key; did you mean `metrics_listen`?",
        ),
        (
            "[gatway]\nwan = [\"wan\"]\n".into(),
            ":1: gatway: unknown key; did you mean `gateway`?",
        ),
        (
            publish(
                "public = \"203.0.113.1:21\"\nserver = \"10.0.0.5:21\"\n[[publish]]\n\
                 public = \"203.0.113.1:21\"\nserver = \"10.0.0.6:21\"\n",
            ),
            ":7: publish.public: 203.0.113.1:21 is already published, for 10.0.0.5:21",
        ),
        (
            publish(
                "public = \"203.0.113.1:21\"\nserver = \"10.0.0.5:21\"\n\
                 passive_ports = \"50999-50000\"\n",
            ),
            ":6: publish.passive_ports: \"50999-50000\" is upside down: 50999 is above 50000; \
             write 50000-50999",
        ),
        (
            publish("public = \"203.0.113.1:21\"\nserver = \"[fd00::5]:21\"\n"),
            ":5: publish.server: 203.0.113.1:21 is IPv4 and [fd00::5]:21 is IPv6",
        ),
        (
            publish("public = \"203.0.113.1:21\"\nserver = \"ftp.example.net:21\"\n"),
            ":5: publish.server: \"ftp.example.net\" is not an IP address",
        ),
        (
            publish("public = \"203.0.113.1\"\nserver = \"10.0.0.5:21\"\n"),
            ":4: publish.public: \"203.0.113.1\" has no port (such as 203.0.113.1:21)",
        ),
        (
            publish("public = \"203.0.113.1:21\"\nserver = \"10.0.0.5:21\"\npeer = \"some\"\n"),
            ":6: publish.peer: \"some\" is not one of same, any",
        ),
        (
            publish(
                "public = \"203.0.113.1:21\"\nserver = \"10.0.0.5:21\"\ntoward_server = \"nat\"\n",
            ),
            ":6: publish.toward_server: \"nat\" is not one of client, gateway",
        ),
        (
            publish(
                "public = \"203.0.113.1:21\"\nserver = \"local\"\ntoward_server = \"gateway\"\n",
            ),
            ":6: publish.toward_server: a local server sees its clients as they come",
        ),
        (
            publish(
                "public = \"203.0.113.1:21\"\nserver = \"10.0.0.5:21\"\n\
                 control_nat = \"kernel\"\ntoward_server = \"gateway\"\n",
            ),
            ":7: publish.toward_server: needs `control_nat = \"ebpf\"`",
        ),
        (
            format!(
                "{WAN}lan = \"none\"\n[[publish]]\npublic = \"203.0.113.1:21\"\n\
                 server = \"10.0.0.5:21\"\ntoward_server = \"gateway\"\n"
            ),
            ":7: publish.toward_server: needs packets that are redirected",
        ),
        (
            format!("{WAN}symmetric_return = \"no\"\n"),
            ":3: gateway.symmetric_return: must be true or false",
        ),
        (
            format!("{WAN}first_packet = \"stack\"\n"),
            ":3: gateway.first_packet: \"stack\" is not one of redirect, firewall",
        ),
        (
            format!(
                "{WAN}first_packet = \"firewall\"\n[[publish]]\npublic = \"203.0.113.1:21\"\n\
                 server = \"10.0.0.5:21\"\ntoward_server = \"gateway\"\n"
            ),
            ":7: publish.toward_server: contradicts gateway.first_packet = \"firewall\"",
        ),
        (
            format!("{WAN}[limits]\nclient_sessions = -1\n"),
            ":4: limits.client_sessions: -1 is out of range: 0 (no bound) to 33554432",
        ),
        (
            format!("{WAN}audit_log = \"audit.jsonl\"\n"),
            ":3: gateway.audit_log: \"audit.jsonl\" is no absolute path",
        ),
        (
            format!("{WAN}metrics_listen = \"9810\"\n"),
            ":3: gateway.metrics_listen: \"9810\" is not ADDR:PORT",
        ),
        (
            format!("{WAN}[timeouts]\nmapping = 0\n"),
            ":4: timeouts.mapping: 0 is out of range: 1 to 1800 seconds",
        ),
        (
            format!("{WAN}[limits]\nsessions = -1\n"),
            ":4: limits.sessions: -1 is out of range: 1 to 33554432 entries",
        ),
        ("[gateway\nwan = 1\n".into(), ":1: "),
        ("\0\u{1}\u{2}".into(), ":1: "),
    ];
    for (text, named) in &cases {
        let file = ConfigFile::new(text);
        let outcome = check(&file.path(), &[]);
        assert_eq!(
            outcome.status.unwrap().code(),
            Some(2),
            "{text}: {outcome:?}"
        );
        let named = format!("ftp-nat.toml{named}");
        assert!(
            outcome.stderr.contains(&named),
            "{named} is not in:\n{}",
            outcome.stderr
        );
        let json = check(&file.path(), &["--json"]);
        let mistakes: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert!(mistakes[0]["line"].is_u64(), "{mistakes:#}");
        assert!(mistakes[0]["file"].is_string(), "{mistakes:#}");
    }
}

/// A file whose every line but the headings is a mistake of another kind, and what is said of it.
const MISTAKEN: &[(&str, &str)] = &[
    ("[gateway]", ""),
    (
        "wann = [\"wan\"]",
        "gateway.wann: unknown key; did you mean `wan`?",
    ),
    (
        "wan = [\"wan\", \"wan\"]",
        "gateway.wan: wan is named twice",
    ),
    (
        "lan = [\"lan\", \"\"]",
        "gateway.lan: \"\" is not an interface name",
    ),
    (
        "datapath = \"fast\"",
        "gateway.datapath: \"fast\" is not one of auto, stack, redirect, xdp",
    ),
    (
        "metrics_listen = \"9810\"",
        "gateway.metrics_listen: \"9810\" is not ADDR:PORT",
    ),
    (
        "audit_log = \"audit.jsonl\"",
        "gateway.audit_log: \"audit.jsonl\" is no absolute path",
    ),
    (
        "mark = \"0x100000000\"",
        "gateway.mark: \"0x100000000\" is not a mark: 0 to 0xffffffff",
    ),
    (
        "remap_ports = \"70000-80000\"",
        "gateway.remap_ports: \"70000\" is not a port: 1 to 65535",
    ),
    (
        "first_packet = \"stack\"",
        "gateway.first_packet: \"stack\" is not one of",
    ),
    (
        "deny = [\"198.51.100.0/40\"]",
        "gateway.deny: \"40\" is not a prefix length: 0 to 32",
    ),
    (
        "transfers = \"yes\"",
        "gateway.transfers: must be true or false, not string",
    ),
    ("[[publish]]", ""),
    ("public = \"203.0.113.1:21\"", ""),
    (
        "server = \"[fd00::5]:21\"",
        "publish.server: 203.0.113.1:21 is IPv4 and [fd00::5]:21 is IPv6",
    ),
    (
        "passive_ports = \"50999-50000\"",
        "publish.passive_ports: \"50999-50000\" is upside down",
    ),
    (
        "peer = \"some\"",
        "publish.peer: \"some\" is not one of same, any",
    ),
    (
        "control_nat = \"iptables\"",
        "publish.control_nat: \"iptables\" is not one of ebpf, kernel",
    ),
    (
        "toward_server = \"nat\"",
        "publish.toward_server: \"nat\" is not one of client, gateway",
    ),
    (
        "advertise = \"nowhere\"",
        "publish.advertise: \"nowhere\" is not an IP address",
    ),
    (
        "serverr = 1",
        "publish.serverr: unknown key; did you mean `server`?",
    ),
    (
        "deny_commands = [\"SI TE\"]",
        "publish.deny_commands: \"SI TE\" is no command",
    ),
    ("[[publish]]", ""),
    (
        "public = \"203.0.113.1:21\"",
        "publish.public: 203.0.113.1:21 is published by another entry",
    ),
    (
        "server = [\"10.0.0.5:21\", \"10.0.0.5:21\"]",
        "publish.server: 10.0.0.5:21 is named twice",
    ),
    ("[[publish]]", "publish: `public` is missing"),
    ("server = \"10.0.0.6:21\"", ""),
    ("[[publish]]", ""),
    (
        "public = \"203.0.113.7\"",
        "publish.public: \"203.0.113.7\" has no port",
    ),
    (
        "server = \"ftp.example.net:21\"",
        "publish.server: \"ftp.example.net\" is not an IP address",
    ),
    ("[[publish]]", ""),
    ("public = \"203.0.113.8:21\"", ""),
    ("server = \"10.0.0.8:21\"", ""),
    ("[[publish]]", ""),
    (
        "public = \"203.0.113.8:21\"",
        "publish.public: 203.0.113.8:21 is already published, for 10.0.0.8:21",
    ),
    ("server = \"10.0.0.9:21\"", ""),
    ("[[masquerade]]", ""),
    (
        "clients = [\"10.0.0.0/33\"]",
        "masquerade.clients: \"33\" is not a prefix length: 0 to 32",
    ),
    (
        "control_ports = [0]",
        "masquerade.control_ports: \"0\" is not a port: 1 to 65535",
    ),
    ("[timeouts]", ""),
    (
        "mapping = 0",
        "timeouts.mapping: 0 is out of range: 1 to 1800 seconds",
    ),
    (
        "data_idle = \"long\"",
        "timeouts.data_idle: must be a whole number: 10 to 2592000 seconds, not string",
    ),
    (
        "control_idle = 99999999999",
        "timeouts.control_idle: 99999999999 is out of range: 10 to 2592000 seconds",
    ),
    ("[limits]", ""),
    (
        "sessions = 0",
        "limits.sessions: 0 is out of range: 1 to 33554432 entries",
    ),
    (
        "client_sessions = -1",
        "limits.client_sessions: -1 is out of range: 0 (no bound) to 33554432",
    ),
    ("[health]", ""),
    (
        "interval = 0",
        "health.interval: 0 is out of range: 1 to 3600 seconds",
    ),
    (
        "rise = 101",
        "health.rise: 101 is out of range: 1 to 100 checks",
    ),
    (
        "[nonsense]",
        "nonsense: unknown key; known are gateway, publish",
    ),
];

#[test]
fn all_mistakes_of_a_file_are_named_at_once_in_the_order_of_its_lines() {
    let lines: Vec<_> = MISTAKEN.iter().map(|(line, _)| *line).collect();
    let file = ConfigFile::new(&lines.join("\n"));
    let outcome = check(&file.path(), &[]);
    assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
    let mut said = outcome.stderr.lines();
    for (number, (_, named)) in MISTAKEN.iter().enumerate() {
        if !named.is_empty() {
            let named = format!("ftp-nat.toml:{}: {named}", number + 1);
            let line = said.next().unwrap_or_default();
            assert!(line.contains(&named), "{named}\n{line}\n{}", outcome.stderr);
        }
    }
    assert_eq!(said.next(), None, "{}", outcome.stderr);
}

#[test]
fn a_right_file_says_nothing_about_this_machine() {
    let file = ConfigFile::new(crate::ONE_SERVER);
    let outcome = check(&file.path(), &[]);
    assert!(outcome.success(), "{outcome:?}");
    assert!(
        outcome.text().contains("ftp-nat doctor --config"),
        "{outcome:?}"
    );
    let mut unconfigured = Command::new(Tools::get().unwrap().binary);
    let outcome = process::run(unconfigured.arg("check"), PATIENCE).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("not configured yet"), "{outcome:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let file = ConfigFile::new("");
    let folder = file.path().parent().unwrap().to_owned();
    for (path, named) in [
        (folder.join("nowhere.toml"), "No such file"),
        (folder.clone(), "Is a directory"),
    ] {
        let outcome = check(&path, &[]);
        assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("cannot be read"), "{outcome:?}");
        assert!(outcome.stderr.contains(named), "{outcome:?}");
    }
    std::fs::write(file.path(), [0xff, 0xfe, 0x00]).unwrap();
    let outcome = check(&file.path(), &[]);
    assert!(outcome.stderr.contains("UTF-8"), "{outcome:?}");
}

#[test]
fn ten_thousand_servers_are_published_and_taken_back() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let mut text = String::from("[gateway]\nwan = [\"wan\"]\n");
    for number in 0..10_000 {
        let (high, low) = (number / 250, number % 250 + 1);
        let _ = write!(
            text,
            "[[publish]]\npublic = \"203.0.{high}.{low}:21\"\nserver = \"10.0.0.{}:{}\"\n",
            number % 200 + 2,
            number + 30_000
        );
    }
    text.push_str("[[publish]]\npublic = \"198.51.100.1:21\"\nserver = \"10.0.0.5:21\"\n");
    let file = ConfigFile::new(&text);
    let checked = check(&file.path(), &[]);
    assert!(checked.success(), "{checked:?}");
    println!("checked in {:?}", checked.took);
    let gateway = file.run(&lab);
    println!("{}", gateway.log());
    assert!(
        gateway.log().contains("10001 published"),
        "{}",
        gateway.log()
    );
    assert!(
        gateway
            .log()
            .contains("and 9995 more are no addresses of this machine")
    );
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    file.write(crate::ONE_SERVER);
    let reload = gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    println!("reloaded in {:?}", reload.took);
    assert!(reload.text().contains("10000 changes"), "{}", reload.text());
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    file.write(&text);
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    let status = gateway.json(&["status"]).unwrap();
    let published = status["gateways"][0]["published"].as_array().unwrap();
    assert_eq!(published.len(), 10_001);
}
