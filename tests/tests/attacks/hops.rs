//! A decoy whose time to live ends behind the gateway and before its receiver: the gateway reads it, and
//! its receiver does not. The PORT for a third host that follows with the same numbers does not get there
//! either.

use ftp_nat_tests::{
    attack::segment::{ACK, PSH, Segment},
    behind,
    lab::WAN_ADDRESS_V6,
};

use super::{recorder::Recorder, smuggling::assert_unheard, *};

/// Enough for the gateway and not for the router behind it, of which [`behind::behind`] makes one.
const DIES_BEHIND: u8 = 2;

/// Where a server is that stands behind a further router.
struct Distant {
    server: Recorder,
    /// Where its client dials it.
    public: SocketAddr,
}

/// A session in which the client sends a decoy of this time to live and then the line with the same
/// numbers; the session, and what the server hears of both.
fn decoy_and(
    wire: &Wire,
    near: &Host,
    distant: &Distant,
    ttl: u8,
    line: &str,
) -> (Control, Vec<u8>) {
    let mut control = Control::connect(near, distant.public).unwrap();
    control.command("USER x").unwrap();
    distant.server.heard();
    let (seq, ack) = numbers::next(control.stream()).unwrap();
    let own = control.local_address().unwrap();
    let options = timestamp_options(numbers::timestamp(control.stream()).unwrap());
    let text = format!("NOOP {}\r\n", "x".repeat(line.len() - 7));
    let decoy = Segment {
        ttl,
        options,
        ..Segment::new(own, distant.public, PSH | ACK, seq, ack).with(text)
    };
    wire.send(&decoy).unwrap();
    settle();
    // The connection's own socket knows nothing of the decoy.
    control.send(line).unwrap();
    thread::sleep(Duration::from_millis(500));
    (control, distant.server.heard())
}

/// The lines that ask for a connection to the attacker's accomplice.
fn lines() -> [String; 2] {
    [
        "PORT 198,51,100,21,195,80\r\n".to_owned(),
        "EPRT |1|198.51.100.21|50000|\r\n".to_owned(),
    ]
}

/// No decoy from `near` makes the server hear a PORT; one that reaches it is what it hears.
fn assert_no_port_is_heard(case: &str, wire: &Wire, near: &Host, distant: &Distant) {
    let mut failures = Failures::default();
    for line in lines() {
        let (_, heard) = decoy_and(wire, near, distant, DIES_BEHIND, &line);
        failures.note(&format!("{case}, {line:?}"), assert_unheard(&heard));
    }
    // A decoy that the server gets is what it hears; what comes after it gets there too.
    let (mut control, heard) = decoy_and(wire, near, distant, DIES_BEHIND + 1, "STAT /xxx\r\n");
    let heard = String::from_utf8_lossy(&heard);
    assert_eq!(heard, "NOOP xxxx\r\n", "{case}");
    // The decoy's own answer.
    control.expect("200").unwrap();
    for _ in 0..3 {
        let reply = control.command("SYST").unwrap();
        assert!(reply.starts_with("200"), "{case}: {reply}");
    }
    let heard = distant.server.heard();
    assert_eq!(heard, b"SYST\r\n".repeat(3), "{case}");
    failures.assert_none();
}

#[test]
fn a_decoy_that_dies_behind_the_gateway_hides_no_port() {
    needs_judgement_of_ports();
    let lab = lab();
    let host = behind::behind(lab.server()).unwrap();
    lab.router
        .ip(&format!(
            "route add 192.168.77.0/24 via {}\nroute add fd00:77::/64 via {}",
            lab.server().v4,
            lab.server().v6
        ))
        .unwrap();
    let distant = [
        (host.at(21), PUBLIC),
        ((host.v6, 21).into(), (WAN_ADDRESS_V6, 21).into()),
    ]
    .map(|(at, public)| Distant {
        server: Recorder::start_at(&host, at, false),
        public,
    });
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    for datapath in ["redirect", "stack"] {
        let run = [
            "--wan",
            "wan",
            "--datapath",
            datapath,
            "--publish",
            "198.51.100.1:21=192.168.77.2:21",
            "--publish",
            "[2001:db8:1::1]:21=[fd00:77::2]:21",
        ];
        let gateway = Gateway::start(&lab.router, &run).unwrap();
        for distant in &distant {
            let case = format!("{datapath}, {}", distant.public);
            assert_no_port_is_heard(&case, &wire, client(&lab), distant);
        }
        drop(gateway);
    }
}

#[test]
fn a_masqueraded_clients_decoy_that_dies_on_its_way_hides_no_port() {
    needs_judgement_of_ports();
    let lab = lab();
    let host = behind::behind(client(&lab)).unwrap();
    lab.router
        .ip(&format!(
            "route add 192.168.77.0/24 via {}",
            client(&lab).v4
        ))
        .unwrap();
    let _publisher = guests::masquerade(&lab, &[]);
    let wire = Wire::from_inside(&lab, neighbour(&lab)).unwrap();
    let distant = Distant {
        server: Recorder::start(&host, 21, false),
        public: host.at(21),
    };
    assert_no_port_is_heard("masqueraded", &wire, neighbour(&lab), &distant);
}
