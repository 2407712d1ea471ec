//! Packets of known connections: addresses, ports, time to live and checksums, by redirect and
//! through the stack.

use ftp_nat_common::{
    abi::{Flow, Settings, flow_flag},
    counter::Counter,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, MARK, on_router},
    packet::{ACK, ETHERNET, FIN, PSH, Packet, RST, SYN},
    scene::{Ends, control_v4, control_v6, hop},
};

/// A data connection whose SYN has passed.
fn connect(datapath: &mut Datapath, data: &Ends) {
    data.announce_passive(datapath);
    datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
    assert!(data.flows(datapath).is_some(), "{data:?}");
}

/// Connections with the port kept and with another one, over both families.
fn connections() -> [Ends; 4] {
    [
        control_v4().data(50_111, 50_000, 50_000),
        control_v4().data(50_112, 61_000, 50_001),
        control_v6().data(50_111, 50_000, 50_000),
        control_v6().data(50_112, 61_000, 50_001),
    ]
}

/// Segments of every shape.
fn shapes(plain: &Packet) -> Vec<(&'static str, Packet)> {
    let plain = plain.clone().seq(0x8000_0000).ack(0x7fff_ffff);
    let mut shapes = vec![
        ("no payload", plain.clone()),
        ("one byte", plain.clone().payload([0xa5])),
        (
            "an odd length",
            plain.clone().payload([7; 333]).flags(ACK | PSH),
        ),
        (
            "all that the MTU holds",
            plain.clone().payload(vec![3; 1440]),
        ),
        ("zeros", plain.clone().payload([0; 64]).seq(0).ack(0)),
        ("ones", plain.clone().payload([0xff; 64])),
        (
            "TCP options",
            plain
                .clone()
                .tcp_options(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
        ),
        (
            "all the TCP options there can be",
            plain.clone().tcp_options(&[1; 40]).payload([1, 2, 3]),
        ),
        ("TTL 2", plain.clone().ttl(2)),
        ("TTL 255", plain.clone().ttl(255)),
        ("padding", plain.clone().payload("x").padding(&[0; 5])),
        (
            "padding with something in it",
            plain.clone().padding(b"227 (1"),
        ),
    ];
    if plain.src.is_ipv4() {
        shapes.push((
            "IPv4 options",
            plain.clone().ip_options(&[1; 4]).payload("abc"),
        ));
        shapes.push((
            "all the options there can be",
            plain
                .ip_options(&[1; 40])
                .tcp_options(&[1; 40])
                .payload("abc"),
        ));
    }
    shapes
}

#[test]
fn packets_of_a_connection_go_straight_to_the_other_side() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            for (name, packet) in shapes(&data.inbound()) {
                Fixture::wan(format!("{name}, {packet:?}"), &packet)
                    .redirected(&hop(data.inwards(&packet)))
                    .check(datapath);
            }
            for (name, packet) in shapes(&data.outbound()) {
                Fixture::lan(format!("{name}, {packet:?}"), &packet)
                    .redirected(&hop(data.outwards(&packet)))
                    .check(datapath);
            }
        }
    });
}

#[test]
fn the_stack_gets_them_translated_with_a_mark_and_all_their_time_to_live() {
    on_router(|datapath| {
        datapath.redirect_nothing();
        for data in connections() {
            data.announce_passive(datapath);
            let syn = data.inbound().syn();
            Fixture::wan("SYN", &syn)
                .translated(&data.inwards(&syn))
                .counting(&[Counter::PassiveUsed, Counter::PassedNoRoute])
                .check(datapath);
            for (name, packet) in shapes(&data.inbound()) {
                Fixture::wan(format!("{name}, {packet:?}"), &packet)
                    .translated(&data.inwards(&packet))
                    .check(datapath);
            }
            for (name, packet) in shapes(&data.outbound()) {
                // The stack sees the inside's own packets; they are translated behind it.
                Fixture::lan(format!("{name}, {packet:?}"), &packet).check(datapath);
                Fixture::egress(format!("{name}, {packet:?}"), &packet)
                    .translated(&data.outwards(&packet))
                    .check(datapath);
            }
        }
    });
}

#[test]
fn a_repeated_syn_goes_straight_once_there_is_a_way() {
    on_router(|datapath| {
        for data in connections() {
            datapath.forget_connections();
            datapath.redirect_nothing();
            data.announce_passive(datapath);
            let syn = data.inbound().syn();
            Fixture::wan("without a way", &syn)
                .translated(&data.inwards(&syn))
                .counting(&[Counter::PassiveUsed, Counter::PassedNoRoute])
                .check(datapath);
            Fixture::wan("still without", &syn)
                .translated(&data.inwards(&syn))
                .counting(&[Counter::PassedNoRoute])
                .check(datapath);
            datapath.redirect_everything();
            Fixture::wan("with one", &syn)
                .redirected(&hop(data.inwards(&syn)))
                .check(datapath);
            let answer = data.outbound().flags(SYN | ACK);
            Fixture::lan("its answer", &answer)
                .redirected(&hop(data.outwards(&answer)))
                .check(datapath);
        }
    });
}

#[test]
fn the_mark_is_the_daemons_choice() {
    on_router(|datapath| {
        datapath.redirect_nothing();
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        let settings = Settings {
            mark: 0x80,
            ..datapath.settings()
        };
        datapath.set(settings);
        let outcome = datapath.run(Hook::WanIngress, &data.inbound().bytes());
        assert_eq!(outcome.mark, 0x80);
        assert_ne!(outcome.mark, MARK);
    });
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let packet = data.inbound().payload("spoilt on the way");
            let tcp_check = packet.tcp_at() + 16;
            let mut places = vec![("TCP's checksum", tcp_check)];
            if packet.src.is_ipv4() {
                places.push(("IP's checksum", ETHERNET + 10));
            }
            for (name, at) in places {
                // The same bits are off before and behind the gateway, as in ones' complement the
                // sum is off by the same number.
                let out = hop(data.inwards(&packet));
                let field = |frame: &[u8]| u16::from_be_bytes([frame[at], frame[at + 1]]);
                let right = [field(&packet.bytes()), field(&out.bytes())];
                let by = (1..u16::MAX)
                    .find(|by| {
                        right
                            .iter()
                            .all(|field| field.checked_add(*by).is_some_and(|sum| sum < 0xffff))
                    })
                    .unwrap();
                Fixture::wan(name, &packet)
                    .redirected(&out)
                    .spoilt(|frame| {
                        let wrong = field(frame) + by;
                        frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
                    })
                    .check(datapath);
            }
        }
    });
}

#[test]
fn what_is_too_old_or_too_big_is_left_to_the_stack() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let headers = data.inbound().bytes().len() - ETHERNET;
            let big = |packet: Packet| packet.payload(vec![1; 1501 - headers]);
            let fits = |packet: Packet| packet.payload(vec![1; 1500 - headers]);

            let packet = data.inbound().ttl(1);
            Fixture::wan("TTL 1 inbound", &packet)
                .translated(&data.inwards(&packet))
                .counting(&[Counter::PassedTtl])
                .check(datapath);
            let packet = data.inbound().ttl(0);
            Fixture::wan("TTL 0 inbound", &packet)
                .translated(&data.inwards(&packet))
                .counting(&[Counter::PassedTtl])
                .check(datapath);
            let packet = big(data.inbound());
            Fixture::wan("one byte too long inbound", &packet)
                .translated(&data.inwards(&packet))
                .counting(&[Counter::PassedTooBig])
                .check(datapath);
            let packet = fits(data.inbound());
            Fixture::wan("as long as can be", &packet)
                .redirected(&hop(data.inwards(&packet)))
                .check(datapath);

            // What comes from the inside is translated behind the stack, whose ICMP errors name
            // the sender's own packet.
            Fixture::lan("TTL 1 outbound", &data.outbound().ttl(1))
                .counting(&[Counter::PassedTtl])
                .check(datapath);
            let packet = big(data.outbound());
            Fixture::lan("one byte too long outbound", &packet)
                .counting(&[Counter::PassedTooBig])
                .check(datapath);
            Fixture::egress("the same behind the stack", &packet)
                .translated(&data.outwards(&packet))
                .check(datapath);
        }
    });
}

#[test]
fn a_super_packet_is_as_big_as_its_segments() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let headers = data.inbound().bytes().len() - ETHERNET;
            let segment = 1500 - headers as u32;
            let packet = data.inbound().payload(vec![9; 3000]);
            Fixture::wan("segments that fit", &packet)
                .gso(segment)
                .redirected(&hop(data.inwards(&packet)))
                .check(datapath);
            Fixture::wan("segments that do not", &packet)
                .gso(segment + 1)
                .translated(&data.inwards(&packet))
                .counting(&[Counter::PassedTooBig])
                .check(datapath);
        }
    });
}

#[test]
fn a_flow_remembers_the_flags_it_saw() {
    let cases = [("an ACK", ACK), ("the end", FIN | ACK), ("a reset", RST)];
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        let (mut inbound, mut outbound) = data.flows(datapath).unwrap();
        for (name, flags) in cases {
            datapath.run(Hook::WanIngress, &data.inbound().flags(flags).bytes());
            datapath.run(Hook::LanIngress, &data.outbound().flags(flags).bytes());
            inbound.tcp_flags |= flags;
            outbound.tcp_flags |= flags;
            let (now, back) = data.flows(datapath).unwrap();
            assert_eq!(now.tcp_flags, inbound.tcp_flags, "{name} inbound");
            assert_eq!(back.tcp_flags, outbound.tcp_flags, "{name} outbound");
        }
    });
}

#[test]
fn flows_count_packets_and_bytes() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        let (start, _) = data.flows(datapath).unwrap();
        let before = datapath.counts();
        let packet = data.inbound().payload([1; 100]).padding(&[0; 9]);
        for _ in 0..3 {
            datapath.run(Hook::WanIngress, &packet.bytes());
        }
        let (end, _) = data.flows(datapath).unwrap();
        assert_eq!(end.packets - start.packets, 3);
        assert_eq!(end.bytes - start.bytes, 3 * 140);
        let [(counter, by)] = datapath.counted_since(&before)[..] else {
            panic!("more than one counter moved");
        };
        assert_eq!(counter, Counter::InboundRedirected);
        assert_eq!((by.packets, by.bytes), (3, 3 * 140));
    });
}

#[test]
fn the_addresses_of_a_neighbour_that_is_known_are_written_until_they_are_old() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let (mut flow, _) = data.flows(datapath).unwrap();
            flow.macs = [1, 2, 3, 4, 5, 6].map(|it: u16| (0x0a00 + it).to_be());
            flow.route_epoch = datapath.settings().route_epoch;
            let now = flow.last_seen;
            let packet = data.inbound().payload([1; 100]);
            let out = hop(data.inwards(&packet)).bytes();
            let mut addressed = out.clone();
            for (place, word) in addressed[..12].chunks_mut(2).zip(flow.macs) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            for (name, fresh_until, epoch, expected) in [
                ("fresh", now.wrapping_add(100_000), 0, &addressed),
                ("old", now.wrapping_sub(1), 0, &out),
                ("of other routes", now.wrapping_add(100_000), 1, &out),
            ] {
                flow.fresh_until = fresh_until;
                data.set_inbound(
                    datapath,
                    Flow {
                        route_epoch: flow.route_epoch + epoch,
                        ..flow
                    },
                );
                Fixture::wan(name, &packet)
                    .redirected(&hop(data.inwards(&packet)))
                    .sent_straight(expected.clone())
                    .check(datapath);
            }
        }
    });
}

#[test]
fn an_end_that_is_out_of_window_is_passed_on_and_not_believed() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            datapath.run(Hook::LanIngress, &data.outbound().ack(1_000_000).bytes());
            for (seq, flags, believed) in [
                (1_000_000_u32.wrapping_add(1 << 23), RST, false),
                (1_000_000_u32.wrapping_sub(1 << 17), RST, false),
                (1_000_000_u32.wrapping_add(1 << 31), FIN | ACK, false),
                (1_000_000 + 100_000, FIN | ACK, true),
                (1_000_000 - 1, RST, true),
            ] {
                let (before, _) = data.flows(datapath).unwrap();
                let packet = data.inbound().seq(seq).flags(flags);
                let ignored: &[_] = if believed {
                    &[]
                } else {
                    &[Counter::PassedOutOfWindow]
                };
                Fixture::wan(format!("{seq} {flags:#x}"), &packet)
                    .redirected(&hop(data.inwards(&packet)))
                    .counting(ignored)
                    .check(datapath);
                let (after, _) = data.flows(datapath).unwrap();
                let end = after.tcp_flags & (FIN | RST) & !before.tcp_flags;
                assert_eq!(end != 0, believed, "{seq} {flags:#x}");
            }
        }
    });
}

#[test]
fn fragments_of_a_connection_pass_untranslated_and_counted() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        connect(datapath, &data);
        let packet = data.inbound().payload([5; 64]);
        for offset in [[0x20, 0], [0x20, 9], [0, 9]] {
            let mut frame = packet.bytes();
            frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&offset);
            Fixture::new(format!("{offset:?}"), Hook::WanIngress, frame)
                .counting(&[Counter::PassedFragment])
                .check(datapath);
        }
    });
}

/// Somebody outside who sends as the inside server does is not believed.
#[test]
fn a_tuple_that_comes_by_the_other_side_is_of_no_connection() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            Fixture::wan("the server's, from outside", &data.outbound().payload("x"))
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            let client = data.inbound().payload("x");
            Fixture::lan("the client's, from the inside", &client).check(datapath);
            Fixture::egress("the client's, on its way out", &client).check(datapath);
        }
    });
}

#[test]
fn packets_of_a_connection_that_was_ended_are_noted_and_dropped() {
    on_router(|datapath| {
        for data in connections() {
            connect(datapath, &data);
            let (mut inbound, mut outbound) = data.flows(datapath).unwrap();
            for flow in [&mut inbound, &mut outbound] {
                flow.flags |= flow_flag::CUT;
            }
            data.set_inbound(datapath, inbound);
            data.set_outbound(datapath, outbound);
            let packets = [
                Fixture::wan("from outside", &data.inbound().ack(7001).payload("x")),
                Fixture::lan("from inside", &data.outbound().ack(8001).payload("x")),
                Fixture::lan("a reset", &data.outbound().flags(RST | ACK).ack(8002)),
            ];
            for packet in packets {
                packet
                    .dropped()
                    .counting(&[Counter::DroppedCut])
                    .check(datapath);
            }
            let (inbound, outbound) = data.flows(datapath).unwrap();
            // What an end acknowledges is the number of a reset that it obeys.
            assert_eq!((inbound.acked, outbound.acked), (7001, 8002));
        }
    });
}
