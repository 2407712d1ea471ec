//! The log as text, as JSON, and as the journal reads it.

use std::time::Duration;

use ftp_nat_tests::{
    gateway::START_LIMIT, lab::Lab, process::Running, scratch::PinFolder, tools::Tools,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, fetch, vsftpd, wait_for};

#[test]
fn with_json_every_line_is_an_object_and_events_have_their_fields() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run_with(&lab, &["--log-format", "json", "-v"]);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    let lines = wait_for("the connection's end", || {
        let log = gateway.log();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect();
        let is_end = |line: &Value| line["event"] == "ended" && line["kind"] == "passive";
        lines.iter().any(is_end).then_some(lines)
    });
    for line in &lines {
        for key in ["time", "level", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    let rewritten = lines
        .iter()
        .find(|line| line["event"] == "rewritten")
        .unwrap();
    assert_eq!(rewritten["level"], "debug");
    let opened = lines.iter().find(|line| line["event"] == "opened").unwrap();
    assert_eq!(opened["level"], "debug");
    assert_eq!(opened["cause"], "227");
    assert!(opened["public_port"].is_u64());
    let message = opened["message"].as_str().unwrap();
    assert!(message.contains("opened by 227"), "{message}");
    // At the usual level there is one line of a transfer: its end, which has all of it.
    let of_transfer = lines
        .iter()
        .filter(|line| line["level"] == "info" && line["kind"] == "passive");
    let of_transfer: Vec<_> = of_transfer.collect();
    let [ended] = of_transfer[..] else {
        panic!("{of_transfer:#?}");
    };
    assert_eq!(ended["event"], "ended");
    assert!(ended["outbound_bytes"].as_u64() > Some(0));
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
    command
        .args(["run", "--config", "/dev/null", "--wan", "wan", "--publish"])
        .args(["203.0.113.9:21=10.0.0.5:21", "--state-dir"])
        .arg(pins.path())
        .env("JOURNAL_STREAM", "8:12345");
    let mut daemon = Running::start(&mut command).unwrap();
    daemon.wait_for("ready", START_LIMIT).unwrap();
    let log = daemon.log();
    assert!(
        log.lines().any(|line| line.starts_with("<6>ready: ")),
        "{log}"
    );
    assert!(
        log.lines()
            .any(|line| line.starts_with("<4>203.0.113.9 is no address")),
        "{log}"
    );
    daemon.stop(Duration::from_secs(10)).unwrap();
}
