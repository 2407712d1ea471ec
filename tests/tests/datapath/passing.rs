//! What is none of ours, and what cannot be read: it passes as it came.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ftp_nat_common::{abi::port, counter::Counter};

use crate::{
    fixture::Fixture,
    loaded::{Hook, on_router},
    packet::{self, ETHERNET, Packet, TCP},
    scene::control_v4,
    talk::{Client, Talk},
};

const FROM: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 20)),
    40_000,
);
const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 21);
const FROM_V6: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x20)),
    40_000,
);
const TO_V6: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
    21,
);

const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const ESP: u8 = 50;

/// An extension header of IPv6 (RFC 8200 section 4): kind, and the bytes behind the first one.
type Extension = (u8, &'static [u8]);

const HOP_BY_HOP: Extension = (0, &[0, 1, 4, 0, 0, 0, 0]);
const ROUTING: Extension = (43, &[0, 4, 0, 0, 0, 0, 0]);
const DESTINATION: Extension = (60, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const AUTHENTICATION: Extension = (51, &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
const FIRST_FRAGMENT: Extension = (44, &[0, 0, 1, 0, 0, 0, 7]);
const CUT_SHORT: Extension = (60, &[9]);
const LATER_FRAGMENT: Extension = (44, &[0, 0, 0x48, 0, 0, 0, 7]);

/// A segment to a port of FTP.
fn segment() -> Packet {
    Packet::new(FROM, TO).payload("USER x\r\n")
}

fn segment_v6() -> Packet {
    Packet::new(FROM_V6, TO_V6).payload("USER x\r\n")
}

/// A TCP header and payload, as they stand behind the IP header of [`segment`].
fn tcp() -> Vec<u8> {
    segment().bytes()[ETHERNET + 20..].to_vec()
}

/// A frame of some EtherType, whose bytes look like an IPv4 packet to a port of FTP.
fn frame_of(ether_type: [u8; 2]) -> Vec<u8> {
    let mut frame = segment().bytes();
    frame[12..14].copy_from_slice(&ether_type);
    frame
}

/// IPv6 with these extension headers in front of `content`, which is of this protocol: the kind of each,
/// and its bytes behind the first one, which names what follows.
fn behind_extensions(headers: &[Extension], protocol: u8, content: &[u8]) -> Vec<u8> {
    let kinds = headers.iter().map(|(kind, _)| *kind).chain([protocol]);
    let mut bytes = Vec::new();
    for ((_, rest), next) in headers.iter().zip(kinds.clone().skip(1)) {
        bytes.push(next);
        bytes.extend(*rest);
    }
    bytes.extend(content);
    let first = headers.first().map_or(protocol, |(kind, _)| *kind);
    packet::ip(FROM_V6.ip(), TO_V6.ip(), first, 64, &[], &bytes)
}

/// A tag in the frame itself: kernel and drivers take it off before TC sees it, all but a second.
fn with_vlan_tag() -> Vec<u8> {
    let mut frame = segment().bytes();
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    frame
}

#[test]
fn what_is_not_ftp_passes_uncounted() {
    let v4 = |protocol, content: &[u8]| packet::ip(FROM.ip(), TO.ip(), protocol, 64, &[], content);
    let v6 =
        |protocol, content: &[u8]| packet::ip(FROM_V6.ip(), TO_V6.ip(), protocol, 64, &[], content);
    let other_port = SocketAddr::new(TO.ip(), 443);
    let frames = [
        ("UDP to a port of FTP", v4(UDP, &tcp())),
        ("a short UDP packet", v4(UDP, &[0, 53, 0, 21, 0, 8, 0, 0])),
        ("an empty UDP packet", v4(UDP, &[])),
        ("ICMP echo", v4(ICMP, &[8, 0, 0, 0, 0, 1, 0, 1])),
        ("IPv6 UDP", v6(UDP, &tcp())),
        ("ICMPv6 echo", v6(ICMP_V6, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("ARP", frame_of([0x08, 0x06])),
        ("LLDP", frame_of([0x88, 0xcc])),
        ("802.3 with a length", frame_of([0x00, 0x40])),
        ("a VLAN tag in the frame", with_vlan_tag()),
        ("ESP over IPv6", v6(ESP, &tcp())),
        (
            "TCP of other ports",
            Packet::new(FROM, other_port)
                .payload("227 (1,2,3,4,5,6)\r\n")
                .bytes(),
        ),
        (
            "a SYN to another port",
            Packet::new(FROM, other_port).syn().bytes(),
        ),
    ];
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED | port::MASQUERADED);
        for (name, frame) in &frames {
            for hook in Hook::ALL {
                let name = format!("{name} at {hook:?}");
                Fixture::new(name, hook, frame.clone()).check(datapath);
            }
        }
    });
}

#[test]
fn the_first_fragment_to_a_control_port_is_dropped_where_it_comes_in() {
    let mut frame = segment().bytes();
    frame[ETHERNET + 6] = 0x20;
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED);
        for hook in Hook::ALL {
            let fixture = Fixture::new(format!("{hook:?}"), hook, frame.clone());
            if hook == Hook::WanIngress {
                fixture.dropped().counting(&[Counter::DeniedFragment])
            } else {
                fixture.counting(&[Counter::PassedFragment])
            }
            .check(datapath);
        }
    });
}

#[test]
fn what_stands_behind_ipv6_extension_headers_is_dropped_if_it_may_be_a_command() {
    let many = [HOP_BY_HOP; 10];
    let segment = tcp();
    let to = |port: u16| [&segment[..2], &port.to_be_bytes(), &segment[4..]].concat();
    let cases = [
        ("hop by hop", &[HOP_BY_HOP][..], TCP, to(21), true),
        ("destination", &[DESTINATION][..], TCP, to(21), true),
        ("routing", &[ROUTING][..], TCP, to(21), true),
        ("authentication", &[AUTHENTICATION][..], TCP, to(21), true),
        (
            "a fragment that is whole",
            &[FIRST_FRAGMENT][..],
            TCP,
            to(21),
            true,
        ),
        (
            "several",
            &[
                HOP_BY_HOP,
                ROUTING,
                FIRST_FRAGMENT,
                AUTHENTICATION,
                DESTINATION,
            ],
            TCP,
            to(21),
            true,
        ),
        ("as many as are followed", &many[..8], TCP, to(21), true),
        ("more", &many[..], TCP, to(21), true),
        ("another port", &[DESTINATION][..], TCP, to(443), false),
        (
            "a later fragment",
            &[LATER_FRAGMENT][..],
            TCP,
            to(21),
            false,
        ),
        ("UDP", &[DESTINATION][..], UDP, to(21), false),
        ("ESP", &[DESTINATION][..], ESP, to(21), false),
        ("cut short", &[DESTINATION][..], TCP, vec![0, 80, 0], false),
        (
            "a header that is not there",
            &[CUT_SHORT][..],
            TCP,
            to(21),
            false,
        ),
    ];
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED);
        for (name, headers, protocol, content, is_dropped) in cases {
            let frame = behind_extensions(headers, protocol, &content);
            for hook in Hook::ALL {
                let fixture = Fixture::new(format!("{name} at {hook:?}"), hook, frame.clone());
                if is_dropped && hook == Hook::WanIngress {
                    fixture.dropped().counting(&[Counter::DeniedExtension])
                } else {
                    fixture
                }
                .check(datapath);
            }
        }
    });
}

#[test]
fn a_control_segment_with_ip_options_is_dropped_and_its_repetition_without_is_read() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), [1, 2]);
        for options in [&[1; 4][..], &[131, 7, 4, 10, 0, 0, 5, 0]] {
            for text in ["PASV\r\n", ""] {
                let packet = talk.segment(Client, text).ip_options(options);
                talk.fixture(Client, "options", &packet)
                    .dropped()
                    .counting(&[Counter::DeniedExtension])
                    .check(talk.datapath);
            }
        }
        talk.passes(Client, "PASV\r\n");
    });
}

#[test]
fn what_cannot_be_read_passes_and_is_counted() {
    let cut = |packet: &Packet, len: usize| packet.bytes()[..len].to_vec();
    let with = |packet: &Packet, at: usize, bytes: &[u8]| {
        let mut frame = packet.bytes();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let (v4, v6) = (segment(), segment_v6());
    let (tcp_v4, tcp_v6) = (v4.tcp_at(), v6.tcp_at());
    let whole = v4.bytes().len() - ETHERNET;
    use Counter::{PassedFragment, PassedTruncated};
    let frames = [
        (
            "a fragment in the middle",
            PassedFragment,
            with(&v4, ETHERNET + 6, &[0x20, 1]),
        ),
        (
            "the last fragment",
            PassedFragment,
            with(&v4, ETHERNET + 6, &[0, 9]),
        ),
        (
            "IP version 6 in an IPv4 frame",
            PassedTruncated,
            with(&v4, ETHERNET, &[0x65]),
        ),
        (
            "a total length beyond the frame",
            PassedTruncated,
            with(&v4, ETHERNET + 2, &[0x10, 0]),
        ),
        (
            "a total length one byte beyond the frame",
            PassedTruncated,
            with(&v4, ETHERNET + 2, &(whole as u16 + 1).to_be_bytes()),
        ),
        (
            "a total length of nothing",
            PassedTruncated,
            with(&v4, ETHERNET + 2, &[0, 0]),
        ),
        (
            "a total length without TCP",
            PassedTruncated,
            with(&v4, ETHERNET + 2, &[0, 30]),
        ),
        (
            "a TCP header below its least",
            PassedTruncated,
            with(&v4, tcp_v4 + 12, &[0x40]),
        ),
        (
            "a TCP header beyond the packet",
            PassedTruncated,
            with(&v4, tcp_v4 + 12, &[0xf0]),
        ),
        (
            "IP options that hide half of TCP",
            PassedTruncated,
            cut(
                &v4.clone().payload("").ip_options(&[1; 12]),
                ETHERNET + 32 + 10,
            ),
        ),
        (
            "an IPv6 length beyond the frame",
            PassedTruncated,
            with(&v6, ETHERNET + 4, &[9, 0]),
        ),
        (
            "an IPv6 length of nothing",
            PassedTruncated,
            with(&v6, ETHERNET + 4, &[0, 0]),
        ),
        (
            "a TCP header beyond IPv6",
            PassedTruncated,
            with(&v6, tcp_v6 + 12, &[0xf0]),
        ),
    ];
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED | port::MASQUERADED);
        for (name, counter, frame) in &frames {
            for hook in Hook::ALL {
                Fixture::new(format!("{name} at {hook:?}"), hook, frame.clone())
                    .counting(&[*counter])
                    .check(datapath);
            }
        }
    });
}

#[test]
fn what_ends_within_its_headers_is_counted_once_its_ports_are_there() {
    let (v4, v6) = (segment(), segment_v6());
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED | port::MASQUERADED);
        for packet in [&v4, &v6] {
            let frame = packet.bytes();
            let ports_end = packet.tcp_at() + 4;
            // The kernel's own test run refuses a frame without its whole IP header.
            for len in packet.tcp_at()..packet.tcp_at() + 20 {
                let counted: &[_] = if len < ports_end {
                    &[]
                } else {
                    &[Counter::PassedTruncated]
                };
                for hook in Hook::ALL {
                    let name = format!("{len} bytes at {hook:?}");
                    Fixture::new(name, hook, frame[..len].to_vec())
                        .counting(counted)
                        .check(datapath);
                }
            }
        }
    });
}

#[test]
fn a_segment_of_no_known_connection_passes() {
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED | port::MASQUERADED);
        for packet in [segment(), segment_v6()] {
            Fixture::wan("inbound", &packet)
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            Fixture::lan("from the inside", &packet).check(datapath);
            Fixture::egress("on its way out", &packet).check(datapath);
        }
    });
}

#[test]
fn bytes_are_counted_from_the_ip_header_on() {
    let mut fragment = segment().bytes();
    fragment[ETHERNET + 6] = 0x20;
    let mut truncated = segment().bytes();
    truncated[ETHERNET + 2] = 0x10;
    on_router(|datapath| {
        datapath.mark_port(21, port::PUBLISHED);
        for frame in [fragment, truncated, segment().bytes()] {
            let before = datapath.counts();
            datapath.run(Hook::WanIngress, &frame);
            let [(counter, by)] = datapath.counted_since(&before)[..] else {
                panic!("not one counter moved");
            };
            let expected = (1, (frame.len() - ETHERNET) as u64);
            assert_eq!((by.packets, by.bytes), expected, "{counter:?}");
        }
    });
}
