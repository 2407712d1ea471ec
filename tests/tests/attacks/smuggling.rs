//! A PORT for a third host, written so that the gateway reads something else than a server might:
//! no server hears it, however it reads.

use std::net::TcpStream;

use ftp_nat_tests::attack::segment::{ACK, Checksum, PSH, Segment, URG};

use ftp_nat_tests::attack::raw_client::RawClient;

use super::{recorder::Recorder, *};

/// What remains of a client's bytes for a server, in lines that end with LF.
type Reading = fn(&[u8]) -> Vec<u8>;

/// What a server that reads like this hears: each of these has been seen in the field.
const READINGS: [(&str, Reading); 5] = [
    ("as it is", <[u8]>::to_vec),
    ("a bare CR ends a line", |heard| {
        heard
            .iter()
            .map(|byte| if *byte == b'\r' { b'\n' } else { *byte })
            .collect()
    }),
    ("a bare CR is nothing", |heard| without(heard, b"\r")),
    ("a NUL is nothing", |heard| without(heard, b"\0")),
    ("a NUL ends a line", |heard| {
        heard
            .iter()
            .map(|byte| if *byte == 0 { b'\n' } else { *byte })
            .collect()
    }),
];

fn without(heard: &[u8], left_out: &[u8]) -> Vec<u8> {
    heard
        .iter()
        .copied()
        .filter(|byte| !left_out.contains(byte))
        .collect()
}

/// That by no reading a line asks for a connection to the attacker's accomplice. Of a line longer
/// than servers take (some cut it and read on) every part counts.
pub(super) fn assert_unheard(heard: &[u8]) -> anyhow::Result<()> {
    const LONG: usize = 100;
    for (name, reading) in READINGS {
        for line in reading(heard).split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(line).to_ascii_uppercase();
            let is_long = line.len() > LONG;
            for verb in ["PORT", "EPRT", "LPRT"] {
                for at in line.match_indices(verb).map(|(at, _)| at) {
                    let names = ["198,51,100,21", "198.51.100.21"]
                        .iter()
                        .any(|third| line[at..].contains(third));
                    let begins = line[..at].trim().is_empty() || is_long;
                    // PORTX is another word.
                    let ends = !line[at + verb.len()..].starts_with(char::is_alphabetic);
                    ensure!(
                        !(names && begins && ends),
                        "{name}: the server hears {:?}",
                        &line[at..]
                    );
                }
            }
        }
    }
    Ok(())
}

/// A way to write it: segments, each sent by a call of its own; those marked are urgent.
type Writing = Vec<(bool, Vec<u8>)>;

fn plain(segments: &[&[u8]]) -> Writing {
    segments
        .iter()
        .map(|segment| (false, segment.to_vec()))
        .collect()
}

/// The third host is the attacker's other machine, [`attacker`].
const PORT: &str = "PORT 198,51,100,21,195,80\r\n";

fn writings() -> Vec<(String, Writing)> {
    let mut all: Vec<(String, Writing)> = vec![
        (
            "a TLS record as a command, then in two pieces".to_owned(),
            plain(&[b"\x16\x03\r\n", b"PO", b"RT 198,51,100,21,195,80\r\n"]),
        ),
        (
            "a TLS record as a command, in the same segment".to_owned(),
            plain(&[&[b"\x16\x03\x01\x00\x05hello\r\n", PORT.as_bytes()].concat()]),
        ),
        (
            "AUTH TLS that the server refuses, then a record".to_owned(),
            plain(&[b"AUTH TLS\r\n", b"\x16\x03\x01\x00\x01x", PORT.as_bytes()]),
        ),
        (
            "urgent, in two pieces".to_owned(),
            vec![
                (true, b"PX".to_vec()),
                (false, b"ORT 198,51,100,21,195,80\r\n".to_vec()),
            ],
        ),
        (
            "an urgent byte that the server reads elsewhere".to_owned(),
            vec![(true, b"X".to_vec()), (false, PORT.into())],
        ),
        (
            "an urgent byte within the verb".to_owned(),
            vec![
                (false, b"PO".to_vec()),
                (true, b"X".to_vec()),
                (false, b"RT 198,51,100,21,195,80\r\n".to_vec()),
            ],
        ),
        (
            "an urgent byte within the address".to_owned(),
            vec![
                (false, b"PORT 198,51,100,2".to_vec()),
                (true, b"0".to_vec()),
                (false, b"1,195,80\r\n".to_vec()),
            ],
        ),
        (
            "an urgent line end".to_owned(),
            vec![
                (false, b"NOOP ".to_vec()),
                (true, b"\n".to_vec()),
                (false, PORT.into()),
            ],
        ),
        (
            "in small letters".to_owned(),
            plain(&[b"port 198,51,100,21,195,80\r\n"]),
        ),
        (
            "byte by byte".to_owned(),
            PORT.bytes().map(|b| (false, vec![b])).collect(),
        ),
        (
            "LPRT".to_owned(),
            plain(&[b"LPRT 4,4,198,51,100,21,2,195,80\r\n"]),
        ),
        (
            "LPRT in two pieces".to_owned(),
            plain(&[b"LPRT 4,4,198,51", b",100,21,2,195,80\r\n"]),
        ),
        (
            "EPRT".to_owned(),
            plain(&[b"EPRT |1|198.51.100.21|50000|\r\n"]),
        ),
        (
            "EPRT without a blank".to_owned(),
            plain(&[b"EPRT|1|198.51.100.21|50000|\r\n"]),
        ),
        (
            "a blank in front".to_owned(),
            plain(&[b" PORT 198,51,100,21,195,80\r\n"]),
        ),
        (
            "LF alone".to_owned(),
            plain(&[b"NOOP\nPORT 198,51,100,21,195,80\n"]),
        ),
        (
            "CR CR LF".to_owned(),
            plain(&[b"NOOP\r\r\nPORT 198,51,100,21,195,80\r\r\n"]),
        ),
        (
            "an unfinished line, then a wait".to_owned(),
            plain(&[b"PORT 198,51,100,21,195,8"]),
        ),
    ];
    for (name, bytes) in [
        ("a bare CR", &b"\r"[..]),
        ("a NUL", b"\0"),
        ("CR and NUL", b"\r\0"),
        ("two bare CRs", b"\r\r"),
    ] {
        let split = |at: usize| {
            let (front, back) = PORT.as_bytes().split_at(at);
            [front, bytes, back].concat()
        };
        for at in [1, 2, 4, 5, 8, 15] {
            let line = split(at);
            all.push((format!("{name} after {at} bytes"), plain(&[&line])));
            let (front, back) = line.split_at(at + bytes.len());
            let name = format!("{name} after {at} bytes, in two segments");
            all.push((name, plain(&[front, back])));
        }
        let line = [b"NOOP", bytes, PORT.as_bytes()].concat();
        all.push((format!("{name} behind another command"), plain(&[&line])));
    }
    for length in [
        126, 127, 128, 255, 256, 300, 511, 512, 1023, 1024, 2047, 2048, 4095, 4096, 8191,
    ] {
        let mut line = b"NOOP ".to_vec();
        line.resize(length, b'x');
        line.extend(PORT.bytes());
        all.push((
            format!("behind {length} bytes of the same line"),
            plain(&[&line]),
        ));
        let (front, back) = line.split_at(length);
        let name = format!("behind {length} bytes of the same line, in two segments");
        all.push((name, plain(&[front, back])));
    }
    all
}

/// Every writing, to a server that reads urgent bytes in their place or leaves them out.
fn assert_no_writing_is_heard(urgent_in_place: bool) {
    needs_judgement_of_ports();
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, urgent_in_place);
    let _publisher = publish(&lab, &[]);
    let mut failures = Failures::default();
    for (name, writing) in writings() {
        let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
        control.command("USER x").unwrap();
        server.heard();
        for (urgent, bytes) in writing {
            let sent = if urgent {
                socket2::SockRef::from(control.stream())
                    .send_out_of_band(&bytes)
                    .map(drop)
            } else {
                control.send(&bytes).map_err(std::io::Error::other)
            };
            // The gateway may have ended the connection.
            failures.note(&name, sent.or(Ok(())));
            thread::sleep(Duration::from_millis(20));
        }
        // A sender repeats what was held.
        thread::sleep(Duration::from_millis(300));
        failures.note(&name, assert_unheard(&server.heard()));
    }
    failures.assert_none();
}

#[test]
fn no_writing_of_a_port_is_heard_by_a_server_that_reads_urgent_bytes_in_place() {
    assert_no_writing_is_heard(true);
}

#[test]
fn no_writing_of_a_port_is_heard_by_a_server_that_leaves_urgent_bytes_out() {
    assert_no_writing_is_heard(false);
}

/// What the gateway may take for text and the server does not: a decoy with the numbers of the
/// PORT that follows it.
type Decoy = fn(&mut Segment, &TcpStream);

const DECOYS: [(&str, Decoy); 13] = [
    ("a wrong checksum", |decoy, _| {
        decoy.checksum = Checksum::Wrong(0x1111)
    }),
    ("a checksum of zero", |decoy, _| {
        let right = decoy.tcp();
        let right = u16::from_be_bytes([right[16], right[17]]);
        decoy.checksum = Checksum::Wrong(right);
    }),
    ("a time to live of 1", |decoy, _| decoy.ttl = 1),
    ("an acknowledgement of what was never sent", |decoy, _| {
        decoy.ack = decoy.ack.wrapping_add(1 << 30);
    }),
    ("an acknowledgement of what is long past", |decoy, _| {
        decoy.ack = decoy.ack.wrapping_sub(1 << 30);
    }),
    ("no ACK", |decoy, _| decoy.flags = PSH),
    ("a timestamp of the past", |decoy, stream| {
        let past = numbers::timestamp(stream).unwrap().wrapping_sub(1 << 30);
        decoy.options = timestamp_options(past);
    }),
    ("no timestamp", |decoy, _| decoy.options = Vec::new()),
    ("two timestamps", |decoy, _| {
        let past = timestamp_options(1);
        decoy.options = [&decoy.options[..], &past].concat();
    }),
    ("a timestamp behind one of a wrong length", |decoy, _| {
        let past = timestamp_options(1);
        decoy.options = [&[8, 6, 0, 0, 0, 0, 1, 1][..], &past].concat();
    }),
    (
        "a timestamp of the past and a SACK block",
        |decoy, stream| {
            let past = numbers::timestamp(stream).unwrap().wrapping_sub(1);
            let past = past.wrapping_sub(1 << 20).to_be_bytes();
            decoy.options = [&[8, 10][..], &past, &[0; 4], &[5, 10], &[0; 8]].concat();
        },
    ),
    ("a signature (RFC 2385)", |decoy, _| {
        decoy.options = [&[1, 1, 19, 18][..], &[7; 16]].concat();
    }),
    ("an urgent pointer", |decoy, _| {
        decoy.flags |= URG;
        decoy.urgent = 1;
    }),
];

#[test]
fn a_decoy_that_the_server_does_not_take_hides_no_port() {
    needs_judgement_of_ports();
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, false);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut failures = Failures::default();
    for (name, decoy) in DECOYS {
        let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
        control.command("USER x").unwrap();
        server.heard();
        let text = format!("NOOP {}\r\n", "x".repeat(PORT.len() - 7));
        let mut segment = Known::of(&control).as_client(PSH | ACK, 0, 0).with(text);
        decoy(&mut segment, control.stream());
        wire.send(&segment).unwrap();
        settle();
        // The connection's own socket knows nothing of the decoy.
        drop(control.send(PORT));
        thread::sleep(Duration::from_millis(300));
        failures.note(name, assert_unheard(&server.heard()));
    }
    failures.assert_none();
}

#[test]
fn a_timestamp_of_a_bare_acknowledgement_makes_no_decoy() {
    // The server goes by it, and takes no text with an older one.
    needs_judgement_of_ports();
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, false);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
    control.command("USER x").unwrap();
    server.heard();
    let known = Known::of(&control);
    let decoy = format!("NOOP {}\r\n", "x".repeat(PORT.len() - 7));
    for (later, text) in [(2_000_000, ""), (1_000_000, &decoy[..]), (3_000_000, PORT)] {
        let mut segment = known.as_client(PSH | ACK, 0, 0).with(text);
        segment.options = timestamp_options(known.timestamp.wrapping_add(later));
        wire.send(&segment).unwrap();
        settle();
    }
    assert_unheard(&server.heard()).unwrap();
}

/// Pieces of text with their places in it.
type Pieces<'t> = Vec<(i64, &'t [u8])>;

#[test]
fn overlapping_segments_hide_no_port() {
    needs_judgement_of_ports();
    // The server keeps what came first; whichever the gateway reads, both must be the same.
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, false);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut failures = Failures::default();
    let port = PORT.as_bytes();
    let noop = format!("NOOP {}\r\n", "x".repeat(PORT.len() - 7)).into_bytes();
    let length = port.len() as i64;
    // Pieces with their place, in the order in which they are sent.
    let cases: Vec<(&str, Pieces<'_>)> = vec![
        (
            "the end first",
            vec![(8, &port[8..]), (0, &noop[..8]), (0, port)],
        ),
        (
            "the end first, then another end",
            vec![(8, &noop[8..]), (8, &port[8..]), (0, &port[..8])],
        ),
        ("one over the other", vec![(4, &port[4..]), (0, &noop)]),
        (
            "the middle first",
            vec![(4, &noop[4..9]), (4, &port[4..]), (0, port)],
        ),
        (
            "backwards, byte by byte",
            (0..length)
                .rev()
                .map(|at| (at, &port[at as usize..=at as usize]))
                .collect(),
        ),
        (
            "twice backwards",
            (0..length)
                .rev()
                .flat_map(|at| {
                    let at = at as usize;
                    [(at as i64, &noop[at..=at]), (at as i64, &port[at..=at])]
                })
                .collect(),
        ),
    ];
    for (name, pieces) in cases {
        let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
        control.command("USER x").unwrap();
        server.heard();
        let known = Known::of(&control);
        for (at, bytes) in pieces {
            wire.send(&known.as_client(PSH | ACK, at, 0).with(bytes))
                .unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(300));
        failures.note(name, assert_unheard(&server.heard()));
    }
    failures.assert_none();
}

#[test]
fn fragments_hide_no_port() {
    needs_judgement_of_ports();
    // With `control_nat = "kernel"` and without: conntrack puts fragments together behind the hook.
    for kernel_nat in [false, true] {
        let lab = lab();
        let server = Recorder::start(lab.server(), 21, false);
        let _publisher = if kernel_nat {
            publish_behind_kernel_nat(&lab)
        } else {
            publish(&lab, &[])
        };
        let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
        let mut failures = Failures::default();
        for (name, size, backwards) in [
            ("within the address", 40, false),
            ("behind the header", 32, false),
            ("within the header", 16, false),
            ("backwards", 40, true),
        ] {
            let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
            control.command("USER x").unwrap();
            server.heard();
            let segment = Known::of(&control).as_client(PSH | ACK, 0, 0).with(PORT);
            let mut fragments = segment.fragments(size, 77);
            if backwards {
                fragments.reverse();
            }
            for fragment in fragments {
                wire.send_packet(&fragment).unwrap();
            }
            thread::sleep(Duration::from_millis(300));
            let name = format!("{name}, NAT by the kernel: {kernel_nat}");
            failures.note(&name, assert_unheard(&server.heard()));
        }
        failures.assert_none();
    }
}

/// The kernel translates the control connection, ftp-nat reads it.
fn publish_behind_kernel_nat(lab: &Lab) -> Publisher<'_> {
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    let scratch = ftp_nat_tests::scratch::Scratch::new().unwrap();
    let mut config = "[gateway]\nwan = [\"wan\"]\n".to_owned();
    for [public, server] in [
        ["198.51.100.1:21", "10.0.0.5:21"],
        ["[2001:db8:1::1]:21", "[fd00:10::5]:21"],
    ] {
        config += &format!(
            "[[publish]]\npublic = \"{public}\"\nserver = \"{server}\"\ncontrol_nat = \"kernel\"\n"
        );
    }
    let path = scratch.write("ftp-nat.toml", config).unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", path.to_str().unwrap()]).unwrap();
    Publisher {
        gateway: Some(gateway),
    }
}

#[test]
fn text_in_a_syn_hides_no_port() {
    // RFC 7413: a server that does not know the option, or has it switched off, lets the text be
    // sent again.
    needs_judgement_of_ports();
    for takes_it in [false, true] {
        let lab = lab();
        if takes_it {
            // Without a cookie, on every listener (ip-sysctl's tcp_fastopen).
            let bits = (0x2 | 0x200 | 0x400_u32).to_string();
            lab.server()
                .namespace
                .sysctl("net.ipv4.tcp_fastopen", &bits)
                .unwrap();
        }
        let server = Recorder::start(lab.server(), 21, false);
        let _publisher = publish(&lab, &[]);
        let limit = Duration::from_secs(2);
        let mut failures = Failures::default();
        for (number, (name, in_syn, later)) in [
            ("the whole line in the SYN", PORT, PORT),
            (
                "another line in the SYN",
                "NOOP xxxxxxxxxxxxxxxxxxx\r\n",
                PORT,
            ),
            ("half of the line in the SYN", &PORT[..12], PORT),
        ]
        .into_iter()
        .enumerate()
        {
            let own = handshakes::invented(number as u32);
            let mut raw = RawClient::new(&lab, attacker(&lab), own, PUBLIC).unwrap();
            let first = raw.seq.wrapping_add(1);
            if raw.begin(in_syn.as_bytes(), limit).is_err() {
                // It was dropped: its client repeats it without the text.
                raw.begin(b"", limit).unwrap();
            }
            raw.finish().unwrap();
            raw.hear("220", limit).unwrap();
            // What the server has not taken is sent again, as another text.
            let taken = raw.seq.wrapping_sub(first) as usize;
            raw.say(&later.as_bytes()[taken.min(later.len())..])
                .unwrap();
            thread::sleep(Duration::from_millis(300));
            let name = format!("{name}, of which the server takes {taken} bytes");
            failures.note(&name, assert_unheard(&server.heard()));
        }
        failures.assert_none();
    }
}

#[test]
fn ip_options_and_extension_headers_hide_no_port() {
    // Options that mean nothing, and fragments: all are taken by servers.
    needs_judgement_of_ports();
    let lab = lab();
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    lab.router
        .nft(
            "table inet lab {
                chain prerouting {
                    iifname \"wan\" tcp dport 21 dnat ip6 to fd00:10::5
                }
            }",
        )
        .unwrap();
    let _publisher = publish_behind_kernel_nat(&lab);
    let public_v6: SocketAddr = (ftp_nat_tests::lab::WAN_ADDRESS_V6, 21).into();
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut failures = Failures::default();
    let v4 = Recorder::start_at(lab.server(), lab.server().at(21), false);
    let v6 = Recorder::start_at(lab.server(), (lab.server().v6, 21).into(), false);
    let cases: [(&str, &Recorder, SocketAddr, Wrapped); 6] = [
        ("options over IPv4", &v4, PUBLIC, with_options),
        ("destination options", &v6, public_v6, |it| {
            vec![with_extensions(it, &[(DESTINATION_OPTIONS, PADDING)])]
        }),
        ("a header for each hop", &v6, public_v6, |it| {
            vec![with_extensions(it, &[(HOP_BY_HOP, PADDING)])]
        }),
        ("two headers", &v6, public_v6, |it| {
            let both = [(HOP_BY_HOP, PADDING), (DESTINATION_OPTIONS, PADDING)];
            vec![with_extensions(it, &both)]
        }),
        ("a fragment that is whole", &v6, public_v6, |it| {
            vec![with_extensions(it, &[(FRAGMENT, [0, 0, 0, 0, 0, 0, 9])])]
        }),
        ("two fragments", &v6, public_v6, in_two_fragments),
    ];
    for (name, server, public, wrap) in cases {
        let mut control = Control::connect(client(&lab), public).unwrap();
        control.command("USER x").unwrap();
        server.heard();
        let (seq, ack) = numbers::next(control.stream()).unwrap();
        let own = control.local_address().unwrap();
        let line = "EPRT |1|198.51.100.21|50000|\r\n";
        let timestamp = numbers::timestamp(control.stream()).unwrap();
        let segment = Segment {
            options: timestamp_options(timestamp),
            ..Segment::new(own, public, PSH | ACK, seq, ack).with(line)
        };
        for packet in wrap(&segment.packet()) {
            wire.send_packet(&packet).unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        failures.note(name, assert_unheard(&server.heard()));
    }
    failures.assert_none();
}

#[test]
fn a_decoy_with_options_that_the_server_does_not_take_hides_no_port() {
    // RFC 791, section 3.1: routes that the sender has chosen, which hosts refuse, and lengths that lie.
    needs_judgement_of_ports();
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, false);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut failures = Failures::default();
    for (name, options) in [
        ("a loose source route", [131, 7, 4, 10, 0, 0, 5, 0]),
        ("a strict source route", [137, 7, 4, 10, 0, 0, 5, 0]),
        ("a length of nothing", [7, 0, 0, 0, 0, 0, 0, 0]),
        ("a length beyond the end", [7, 40, 4, 0, 0, 0, 0, 0]),
        ("a security label", [134, 8, 0, 0, 0, 1, 0, 2]),
    ] {
        let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
        control.command("USER x").unwrap();
        server.heard();
        let text = format!("NOOP {}\r\n", "x".repeat(PORT.len() - 7));
        let decoy = Known::of(&control).as_client(PSH | ACK, 0, 0).with(text);
        let (mut ip, rest) = etherparse::Ipv4Header::from_slice(&decoy.packet())
            .map(|(ip, rest)| (ip, rest.to_vec()))
            .unwrap();
        ip.options = options.into();
        ip.total_len += options.len() as u16;
        ip.header_checksum = ip.calc_header_checksum();
        wire.send_packet(&[&ip.to_bytes()[..], &rest].concat())
            .unwrap();
        settle();
        drop(control.send(PORT));
        thread::sleep(Duration::from_millis(300));
        failures.note(name, assert_unheard(&server.heard()));
    }
    failures.assert_none();
}

#[test]
fn vlan_tags_hide_no_port() {
    // IEEE 802.1Q: a tag of another network, one of none (a priority alone), and two.
    needs_judgement_of_ports();
    let lab = lab();
    let server = Recorder::start(lab.server(), 21, false);
    let _publisher = publish(&lab, &[]);
    let wire = Wire::from_outside(&lab, client(&lab)).unwrap();
    let mut failures = Failures::default();
    let decoy = format!("NOOP {}\r\n", "x".repeat(PORT.len() - 7));
    for (name, tag) in [
        ("VLAN 5", &[0x81, 0, 0, 5][..]),
        ("a priority", &[0x81, 0, 0xe0, 0]),
        ("a provider's tag", &[0x88, 0xa8, 0, 5]),
        ("two", &[0x81, 0, 0xe0, 0, 0x81, 0, 0, 5]),
        ("two priorities", &[0x81, 0, 0xe0, 0, 0x81, 0, 0xe0, 0]),
    ] {
        // The PORT with the tag, and a decoy with it before the PORT without.
        for (tagged, plain) in [(PORT, ""), (&decoy[..], PORT)] {
            let mut control = Control::connect(client(&lab), PUBLIC).unwrap();
            control.command("USER x").unwrap();
            server.heard();
            let segment = Known::of(&control).as_client(PSH | ACK, 0, 0).with(tagged);
            let mut frame = wire.frame(&segment.packet());
            frame.splice(12..12, tag.iter().copied());
            wire.send_frames(&[frame]).unwrap();
            settle();
            drop(control.send(plain));
            thread::sleep(Duration::from_millis(300));
            failures.note(name, assert_unheard(&server.heard()));
        }
    }
    failures.assert_none();
}

/// What becomes of an IP packet on its way to the wire.
type Wrapped = fn(&[u8]) -> Vec<Vec<u8>>;

/// The IPv4 packet with four times the option "no operation" (RFC 791, section 3.1).
fn with_options(packet: &[u8]) -> Vec<Vec<u8>> {
    let (mut ip, rest) = etherparse::Ipv4Header::from_slice(packet).unwrap();
    ip.options = [1; 4].into();
    ip.total_len += 4;
    ip.header_checksum = ip.calc_header_checksum();
    vec![[&ip.to_bytes()[..], rest].concat()]
}

/// Kinds of IPv6 extension headers (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// A header of options behind its first byte: its length, and one option of four bytes that pads.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// The IPv6 packet with extension headers of eight bytes: the kind of each, and what stands behind its
/// first byte.
fn with_extensions(packet: &[u8], headers: &[(u8, [u8; 7])]) -> Vec<u8> {
    let (mut ip, rest) = etherparse::Ipv6Header::from_slice(packet).unwrap();
    ip.payload_length += 8 * headers.len() as u16;
    let mut behind = rest.to_vec();
    for (kind, bytes) in headers.iter().rev() {
        behind.splice(..0, [&[ip.next_header.0][..], bytes].concat());
        ip.next_header = etherparse::IpNumber(*kind);
    }
    [&ip.to_bytes()[..], &behind].concat()
}

/// The IPv6 packet in two fragments, the first of which ends within the text.
fn in_two_fragments(packet: &[u8]) -> Vec<Vec<u8>> {
    const FIRST: usize = 40;
    let (ip, rest) = etherparse::Ipv6Header::from_slice(packet).unwrap();
    [(0, &rest[..FIRST], 1), (FIRST, &rest[FIRST..], 0)]
        .into_iter()
        .map(|(at, piece, more)| {
            let mut ip = ip.clone();
            ip.payload_length = piece.len() as u16;
            let [high, low] = (at as u16 | more).to_be_bytes();
            let piece = [&ip.to_bytes()[..], piece].concat();
            with_extensions(&piece, &[(FRAGMENT, [0, high, low, 0, 0, 0, 9])])
        })
        .collect()
}
