//! A client names an address that is no peer of anybody's: a link's, a group's, this machine's, the server's own.
//! No server hears it.

use ftp_nat_tests::lab::{LAN_ADDRESS, LAN_ADDRESS_V6, WAN_ADDRESS_V6};

use super::{recorder::Recorder, *};

/// Over IPv4, beside the lab's own.
const NOBODYS: [&str; 9] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.9.9.9",
    "169.254.7.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
];

/// Over IPv6.
const NOBODYS_V6: [&str; 8] = [
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.5",
    "::ffff:198.51.100.20",
    "fe80::1",
    "ff02::1",
    "ff0e::1",
];

/// That none of the lines reaches the server as it was said, and that its client goes on.
fn assert_none_is_heard(lab: &Lab, server: &Recorder, public: SocketAddr, lines: &[String]) {
    let mut failures = Failures::default();
    let mut control = Control::connect(client(lab), public).unwrap();
    control.command("USER x").unwrap();
    for line in lines {
        server.heard();
        control.send(format!("{line}\r\n")).unwrap();
        control.command("NOOP").unwrap();
        let heard = String::from_utf8_lossy(&server.heard()).into_owned();
        let is_spoilt = !heard.contains(line.as_str());
        failures.note(
            line,
            is_spoilt
                .then_some(())
                .ok_or_else(|| anyhow::anyhow!("the server hears {heard:?}")),
        );
    }
    failures.assert_none();
}

#[test]
fn no_address_that_is_nobodys_reaches_the_server() {
    needs_judgement_of_ports();
    let lab = lab();
    let v6 = ["--publish", "[2001:db8:1::1]:21=[fd00:10::5]:21"];
    let publisher = publish(&lab, &v6);
    let mut addresses: Vec<_> = NOBODYS.map(str::to_owned).to_vec();
    addresses.extend(
        [
            lab.server().v4,
            neighbour(&lab).v4,
            LAN_ADDRESS,
            WAN_ADDRESS,
        ]
        .map(|it| it.to_string()),
    );
    // A broadcast of either network.
    addresses.extend(["198.51.100.255", "10.0.0.255"].map(str::to_owned));
    let lines: Vec<_> = addresses
        .iter()
        .flat_map(|address| {
            let commas = address.replace('.', ",");
            [
                format!("PORT {commas},195,80"),
                format!("EPRT |1|{address}|50000|"),
                format!("LPRT 4,4,{commas},2,195,80"),
            ]
        })
        .collect();
    let server = Recorder::start(lab.server(), 21, false);
    assert_none_is_heard(&lab, &server, PUBLIC, &lines);

    let mut addresses: Vec<_> = NOBODYS_V6.map(str::to_owned).to_vec();
    addresses.extend(
        [
            lab.server().v6,
            neighbour(&lab).v6,
            LAN_ADDRESS_V6,
            WAN_ADDRESS_V6,
        ]
        .map(|it| it.to_string()),
    );
    let lines: Vec<_> = addresses
        .iter()
        .flat_map(|address| {
            [
                format!("EPRT |2|{address}|50000|"),
                format!("EPRT ||{address}|50000|"),
            ]
        })
        .collect();
    let server = Recorder::start_at(lab.server(), (lab.server().v6, 21).into(), false);
    assert_none_is_heard(&lab, &server, (WAN_ADDRESS_V6, 21).into(), &lines);
    publisher.assert_count("mappings", 0);
}
