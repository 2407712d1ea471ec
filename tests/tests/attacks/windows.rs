//! Segments whose numbers TCP itself would not believe: RFC 9293 section 3.10.7.4, RFC 5961.
//! A control connection goes on as if they had never been.

use ftp_nat_tests::attack::segment::{ACK, Checksum, FIN, PSH, RST, SYN, Segment, URG};

use super::*;

/// Far outside any window.
const FAR: i64 = 1 << 30;

/// What is sent: name, flags, how far its own number and its acknowledgement are from the right
/// ones, text.
type Case = (&'static str, u8, i64, i64, &'static [u8]);

const CASES: [Case; 16] = [
    ("SYN+ACK, ahead", SYN | ACK, FAR, 0, b""),
    ("SYN+ACK, behind", SYN | ACK, -FAR, 0, b""),
    ("text ahead", PSH | ACK, FAR, 0, b"NOOP\r\n"),
    ("text behind", PSH | ACK, -FAR, 0, b"NOOP\r\n"),
    (
        "text half the numbers away",
        PSH | ACK,
        1 << 31,
        0,
        b"NOOP\r\n",
    ),
    (
        "text just beyond the window",
        PSH | ACK,
        10_000_000,
        0,
        b"NOOP\r\n",
    ),
    (
        "text that acknowledges what was never sent",
        PSH | ACK,
        0,
        FAR,
        b"QUIT\r\n",
    ),
    (
        "text that acknowledges what is long past",
        PSH | ACK,
        0,
        -FAR,
        b"QUIT\r\n",
    ),
    ("text without ACK", PSH, 0, 0, b"QUIT\r\n"),
    ("no flags at all", 0, 0, 0, b"QUIT\r\n"),
    ("FIN ahead", FIN | ACK, FAR, 0, b""),
    ("FIN behind", FIN | ACK, -FAR, 0, b""),
    ("FIN without ACK", FIN, 0, 0, b""),
    ("RST ahead", RST, FAR, 0, b""),
    ("ACK of what was never sent", ACK, 0, FAR, b""),
    (
        "everything at once, ahead",
        FIN | SYN | RST | PSH | ACK | URG,
        FAR,
        FAR,
        b"QUIT\r\n",
    ),
];

/// Each case in a session of its own, sent by `send`; then the session is used as ever.
fn assert_harmless(lab: &Lab, server: &FtpServer, send: impl Fn(&Known, &Case)) {
    let mut failures = Failures::default();
    for case in &CASES {
        let mut control = log_in(lab, server);
        send(&Known::of(&control), case);
        settle();
        failures.note(case.0, use_session(lab, &mut control));
    }
    failures.assert_none();
}

#[test]
fn a_segment_outside_the_window_changes_nothing() {
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    assert_harmless(&lab, &server, |known, &(_, flags, seq, ack, text)| {
        let segment = known.as_client(flags, seq, ack).with(text);
        wire.send(&segment).unwrap();
    });
}

#[test]
fn a_forged_answer_outside_the_window_changes_nothing() {
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_inside(&lab, neighbour(&lab)).unwrap();
    assert_harmless(&lab, &server, |known, &(_, flags, seq, ack, text)| {
        let text = if text.is_empty() {
            text
        } else {
            b"421 Bye.\r\n"
        };
        let segment = known.as_server(&lab, flags, seq, ack).with(text);
        wire.send(&segment).unwrap();
    });
}

#[test]
fn text_ahead_of_the_window_changes_nothing_when_it_is_repeated_for_half_a_minute() {
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut control = log_in(&lab, &server);
    let known = Known::of(&control);
    let ahead = known.as_client(PSH | ACK, FAR, 0).with("NOOP\r\n");
    for _ in 0..3 {
        wire.send(&ahead).unwrap();
        thread::sleep(Duration::from_secs(11));
    }
    use_session(&lab, &mut control).unwrap();
}

#[test]
fn text_within_the_window_that_never_becomes_whole_deafens_nobody() {
    // The attacker has guessed a number within the window, which a flood of 2^16 packets can. TCP
    // itself keeps such text; the gap in front of it is never filled with what fits it.
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut control = log_in(&lab, &server);
    let known = Known::of(&control);
    for round in 0..3 {
        let ahead = known.as_client(PSH | ACK, 20_000 + round, 0).with("x");
        wire.send(&ahead).unwrap();
        thread::sleep(Duration::from_millis(500));
    }
    use_session(&lab, &mut control).unwrap();
}

/// A packet that no host takes, made of one that it would.
type Odd = fn(Segment) -> Vec<Vec<u8>>;

#[test]
fn a_packet_that_no_host_takes_changes_nothing() {
    // With the right numbers: only their form is wrong.
    let odd: [(&str, Odd); 12] = [
        ("from port 0", |mut it| {
            it.from.set_port(0);
            vec![it.packet()]
        }),
        ("to itself", |mut it| {
            it.from = it.to;
            vec![it.packet()]
        }),
        ("from everybody", |mut it| {
            it.from.set_ip([255, 255, 255, 255].into());
            vec![it.packet()]
        }),
        ("from the network", |mut it| {
            it.from.set_ip([198, 51, 100, 255].into());
            vec![it.packet()]
        }),
        ("to everybody", |mut it| {
            it.to.set_ip([198, 51, 100, 255].into());
            vec![it.packet()]
        }),
        ("a time to live of 1", |mut it| {
            it.ttl = 1;
            vec![it.packet()]
        }),
        ("a wrong checksum", |mut it| {
            it.checksum = Checksum::Wrong(1);
            vec![it.packet()]
        }),
        ("a header that is too short", |it| {
            let mut packet = it.packet();
            packet[0] = 0x44;
            vec![packet]
        }),
        ("a packet longer than it is", |it| {
            let mut packet = it.packet();
            packet[2] = 0x40;
            vec![packet]
        }),
        ("a TCP header beyond the end", |it| {
            let mut packet = it.packet();
            packet[32] = 0xf0;
            vec![packet]
        }),
        ("tiny fragments", |it| it.fragments(8, 7)),
        ("fragments over each other", |it| {
            let mut pieces = it.fragments(24, 8);
            pieces.extend(it.fragments(16, 8));
            pieces
        }),
    ];
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut failures = Failures::default();
    for (name, make) in odd {
        for (flags, text) in [(PSH | ACK, "QUIT\r\n"), (RST | ACK, ""), (SYN, "")] {
            let mut control = log_in(&lab, &server);
            for packet in make(Known::of(&control).as_client(flags, 0, 0).with(text)) {
                wire.send_packet(&packet).unwrap();
            }
            settle();
            failures.note(
                &format!("{name}, {flags:x}"),
                use_session(&lab, &mut control),
            );
        }
    }
    failures.assert_none();
}

#[test]
fn a_blind_sweep_over_all_windows_changes_nothing() {
    // Without any knowledge of the numbers: every 64 KiB one segment, of each kind.
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut failures = Failures::default();
    for (name, flags) in [("SYN+ACK", SYN | ACK), ("ACK", ACK), ("FIN", FIN | ACK)] {
        let mut control = log_in(&lab, &server);
        let client = control.local_address().unwrap();
        let right = Known::of(&control).seq;
        let frames: Vec<_> = (0..1_u32 << 16)
            .map(|step| step << 16 | 1)
            // A segment that happens to be right would be the client's own.
            .filter(|seq| right.wrapping_sub(*seq).wrapping_add(1 << 20) > 1 << 21)
            .map(|seq| {
                let segment = Segment::new(client, PUBLIC, flags, seq, seq.wrapping_mul(7));
                wire.frame(&segment.packet())
            })
            .collect();
        wire.send_frames(&frames).unwrap();
        settle();
        failures.note(name, use_session(&lab, &mut control));
    }
    failures.assert_none();
}
