//! XDP, the shortcut of data connections: the same packets come out as by TC, and what needs thought
//! is passed on to it untouched.

use ftp_nat_common::{
    abi::{Flow, flow_flag},
    counter::Counter,
};

use crate::{
    loaded::{Datapath, Hook, XDP_PASS, XDP_REDIRECT, on_router},
    packet::{ACK, ETHERNET, FIN, PSH, Packet, RST, SYN, hex},
    scene::{Ends, control_v4, control_v6, hop},
};

/// What a neighbour's Ethernet header starts with.
const MACS: [u8; 12] = [2, 9, 8, 7, 6, 5, 2, 4, 4, 4, 4, 1];

fn connections() -> [Ends; 4] {
    [
        control_v4().data(50_111, 50_000, 50_000),
        control_v4().data(50_112, 61_000, 50_001),
        control_v6().data(50_111, 50_000, 50_000),
        control_v6().data(50_112, 61_000, 50_001),
    ]
}

/// A data connection that TC has opened and found the way of.
fn connect(datapath: &mut Datapath, data: &Ends) -> (Flow, Flow) {
    data.announce_passive(datapath);
    datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
    let (inbound, outbound) = data.flows(datapath).unwrap();
    let epoch = datapath.settings().route_epoch;
    let ready = |flow: Flow| Flow {
        macs: std::array::from_fn(|at| u16::from_ne_bytes([MACS[2 * at], MACS[2 * at + 1]])),
        fresh_until: flow.last_seen.wrapping_add(100_000),
        route_epoch: epoch,
        flags: flow.flags | flow_flag::XDP,
        ..flow
    };
    let flows = (ready(inbound), ready(outbound));
    data.set_inbound(datapath, flows.0);
    data.set_outbound(datapath, flows.1);
    flows
}

/// It is sent, as the one hop further on that `out` is, and counted.
fn assert_sent(datapath: &Datapath, name: &str, program: &str, packet: &Packet, out: &Packet) {
    let mut expected = hop(out.clone()).bytes();
    expected[..12].copy_from_slice(&MACS);
    let before = datapath.counts();
    let (verdict, frame) = datapath.run_xdp(program, &packet.bytes());
    assert_eq!(verdict, XDP_REDIRECT, "{name}");
    assert!(
        frame == expected,
        "{name}: what came out\n{}\nand what was expected\n{}",
        hex(&frame),
        hex(&expected)
    );
    let counter = match program {
        "wan_xdp" => Counter::InboundXdp,
        _ => Counter::OutboundXdp,
    };
    let counted = datapath.counted_since(&before);
    assert_eq!(counted.len(), 1, "{name}: {counted:?}");
    assert_eq!((counted[0].0, counted[0].1.packets), (counter, 1), "{name}");
}

/// It is left to TC, untouched and uncounted.
fn assert_passed(datapath: &Datapath, name: &str, program: &str, frame: &[u8]) {
    let before = datapath.counts();
    let (verdict, out) = datapath.run_xdp(program, frame);
    assert_eq!(verdict, XDP_PASS, "{name}");
    assert!(out == frame, "{name}: {}", hex(&out));
    assert_eq!(datapath.counted_since(&before), [], "{name}");
}

#[test]
fn plain_segments_leave_as_they_would_by_tc() {
    on_router(|datapath| {
        for data in connections() {
            let before = connect(datapath, &data);
            let shapes = |packet: Packet| {
                [
                    ("no payload", packet.clone()),
                    (
                        "an odd length",
                        packet.clone().payload([7; 333]).flags(ACK | PSH),
                    ),
                    (
                        "TCP options",
                        packet.clone().tcp_options(&[1; 40]).payload([1, 2, 3]),
                    ),
                    ("TTL 2", packet.clone().ttl(2)),
                    ("padding", packet.payload("x").padding(&[0; 5])),
                ]
            };
            for (name, packet) in shapes(data.inbound()) {
                assert_sent(datapath, name, "wan_xdp", &packet, &data.inwards(&packet));
            }
            for (name, packet) in shapes(data.outbound()) {
                assert_sent(datapath, name, "lan_xdp", &packet, &data.outwards(&packet));
            }
            let (inbound, outbound) = data.flows(datapath).unwrap();
            assert_eq!(inbound.packets - before.0.packets, 5);
            assert_eq!(outbound.packets - before.1.packets, 5);
            assert_eq!(
                inbound.acked,
                data.inbound().ack,
                "what resets are judged by"
            );
            let seen = ACK | PSH;
            assert_eq!(inbound.tcp_flags & seen, seen, "what the sweep judges by");
        }
    });
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let packet = data.inbound().payload("spoilt on the way");
            let mut frame = packet.bytes();
            let at = packet.tcp_at() + 20;
            frame[at] ^= 0x10;
            let (verdict, out) = datapath.run_xdp("wan_xdp", &frame);
            assert_eq!(verdict, XDP_REDIRECT);
            let mut expected = hop(data.inwards(&packet)).bytes();
            expected[..12].copy_from_slice(&MACS);
            // The checksum is that of what was sent, so it is as wrong as it was.
            expected[at] ^= 0x10;
            assert!(out == expected, "{}", hex(&out));
        }
    });
}

#[test]
fn what_needs_thought_is_left_to_tc() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let plain = data.inbound().payload([1; 100]);
            let v4 = plain.src.is_ipv4();
            let headers = data.inbound().bytes().len() - ETHERNET;
            let mut frames = vec![
                ("a SYN", data.inbound().syn().bytes()),
                ("a SYN-ACK", data.inbound().flags(SYN | ACK).bytes()),
                ("the end", plain.clone().flags(ACK | FIN).bytes()),
                ("a reset", plain.clone().flags(RST).bytes()),
                ("TTL 1", plain.clone().ttl(1).bytes()),
                ("TTL 0", plain.clone().ttl(0).bytes()),
                (
                    "one byte too long",
                    data.inbound().payload(vec![1; 1501 - headers]).bytes(),
                ),
                (
                    "another port",
                    Packet::new(data.outside, {
                        let mut to = data.public;
                        to.set_port(50_999);
                        to
                    })
                    .bytes(),
                ),
                (
                    "ARP",
                    vec![0; 12]
                        .into_iter()
                        .chain([8, 6])
                        .chain([0; 46])
                        .collect(),
                ),
            ];
            // A checksum that the sender's hardware was to finish: of the pseudo header alone.
            let mut unfinished = plain.bytes();
            let at = plain.tcp_at() + 16;
            let len = (unfinished.len() - plain.tcp_at()) as u16;
            unfinished[at..at + 2].copy_from_slice(&pseudo_sum(&plain, len).to_be_bytes());
            frames.push(("an unfinished checksum", unfinished));
            let mut long = plain.bytes();
            let at = ETHERNET + if v4 { 2 } else { 4 };
            long[at] = 4;
            frames.push(("a length that lies", long));
            if v4 {
                frames.push(("IPv4 options", plain.clone().ip_options(&[1; 4]).bytes()));
                let mut fragment = plain.bytes();
                fragment[ETHERNET + 6] = 0x20;
                frames.push(("a fragment", fragment));
            }
            let mut udp = plain.bytes();
            udp[ETHERNET + if v4 { 9 } else { 6 }] = 17;
            frames.push(("UDP", udp));
            for (name, frame) in &frames {
                assert_passed(datapath, name, "wan_xdp", frame);
            }
            let whole = plain.bytes();
            for len in ETHERNET..plain.tcp_at() + 20 {
                assert_passed(datapath, &format!("{len} bytes"), "wan_xdp", &whole[..len]);
            }
            // What comes by the wrong side is not the flow's.
            assert_passed(datapath, "the inside", "lan_xdp", &whole);
        }
    });
}

#[test]
fn a_flow_that_is_not_ready_is_left_to_tc() {
    on_router(|datapath| {
        for data in connections() {
            let (ready, _) = connect(datapath, &data);
            let frame = data.inbound().payload([1; 100]).bytes();
            for (name, flow) in [
                ("no XDP behind", Flow { flags: 0, ..ready }),
                (
                    "not translated",
                    Flow {
                        flags: ready.flags | flow_flag::NO_NAT,
                        ..ready
                    },
                ),
                (
                    "an old way",
                    Flow {
                        fresh_until: ready.last_seen - 1,
                        ..ready
                    },
                ),
                (
                    "a way of old routes",
                    Flow {
                        route_epoch: ready.route_epoch + 1,
                        ..ready
                    },
                ),
                (
                    "a control connection",
                    Flow {
                        kind: ftp_nat_common::abi::kind::CONTROL,
                        ..ready
                    },
                ),
            ] {
                data.set_inbound(datapath, flow);
                assert_passed(datapath, name, "wan_xdp", &frame);
            }
        }
    });
}

/// The sum over a pseudo header, as a sender leaves it for the hardware.
fn pseudo_sum(packet: &Packet, len: u16) -> u16 {
    let mut bytes = Vec::new();
    for end in [packet.src.ip(), packet.dst.ip()] {
        match end {
            std::net::IpAddr::V4(end) => bytes.extend(end.octets()),
            std::net::IpAddr::V6(end) => bytes.extend(end.octets()),
        }
    }
    bytes.extend([0, 6]);
    bytes.extend(len.to_be_bytes());
    !crate::packet::checksum(&bytes)
}
