//! Forged endings: a RST or a FIN that TCP does not take ends nothing, and one that it takes is
//! seen as such (RFC 5961 section 3).

use ftp_nat_tests::attack::segment::{ACK, FIN, PSH, RST, Segment};

use super::*;

/// Longer than the daemon gives a connection that was reset, or closed by both.
const SWEPT: Duration = Duration::from_secs(14);

#[test]
fn resets_with_numbers_a_megabyte_apart_end_no_idle_session() {
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let inside = Wire::from_inside(&lab, neighbour(&lab)).unwrap();
    let mut controls: Vec<_> = (0..4).map(|_| log_in(&lab, &server)).collect();
    for (at, flags) in [(0, RST), (1, RST | ACK), (2, RST)] {
        let known = Known::of(&controls[at]);
        for step in 1..4096_i64 {
            let (seq, ack) = (step << 20, step << 20);
            if at == 2 {
                let segment = known.as_server(&lab, flags, seq, ack);
                inside.send(&segment).unwrap();
            } else {
                outside.send(&known.as_client(flags, seq, ack)).unwrap();
            }
        }
    }
    // Near the right number, but not it: TCP asks whether it was meant (a challenge ACK).
    let known = Known::of(&controls[3]);
    for off in [-1, 1, 2, 100, 1000] {
        outside.send(&known.as_client(RST, off, 0)).unwrap();
    }
    thread::sleep(SWEPT);
    let mut failures = Failures::default();
    for (at, control) in controls.iter_mut().enumerate() {
        failures.note(&format!("session {at}"), use_session(&lab, control));
    }
    failures.assert_none();
}

#[test]
fn resets_with_numbers_a_megabyte_apart_end_no_idle_transfer() {
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let mut control = log_in(&lab, &server);
    let address = control.announce("PASV").unwrap();
    let data = ftp_nat_tests::control::connect(client(&lab), address).unwrap();
    let own = data.local_addr().unwrap();
    let (seq, _) = numbers::next(&data).unwrap();
    for step in 1..4096_i64 {
        let number = away(seq, step << 20);
        outside
            .send(&Segment::new(own, address, RST, number, 0))
            .unwrap();
    }
    thread::sleep(SWEPT);
    let content = control.fetch_over(&data, SMALL).unwrap();
    assert_eq!(content, CONTENT);
}

#[test]
fn a_session_ends_when_both_have_closed_whatever_was_forged_before() {
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let inside = Wire::from_inside(&lab, neighbour(&lab)).unwrap();
    let far = 1 << 30;
    for (name, from_inside, flags, seq, ack) in [
        (
            "an acknowledgement of what was never sent",
            false,
            ACK,
            0,
            far,
        ),
        (
            "an acknowledgement of what is long past",
            false,
            ACK,
            0,
            -far,
        ),
        ("text ahead", false, PSH | ACK, far, 0),
        (
            "an acknowledgement by the server of what was never sent",
            true,
            ACK,
            0,
            far,
        ),
        ("text of the server ahead", true, PSH | ACK, far, 0),
        ("a FIN ahead", false, FIN | ACK, far, 0),
        ("a FIN of the server ahead", true, FIN | ACK, far, 0),
    ] {
        let mut control = log_in(&lab, &server);
        let known = Known::of(&control);
        if from_inside {
            let segment = known.as_server(&lab, flags, seq, ack).with(text(flags));
            inside.send(&segment).unwrap();
        } else {
            let segment = known.as_client(flags, seq, ack).with(text(flags));
            outside.send(&segment).unwrap();
        }
        settle();
        let reply = control.command("QUIT");
        assert!(reply.is_ok_and(|reply| reply.starts_with("221")), "{name}");
    }
    wait_for("the end of all", SWEPT + Duration::from_secs(10), || {
        publisher
            .count("flows")
            .is_none_or(|count| count == 0)
            .then_some(())
    });
}

fn text(flags: u8) -> &'static [u8] {
    if flags & PSH == 0 { b"" } else { b"x" }
}

#[test]
fn the_clients_own_reset_ends_its_session() {
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let control = log_in(&lab, &server);
    publisher.assert_count("sessions", 1);
    // An end with unread bytes in it is a RST (RFC 2525, section 2.17).
    socket2::SockRef::from(control.stream())
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(control);
    wait_for("the end", 3 * SWEPT, || {
        publisher
            .count("sessions")
            .is_none_or(|count| count == 0)
            .then_some(())
    });
}

#[test]
fn a_reset_that_the_receiver_did_not_take_is_forgotten_by_what_comes_after() {
    // The exact number, but a checksum that the receiver refuses: the session goes on.
    use ftp_nat_tests::attack::segment::Checksum;
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut control = log_in(&lab, &server);
    let known = Known::of(&control);
    let segment = Segment {
        checksum: Checksum::Wrong(0x1234),
        ..known.as_client(RST, 0, 0)
    };
    wire.send(&segment).unwrap();
    settle();
    assert!(control.command("NOOP").unwrap().starts_with("200"));
    thread::sleep(SWEPT);
    use_session(&lab, &mut control).unwrap();
    publisher.assert_count("sessions", 1);
}

#[test]
fn resets_between_forged_acknowledgements_end_no_idle_transfer() {
    // The forged acknowledgements make the sender look busy.
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let outside = attackers_wire(&lab);
    let mut control = log_in(&lab, &server);
    let address = control.announce("PASV").unwrap();
    let data = ftp_nat_tests::control::connect(client(&lab), address).unwrap();
    let own = data.local_addr().unwrap();
    let (seq, _) = numbers::next(&data).unwrap();
    thread::sleep(Duration::from_secs(2));
    for flags in [RST, RST | ACK, FIN | ACK] {
        for step in 1..4096_i64 {
            let number = away(seq, step << 20);
            let busy = Segment::new(own, address, ACK, number, number);
            outside.send(&busy).unwrap();
            outside
                .send(&Segment::new(own, address, flags, number, number))
                .unwrap();
        }
    }
    thread::sleep(SWEPT);
    let content = control.fetch_over(&data, SMALL).unwrap();
    assert_eq!(content, CONTENT);
}
