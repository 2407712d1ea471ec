//! What the commands show, while a transfer runs, and without a daemon.

use std::io::Read as _;

use ftp_nat_tests::{
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::Lab,
};
use serde_json::{Value, json};

use crate::{PUBLIC, RUN, kernel, vsftpd, wait_for};

const SIZE: usize = 32 << 20;
/// What is read of the file before the commands are asked.
const PART: usize = 8 << 20;

/// That all `fields` of `shown` have these values.
#[track_caller]
fn assert_shows(shown: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name} in {shown:#}");
    }
}

/// The only row.
#[track_caller]
fn one(shown: &Value) -> &Value {
    let rows = shown.as_array().unwrap();
    assert_eq!(rows.len(), 1, "{shown:#}");
    &rows[0]
}

/// A number of `metrics --json`.
#[track_caller]
fn metric(families: &Value, name: &str, labels: &Value) -> f64 {
    families
        .as_array()
        .unwrap()
        .iter()
        .filter(|family| family["name"] == name)
        .flat_map(|family| family["samples"].as_array().unwrap())
        .find(|sample| &sample["labels"] == labels)
        .unwrap_or_else(|| panic!("there is no {name} {labels}"))["value"]
        .as_f64()
        .unwrap()
}

#[test]
fn commands_show_a_transfer_as_it_is_with_a_daemon_and_without() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(&lab);
    server.offer("large.bin", vec![7; SIZE]).unwrap();
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let control_port = control.local_address().unwrap().port();
    let address = control.announce("PASV").unwrap();
    shows_the_mapping(&gateway, address.port());

    let mut data = control::connect(lab.client(), address).unwrap();
    let data_port = data.local_addr().unwrap().port();
    // The kernel makes larger ones by itself, where the whole file would have room.
    socket2::SockRef::from(&data)
        .set_recv_buffer_size(PART / 8)
        .unwrap();
    control.send("RETR /download/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    data.read_exact(&mut vec![0; PART]).unwrap();
    assert_eq!(gateway.json(&["mappings"]).unwrap(), json!([]));
    // Twice: what is shown comes from the kernel's maps, whether the daemon runs or not.
    for daemon in [gateway.pid(), None] {
        shows_the_session(&gateway, control_port);
        shows_the_flows(&gateway, control_port, data_port, address.port());
        shows_the_status(&gateway, &lab, daemon);
        shows_the_metrics(&gateway);
        for command in ["status", "sessions", "mappings", "flows"] {
            let text = gateway.ask(&[command]).unwrap().expect_success().unwrap();
            assert!(!text.stdout.is_empty(), "{command}");
        }
        if daemon.is_some() {
            gateway.kill().unwrap();
        }
    }
    assert_eq!(control::read_all(&data).unwrap().len(), SIZE - PART);
    control.expect("226").unwrap();
    drop(data);
    // Both ends have closed, and nobody sweeps.
    let flow = wait_for("the data connection's end", || {
        let flows = gateway.json(&["flows", "--all"]).unwrap();
        let flows = flows.as_array().unwrap();
        let data = flows.iter().find(|flow| flow["kind"] == "passive")?;
        (data["state"] == "closed").then(|| data.clone())
    });
    let sent = flow["outbound"]["bytes"].as_u64().unwrap() as usize;
    assert!(sent > SIZE && sent < SIZE + SIZE / 10, "{sent}");

    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    for command in ["status", "sessions", "mappings", "flows", "metrics"] {
        for words in [&[command][..], &[command, "--json"]] {
            let outcome = gateway.ask(words).unwrap();
            assert_eq!(outcome.status.unwrap().code(), Some(3), "{outcome:?}");
            assert_eq!(outcome.text(), "");
            assert!(
                outcome.stderr.contains("no gateway is loaded"),
                "{outcome:?}"
            );
        }
    }
}

fn shows_the_mapping(gateway: &Gateway<'_>, port: u16) {
    let shown = gateway.json(&["mappings"]).unwrap();
    let mapping = one(&shown);
    assert_shows(
        mapping,
        &json!({
            "gateway": "wan",
            "kind": "passive",
            "peer": "198.51.100.20",
            "peer_port": null,
            "public": "198.51.100.1",
            "public_port": port,
            "inside": "10.0.0.5",
            "inside_port": port,
        }),
    );
    let left = mapping["expires_in"].as_f64().unwrap();
    assert!(left > 30.0 && left <= 60.0, "{left}");
}

fn shows_the_session(gateway: &Gateway<'_>, control_port: u16) {
    let shown = gateway.json(&["sessions"]).unwrap();
    let session = one(&shown);
    assert_shows(
        session,
        &json!({
            "gateway": "wan",
            "role": "publish",
            "client": "198.51.100.20",
            "client_port": control_port,
            "public": "198.51.100.1",
            "public_port": 21,
            "server": "10.0.0.5",
            "server_port": 21,
            "advertise": "198.51.100.1",
            "control_nat": "ebpf",
            "state": "established",
            "encrypted": false,
            "passive_commands": 1,
            "data_connections": 1,
        }),
    );
    assert!(session["bytes"].as_u64().unwrap() > PART as u64);
}

fn shows_the_flows(gateway: &Gateway<'_>, control_port: u16, data_port: u16, public_port: u16) {
    let flows = gateway.json(&["flows"]).unwrap();
    assert_eq!(flows.as_array().unwrap().len(), 2, "{flows:#}");
    let of_kind = |kind: &str| {
        let all = flows.as_array().unwrap().iter();
        all.clone().find(|flow| flow["kind"] == kind).unwrap()
    };
    let (control, data) = (of_kind("control"), of_kind("passive"));
    for (flow, outside_port, port) in [(control, control_port, 21), (data, data_port, public_port)]
    {
        assert_shows(
            flow,
            &json!({
                "gateway": "wan",
                "state": "established",
                "outside": "198.51.100.20",
                "outside_port": outside_port,
                "public": "198.51.100.1",
                "public_port": port,
                "inside": "10.0.0.5",
                "inside_port": port,
                "session": control["session"],
            }),
        );
        assert_eq!(flow["inbound"]["path"], "redirect");
        assert_eq!(flow["outbound"]["path"], "redirect");
    }
    let bytes = |flow: &Value, way: &str| flow[way]["bytes"].as_u64().unwrap() as usize;
    let sent = bytes(data, "outbound");
    assert!(sent > PART && sent < SIZE + SIZE / 10, "{sent}");
    // Acknowledgements only.
    assert!(bytes(data, "inbound") < PART / 4);
    assert!((100..10_000).contains(&bytes(control, "inbound")));
    assert!((100..10_000).contains(&bytes(control, "outbound")));
}

fn shows_the_status(gateway: &Gateway<'_>, lab: &Lab, daemon: Option<u32>) {
    let status = gateway.json(&["status"]).unwrap();
    let gateway = one(&status["gateways"]);
    assert_eq!(gateway["daemon"]["pid"], json!(daemon));
    assert_eq!(gateway["sessions"]["count"], 1);
    assert_eq!(gateway["mappings"]["count"], 0);
    assert_eq!(gateway["connections"]["ipv4"]["count"], 2);
    assert_eq!(gateway["connections"]["ipv6"]["count"], 0);
    assert_shows(
        one(&gateway["published"]),
        &json!({
            "public": "198.51.100.1",
            "public_port": 21,
            "server": "10.0.0.5",
            "server_port": 21,
            "advertise": "198.51.100.1",
            "control_nat": "ebpf",
            "local": false,
        }),
    );
    let programs = gateway["programs"].as_array().unwrap();
    // Two of the WAN, the server's interface, and the one by which clients on the gateway itself come.
    assert_eq!(programs.len(), 4);
    let hooks = kernel::attached(lab).join("\n");
    for program in programs {
        let (name, interface) = (&program["name"], &program["interface"]);
        let [name, interface] = [name, interface].map(|it| it.as_str().unwrap());
        let side = if interface == "lo" { "lan" } else { interface };
        assert!(name.starts_with(side), "{name} at {interface}");
        assert!(hooks.contains(name), "{hooks}");
        assert!(program["verified_instructions"].as_u64().unwrap() > 100);
    }
}

fn shows_the_metrics(gateway: &Gateway<'_>) {
    let families = gateway.json(&["metrics"]).unwrap();
    for (name, labels, value) in [
        ("ftp_nat_sessions_opened_total", json!({}), 1.0),
        (
            "ftp_nat_mappings_opened_total",
            json!({"kind": "passive"}),
            1.0,
        ),
        (
            "ftp_nat_mappings_used_total",
            json!({"kind": "passive"}),
            1.0,
        ),
        ("ftp_nat_rewritten_total", json!({"text": "227"}), 1.0),
        (
            "ftp_nat_denied_packets_total",
            json!({"reason": "unannounced"}),
            0.0,
        ),
    ] {
        assert_eq!(metric(&families, name, &labels), value, "{name}");
    }
    let by_redirect = json!({"path": "redirect"});
    let sent = metric(&families, "ftp_nat_outbound_bytes_total", &by_redirect);
    assert!(sent > PART as f64 && sent < SIZE as f64 * 1.1, "{sent}");

    let text = gateway.ask(&["metrics"]).unwrap().expect_success().unwrap();
    for line in [
        "# TYPE ftp_nat_mappings_opened_total counter",
        "ftp_nat_mappings_opened_total{kind=\"passive\"} 1",
        "ftp_nat_rewritten_total{text=\"227\"} 1",
    ] {
        let text = text.text();
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
}
