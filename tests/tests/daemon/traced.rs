//! `ftp-nat trace`: each packet with its verdict and the reason, and nothing of it left behind.

use std::fs;

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::{Lab, Plan},
    process::Running,
    scratch::Scratch,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd, wait_for};

/// A trace that runs, with what it prints in a file.
struct Trace {
    running: Running,
    out: Scratch,
}

impl Trace {
    fn start(gateway: &Gateway<'_>, lab: &Lab, words: &[&str]) -> Self {
        let out = Scratch::new().unwrap();
        let trace = gateway.command(&[&["trace"], words].concat()).unwrap();
        let mut command = lab.router.command("sh").unwrap();
        command
            .args(["-c", "exec \"$0\" \"$@\" >\"$OUT\""])
            .arg(trace.get_program())
            .env("OUT", out.path().join("out"));
        // Behind the program that enters the namespace, if there is one.
        command.args(trace.get_args());
        let running = Running::start(&mut command).unwrap();
        wait_for("the traced stations", || is_traced(gateway).then_some(()));
        Self { running, out }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.out.path().join("out")).unwrap()
    }

    fn packets(&self) -> Vec<Value> {
        let text = self.text();
        // The last line may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Whether traced programs are in the places of the gateway's own.
fn is_traced(gateway: &Gateway<'_>) -> bool {
    let status = gateway.json(&["status"]).unwrap();
    status["gateways"][0]["traced"].as_bool().unwrap()
}

#[test]
fn a_transfer_is_told_packet_by_packet_with_its_reasons_and_no_password() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let peer = lab.outside[0].v4.to_string();
    let mut trace = Trace::start(&gateway, &lab, &["--json", "--peer", &peer]);
    let mut control = Control::log_in(&lab.outside[0], &server.target_at(PUBLIC)).unwrap();
    control.command("PASS hush").unwrap();
    let public = control.announce("PASV").unwrap();
    let mut other = Control::log_in(&lab.outside[1], &server.target_at(PUBLIC)).unwrap();
    assert_eq!(
        other.fetch(&lab.outside[1], "EPSV", SMALL).unwrap(),
        CONTENT
    );
    // Announced to the first: from the second it is denied.
    drop(control::connect(&lab.outside[1], public));
    let data = control::connect(&lab.outside[0], public).unwrap();
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    let packets = wait_for("the end of the transfer", || {
        let packets = trace.packets();
        let ends = packets.iter().any(|it| {
            it["flow"]["kind"] == "passive"
                && it["flags"].as_array().unwrap().contains(&"FIN".into())
        });
        ends.then_some(packets)
    });
    for packet in &packets {
        assert!(
            packet["source"] == peer.as_str() || packet["destination"] == peer.as_str(),
            "{packet:#}"
        );
    }
    let with_reason = |value: &str| {
        let has = |it: &&Value| {
            it["reasons"]
                .as_array()
                .unwrap()
                .iter()
                .any(|reason| reason["value"] == value)
        };
        packets
            .iter()
            .find(has)
            .unwrap_or_else(|| panic!("no packet with {value}"))
    };
    let reply = with_reason("227");
    assert_eq!(reply["text"], "227 ", "{reply:#}");
    assert_eq!(reply["verdict"], "redirected", "{reply:#}");
    assert_eq!(reply["hook"], "lan_ingress", "{reply:#}");
    let opened = packets
        .iter()
        .find(|it| it["flags"] == serde_json::json!(["SYN"]))
        .unwrap();
    assert_eq!(opened["destination_port"], 21, "{opened:#}");
    let data = packets
        .iter()
        .find(|it| it["flow"]["kind"] == "passive")
        .unwrap();
    assert!(data["flow"]["out_ifindex"].as_u64().is_some(), "{data:#}");
    let texts: Vec<_> = packets
        .iter()
        .filter_map(|it| it["text"].as_str())
        .collect();
    assert!(
        texts.contains(&"PASS") && texts.contains(&"PASV"),
        "{texts:?}"
    );
    assert!(!trace.text().contains("hush"), "{}", trace.text());

    // At its end the stations are the gateway's own again.
    trace.running.signal(Signal::INT).unwrap();
    wait_for("its end", || {
        (!trace.running.is_alive().unwrap()).then_some(())
    });
    assert!(!is_traced(&gateway));
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
}

#[test]
fn a_session_is_told_in_words_and_a_killed_trace_leaves_nothing() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let mut gateway = file.run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let mut second = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let sessions = gateway.json(&["sessions"]).unwrap();
    let number = sessions[0]["session"].as_str().unwrap().to_owned();
    let trace = Trace::start(&gateway, &lab, &["--session", &number]);
    control.command("NOOP").unwrap();
    second.command("STAT").unwrap();
    control.command("PORT 203,0,113,9,200,1").unwrap();
    let text = wait_for("the denial", || {
        let text = trace.text();
        text.contains("denied bounce: ").then_some(text)
    });
    assert!(
        text.contains(&format!("control of session {number}, packet ")),
        "{text}"
    );
    assert!(
        text.contains("\"NOOP..\"") && !text.contains("STAT"),
        "{text}"
    );
    // Another one does not mix with it.
    let outcome = gateway.ask(&["trace"]).unwrap();
    assert!(
        outcome
            .stderr
            .contains("another process traces wan already"),
        "{outcome:?}"
    );

    trace.running.signal(Signal::KILL).unwrap();
    wait_for("the guard", || (!is_traced(&gateway)).then_some(()));
    control.command("NOOP").unwrap();
    // A daemon that starts loads its own, and the trace ends.
    let mut trace = Trace::start(&gateway, &lab, &[]);
    gateway.restart().unwrap();
    wait_for("its end", || {
        (!trace.running.is_alive().unwrap()).then_some(())
    });
    assert!(
        trace.running.log().contains("were loaded anew"),
        "{}",
        trace.running.log()
    );
    control.command("NOOP").unwrap();
}
