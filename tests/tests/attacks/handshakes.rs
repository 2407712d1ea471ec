//! Handshakes that nobody finishes, or only pretends to: they take no room from anybody else.

use std::net::Ipv4Addr;

use ftp_nat_tests::attack::raw_client::RawClient;
use ftp_nat_tests::attack::segment::{ACK, Checksum, FIN, PSH, RST, SYN, Segment};

use super::*;

/// As many as there is room for sessions.
const SESSIONS: u32 = 32_768;

/// An invented source: of 100.64.0.0/10, each number another.
pub(super) fn invented(number: u32) -> SocketAddr {
    let address = u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number;
    let port = 1024 + (number.wrapping_mul(40_503) >> 3) % 60_000;
    (Ipv4Addr::from(address), port as u16).into()
}

/// One source with many ports.
pub(super) fn one_source(number: u32) -> SocketAddr {
    let address = u32::from(Ipv4Addr::new(100, 64, 0, 1)) + number / 60_000;
    (Ipv4Addr::from(address), (1024 + number % 60_000) as u16).into()
}

/// The SYN of a source.
pub(super) fn syn(from: SocketAddr, number: u32) -> Segment {
    Segment::syn(from, PUBLIC, number.wrapping_mul(0x9e37_79b9))
}

/// What follows the SYN of a source: its number is right, the acknowledged one a guess.
pub(super) fn then(from: SocketAddr, number: u32, flags: u8) -> Segment {
    let seq = number.wrapping_mul(0x9e37_79b9).wrapping_add(1);
    Segment::new(from, PUBLIC, flags, seq, number.wrapping_mul(31))
}

/// Sends what `packets` makes of each of so many numbers.
fn send_all(wire: &Wire, number: u32, packets: impl Fn(u32) -> Vec<Segment>) {
    for first in (0..number).step_by(4096) {
        let frames: Vec<_> = (first..number.min(first + 4096))
            .flat_map(&packets)
            .map(|segment| wire.frame(&segment.packet()))
            .collect();
        wire.send_frames(&frames).unwrap();
    }
}

/// That a client that comes now is served, and the one that was there too.
fn find_room(lab: &Lab, server: &FtpServer, old: &mut Control, why: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut new =
        Control::log_in(client(lab), &server.target_at(PUBLIC)).context("a new client")?;
    fetch(lab, &mut new).context("a new client")?;
    println!(
        "{why}: a new client was served after {:.2?}",
        start.elapsed()
    );
    fetch(lab, old).context("an old session")
}

/// What a source sends, by its number.
type Half = fn(u32, SocketAddr) -> Vec<Segment>;

/// The kinds of half a handshake: what each of many sources sends.
const KINDS: [(&str, Half); 8] = [
    ("SYN", |n, from| vec![syn(from, n)]),
    ("SYN, then ACK with a wrong checksum", |n, from| {
        let segment = Segment {
            checksum: Checksum::Wrong(0x5555),
            ..then(from, n, ACK)
        };
        vec![syn(from, n), segment]
    }),
    ("SYN, then ACK of a guessed number", |n, from| {
        vec![syn(from, n), then(from, n, ACK)]
    }),
    ("SYN, then a line with a guessed number", |n, from| {
        vec![
            syn(from, n),
            then(from, n, PSH | ACK).with("USER anonymous\r\n"),
        ]
    }),
    ("SYN, then RST with another number", |n, from| {
        let rst = Segment {
            seq: n,
            ..then(from, n, RST)
        };
        vec![syn(from, n), rst]
    }),
    ("SYN+ACK", |n, from| vec![then(from, n, SYN | ACK)]),
    ("SYN+FIN", |n, from| vec![then(from, n, SYN | FIN)]),
    ("ACK, FIN and a line without SYN", |n, from| {
        vec![
            then(from, n, ACK),
            then(from, n, FIN | ACK),
            then(from, n, PSH | ACK).with("PASV\r\n"),
        ]
    }),
];

/// All kinds, one after the other, from these sources; after each there is room for others.
fn assert_no_kind_takes_room(source: fn(u32) -> SocketAddr) {
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut old = log_in(&lab, &server);
    let mut failures = Failures::default();
    for (at, (name, kind)) in KINDS.into_iter().enumerate() {
        // Other sources each time: nobody pays for what another kind left.
        let first = at as u32 * 40_000;
        send_all(&wire, SESSIONS + 232, |n| {
            let n = first + n;
            kind(n, source(n))
        });
        failures.note(name, find_room(&lab, &server, &mut old, name));
        // The two legitimate clients', perhaps one that is just ending for each kind.
        let sessions = publisher.count("sessions").unwrap_or_default();
        if sessions > 2 + KINDS.len() {
            failures.note(name, Err(anyhow::anyhow!("{sessions} sessions were made")));
        }
    }
    failures.assert_none();
}

#[test]
fn half_handshakes_of_invented_sources_take_no_room() {
    assert_no_kind_takes_room(invented);
}

#[test]
fn half_handshakes_of_one_source_take_no_room() {
    assert_no_kind_takes_room(one_source);
}

#[test]
fn a_slow_trickle_of_syns_keeps_nobody_out() {
    // 550 a second were enough to keep a table full whose entries live for a minute.
    let lab = lab();
    let server = vsftpd(&lab);
    let _publisher = publish(&lab, &["--max-sessions", "512"]);
    let wire = attackers_wire(&lab);
    let mut old = log_in(&lab, &server);
    send_all(&wire, 600, |n| vec![syn(invented(n), n)]);
    let flood = ftp_nat_tests::attack::flood::Flood::start(wire, 550, |n| {
        let n = 1000 + n as u32;
        syn(invented(n), n).packet()
    });
    for _ in 0..5 {
        thread::sleep(Duration::from_secs(1));
        find_room(&lab, &server, &mut old, "while they come").unwrap();
    }
    let sent = flood.stop().unwrap();
    println!("{:.0} SYNs a second", sent.rate());
    assert!(sent.rate() > 400.0, "{sent:?}");
}

#[test]
fn a_server_that_answers_what_it_does_not_take_finishes_no_handshake() {
    // A listening Linux answers a segment outside its window with an acknowledgement, before the
    // handshake is finished (tcp_check_req, RFC 9293 section 3.10.7.4).
    let lab = lab();
    let server = vsftpd(&lab);
    // Otherwise a listener under a flood has no handshakes of its own at all.
    lab.server()
        .namespace
        .sysctl("net.ipv4.tcp_syncookies", "0")
        .unwrap();
    let publisher = publish(&lab, &[]);
    let wire = attackers_wire(&lab);
    let mut old = log_in(&lab, &server);
    for number in 0..16 {
        let from = invented(900_000 + number);
        wire.send(&syn(from, number)).unwrap();
        settle();
        let segment = then(from, number, ACK);
        for away in [1 << 20, 1 << 30] {
            wire.send(&Segment {
                seq: segment.seq.wrapping_add(away),
                ..segment.clone()
            })
            .unwrap();
            settle();
        }
    }
    publisher.assert_count("sessions", 1);
    find_room(&lab, &server, &mut old, "afterwards").unwrap();
}

#[test]
fn a_client_far_away_finishes_its_handshake_beside_a_flood() {
    // Half a second from here to there and back: a satellite.
    const AWAY: Duration = Duration::from_millis(500);
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &[]);
    let flood = ftp_nat_tests::attack::flood::Flood::start(attackers_wire(&lab), 50_000, |n| {
        let n = (n % (1 << 21)) as u32;
        syn(invented(n), n).packet()
    });
    thread::sleep(Duration::from_secs(1));
    let mut failures = Failures::default();
    for number in 0..5 {
        let own = invented((1 << 21) + number);
        let mut far = RawClient::new(&lab, attacker(&lab), own, PUBLIC).unwrap();
        let limit = Duration::from_secs(10);
        let talk = far.begin(b"", limit).and_then(|()| {
            thread::sleep(AWAY);
            far.finish()?;
            far.hear("220", limit).context("the greeting")?;
            far.say(b"USER anonymous\r\n")?;
            far.hear("", limit).context("the answer")
        });
        failures.note(&format!("client {number}"), talk.map(drop));
    }
    let sent = flood.stop().unwrap();
    println!("{:.0} SYNs a second", sent.rate());
    failures.assert_none();
    drop((server, publisher));
}
