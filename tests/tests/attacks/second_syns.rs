//! A SYN for a connection that lives: RFC 5961 section 4. It changes nothing, whoever sent it.

use ftp_nat_tests::{
    attack::segment::{ACK, FIN, RST, SYN, SYN_OPTIONS, Segment},
    scripted::{Script, ScriptedServer},
};

use super::*;

/// A server whose 227 has no room: rewritten, it is longer, and later numbers are adjusted.
fn tight_server(lab: &Lab) -> ScriptedServer {
    let script = Script {
        pasv: "227 ({h},{p})\r\n".to_owned(),
        content: CONTENT.to_vec(),
        ..Script::default()
    };
    ScriptedServer::start(lab.server(), 21, script).unwrap()
}

#[test]
fn a_syn_for_a_live_connection_changes_nothing() {
    let lab = lab();
    let server = tight_server(&lab);
    let _publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let inside = Wire::from_inside(&lab, neighbour(&lab)).unwrap();
    let far = 1 << 30;
    let cases = [
        ("a random number", SYN, far),
        ("the next number", SYN, 0),
        ("a number within the window", SYN, 1000),
        ("with ACK", SYN | ACK, far),
        ("with ACK and the next number", SYN | ACK, 0),
        ("with FIN", SYN | FIN, far),
        ("with RST", SYN | RST, far),
    ];
    let mut failures = Failures::default();
    for (name, flags, seq) in cases {
        for from_inside in [false, true] {
            let why = format!("{name}, from inside: {from_inside}");
            let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
            fetch(&lab, &mut control).unwrap();
            let known = Known::of(&control);
            let segment = if from_inside {
                known.as_server(&lab, flags, seq, far)
            } else {
                known.as_client(flags, seq, far)
            };
            let segment = Segment {
                options: SYN_OPTIONS.to_vec(),
                ..segment
            };
            let wire = if from_inside { &inside } else { &outside };
            wire.send(&segment).unwrap();
            settle();
            failures.note(&why, use_scripted(&lab, &server, &mut control));
        }
    }
    failures.assert_none();
}

/// That the session is read: the client can fetch, and the server, which would take it, never
/// hears a PORT for a third host (unless the kernel's helper reads, which lets every PORT pass).
fn use_scripted(lab: &Lab, server: &ScriptedServer, control: &mut Control) -> anyhow::Result<()> {
    let [a, b, c, d] = attacker(lab).v4.octets();
    let port = format!("PORT {a},{b},{c},{d},195,80");
    if !attacks_kernel() {
        control.command(&port)?;
        ensure!(
            !server.commands().contains(&port),
            "the server hears a PORT for a third host"
        );
    }
    fetch(lab, control)
}

#[test]
fn syns_to_all_ports_that_a_client_may_have_hit_none_of_its_sessions() {
    let lab = lab();
    let server = tight_server(&lab);
    let publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut controls: Vec<_> = (0..3)
        .map(|_| Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap())
        .collect();
    for control in &mut controls {
        fetch(&lab, control).unwrap();
    }
    for flags in [SYN, SYN | ACK] {
        let frames: Vec<_> = (1024..=u16::MAX)
            .map(|port| {
                let from = client(&lab).at(port);
                let number = u32::from(port).wrapping_mul(0x9e37_79b9);
                wire.frame(&Segment::new(from, PUBLIC, flags, number, !number).packet())
            })
            .collect();
        wire.send_frames(&frames).unwrap();
        settle();
        for control in &mut controls {
            use_scripted(&lab, &server, control).unwrap();
        }
    }
    publisher.assert_count("sessions", controls.len());
}
