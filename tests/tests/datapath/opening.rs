//! SYNs: which of them make a connection known, and what is known of it then.

use ftp_nat_common::{
    abi::{
        Listed, Mapping, Settings, direction_flag, event, flow_flag, kind, list, listed_flag,
        publish_flag, role, scope, session_flag, setting,
    },
    counter::Counter,
};

use crate::{
    fixture::Fixture,
    loaded::{DROP, Hook, REMAP, ROOM, on_router},
    packet::{ACK, RST, SYN},
    scene::{SESSION, addr, control_v4, control_v6, endpoint, hop},
};

#[test]
fn the_first_packet_of_a_session_may_go_through_the_firewall_and_no_other() {
    on_router(|datapath| {
        datapath.set(Settings {
            flags: setting::SYN_BY_STACK,
            ..datapath.settings()
        });
        for control in [control_v4(), control_v6()] {
            control.publish(datapath, 0);
            let syn = control.inbound().syn().seq(70_001);
            Fixture::wan("SYN", &syn)
                .translated(&control.inwards(&syn))
                .counting(&[Counter::HandshakeStarted])
                .check(datapath);
            assert_eq!(control.flows(datapath), None);
            let answer = control.outbound().flags(SYN | ACK).seq(90_001).ack(70_002);
            Fixture::lan("SYN and ACK", &answer)
                .redirected(&hop(control.outwards(&answer)))
                .check(datapath);
            let ack = control.inbound().seq(70_002).ack(90_002);
            Fixture::wan("ACK", &ack)
                .redirected(&hop(control.inwards(&ack)))
                .counting(&[Counter::SessionOpened])
                .check(datapath);
            let data = control.data(50_111, 50_000, 50_000);
            data.announce_passive(datapath);
            let syn = data.inbound().syn();
            Fixture::wan("data", &syn)
                .redirected(&hop(data.inwards(&syn)))
                .counting(&[Counter::PassiveUsed])
                .check(datapath);
        }
    });
}

#[test]
fn a_finished_handshake_with_a_published_address_begins_a_session() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            let (client, server) = (0xffff_fff0_u32, 5000);
            let syn = control.inbound().syn().seq(client);
            Fixture::wan("SYN", &syn)
                .redirected(&hop(control.inwards(&syn)))
                .counting(&[Counter::HandshakeStarted])
                .check(datapath);
            assert_eq!(
                (datapath.sessions.len(), control.flows(datapath)),
                (0, None)
            );
            let answer = control
                .outbound()
                .flags(SYN | ACK)
                .seq(server)
                .ack(client.wrapping_add(1));
            Fixture::lan("SYN and ACK", &answer)
                .redirected(&hop(control.outwards(&answer)))
                .check(datapath);
            assert_eq!(
                (datapath.sessions.len(), control.flows(datapath)),
                (0, None)
            );
            let ack = control
                .inbound()
                .seq(client.wrapping_add(1))
                .ack(server + 1);
            Fixture::wan("ACK", &ack)
                .redirected(&hop(control.inwards(&ack)))
                .counting(&[Counter::SessionOpened])
                .check(datapath);

            let [(number, session)] = datapath.sessions.all()[..] else {
                panic!("{} sessions", datapath.sessions.len());
            };
            assert_eq!(session.outside, endpoint(control.outside));
            assert_eq!(session.public, endpoint(control.public));
            assert_eq!(session.inside, endpoint(control.inside));
            assert_eq!(session.advertise, addr(control.public));
            assert_eq!((session.role, session.flags), (role::PUBLISH, 0));
            let tracked = direction_flag::STARTED | direction_flag::TRACKED;
            assert_eq!(session.commands.flags, tracked);
            assert_eq!(session.commands.isn, client);
            assert_eq!(session.replies.flags, tracked);
            assert_eq!(session.replies.isn, server);

            let (inbound, outbound) = control.flows(datapath).unwrap();
            assert_eq!((inbound.session, outbound.session), (number, number));
            assert_eq!((inbound.kind, inbound.flags), (kind::CONTROL, 0));
            assert_eq!(
                (outbound.kind, outbound.flags),
                (kind::CONTROL, flow_flag::REPLIES | flow_flag::OUTBOUND)
            );
            assert_eq!(inbound.source(), endpoint(control.outside));
            assert_eq!(inbound.destination(), endpoint(control.inside));
            assert_eq!(outbound.source(), endpoint(control.public));
            assert_eq!(outbound.destination(), endpoint(control.outside));
            assert_eq!(inbound.out_ifindex, datapath.lan);
            assert_eq!(outbound.out_ifindex, datapath.wan);
            assert_eq!((inbound.out_mtu, outbound.out_mtu), (1500, 1500));
            assert_eq!(inbound.tcp_flags, ACK);
            assert_eq!(inbound.packets, 1);
            let ip_length = ack.bytes().len() as u64 - 14;
            assert_eq!(inbound.bytes, ip_length);
        }
    });
}

#[test]
fn no_other_segment_finishes_a_handshake() {
    let (client, server) = (1000_u32, 5000_u32);
    let next = (client + 1, server + 1);
    // From outside: numbers and flags; what is counted.
    let cases = [
        ("another acknowledgement", next.0, server, ACK),
        ("an acknowledgement ahead", next.0, server + 2, ACK),
        ("another number", client, next.1, ACK),
        ("a number ahead", next.0 + 1, next.1, ACK),
        ("SYN and ACK", client, next.1, SYN | ACK),
        ("no ACK", next.0, next.1, 0),
        ("a reset with another number", client, 0, RST),
    ];
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            let syn = control.inbound().syn().seq(client);
            datapath.run(Hook::WanIngress, &syn.bytes());
            let early = control.inbound().seq(next.0).ack(next.1);
            datapath.run(Hook::WanIngress, &early.bytes());
            assert_eq!(datapath.sessions.len(), 0, "before the server's answer");
            let answer = control.outbound().flags(SYN | ACK).seq(server);
            datapath.run(Hook::LanIngress, &answer.clone().ack(client).bytes());
            datapath.run(Hook::WanIngress, &early.bytes());
            assert_eq!(datapath.sessions.len(), 0, "the answer to another SYN");
            datapath.run(Hook::LanIngress, &answer.ack(next.0).bytes());
            for (name, seq, ack, flags) in cases {
                let packet = control.inbound().seq(seq).ack(ack).flags(flags);
                Fixture::wan(name, &packet)
                    .redirected(&hop(control.inwards(&packet)))
                    .check(datapath);
                assert_eq!(datapath.sessions.len(), 0, "{name}");
                assert_eq!(control.flows(datapath), None, "{name}");
            }
            datapath.run(Hook::WanIngress, &early.bytes());
            assert_eq!(datapath.sessions.len(), 1);
        }
    });
}

#[test]
fn a_syn_for_a_live_session_changes_nothing_until_the_server_begins_anew() {
    on_router(|datapath| {
        let control = control_v4();
        control.publish(datapath, 0);
        control.connect(datapath, [7, 8]);
        let (number, before) = datapath.sessions.all()[0];
        let syn = control.inbound().syn().seq(99_000_000);
        for name in ["a SYN with another number", "the same again"] {
            let fixture = Fixture::wan(name, &syn).redirected(&hop(control.inwards(&syn)));
            if name.starts_with('a') {
                fixture.counting(&[Counter::HandshakeStarted])
            } else {
                fixture
            }
            .check(datapath);
        }
        assert_eq!(datapath.sessions.all(), [(number, before)]);
        // The server has forgotten the connection: it answers, and the client finishes.
        let answer = control.outbound().flags(SYN | ACK).seq(5).ack(99_000_001);
        datapath.run(Hook::LanIngress, &answer.bytes());
        assert_eq!(datapath.sessions.all(), [(number, before)]);
        let ack = control.inbound().seq(99_000_001).ack(6);
        datapath.run(Hook::WanIngress, &ack.bytes());
        let (inbound, outbound) = control.flows(datapath).unwrap();
        assert_ne!(inbound.session, number);
        assert_eq!(inbound.session, outbound.session);
    });
}

#[test]
fn the_kind_of_publishing_is_the_sessions_kind() {
    let control = control_v4();
    let cases = [
        (publish_flag::ANY_PEER, session_flag::ANY_PEER, true),
        (publish_flag::KERNEL_NAT, session_flag::KERNEL_NAT, false),
        (publish_flag::LOCAL, session_flag::LOCAL, false),
    ];
    on_router(|datapath| {
        for (published, expected, is_translated) in cases {
            datapath.forget_connections();
            control.publish(datapath, published);
            let syn = control.inbound().syn();
            let fixture = Fixture::wan(format!("flags {published}"), &syn)
                .counting(&[Counter::HandshakeStarted]);
            if is_translated {
                fixture.redirected(&hop(control.inwards(&syn)))
            } else {
                fixture
            }
            .check(datapath);
            let mut seen = control;
            if !is_translated {
                seen.inside = seen.public;
            }
            seen.connect(datapath, [1, 2]);
            assert_eq!(datapath.sessions.all()[0].1.flags, expected);
        }
    });
}

#[test]
fn an_announced_connection_comes_once_and_only_from_its_peer() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let data = control.data(50_111, 50_000, 50_000);
            let key = data.announce_passive(datapath);
            let syn = data.inbound().syn();

            let stranger = match control.outside {
                std::net::SocketAddr::V4(_) => "198.51.100.21:50111",
                std::net::SocketAddr::V6(_) => "[2001:db8:1::21]:50111",
            };
            Fixture::wan(
                "from another",
                &syn.clone().sent_by(stranger.parse().unwrap()),
            )
            .counting(&[Counter::DeniedUnannounced])
            .check(datapath);
            datapath.mark_port(50_001, 1);
            let elsewhere = control.data(50_111, 50_001, 50_001);
            Fixture::wan("to another port", &elsewhere.inbound().syn())
                .counting(&[Counter::DeniedUnannounced])
                .check(datapath);
            Fixture::wan("not a SYN", &data.inbound())
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            Fixture::wan("a SYN with an ACK", &data.inbound().flags(SYN | ACK))
                .counting(&[Counter::PassedNoFlow])
                .check(datapath);
            assert!(datapath.mappings.get(&key).is_some());
            assert!(data.flows(datapath).is_none());

            Fixture::wan("from the peer", &syn)
                .redirected(&hop(data.inwards(&syn)))
                .counting(&[Counter::PassiveUsed])
                .check(datapath);
            assert!(datapath.mappings.get(&key).is_none());
            let (inbound, outbound) = data.flows(datapath).unwrap();
            assert_eq!(
                (inbound.kind, outbound.kind),
                (kind::PASSIVE, kind::PASSIVE)
            );
            assert_eq!((inbound.session, outbound.session), (SESSION, SESSION));

            let another = control.data(50_112, 50_000, 50_000);
            Fixture::wan("a second connection", &another.inbound().syn())
                .counting(&[Counter::DeniedUnannounced])
                .check(datapath);
            assert!(another.flows(datapath).is_none());
        }
    });
}

#[test]
fn an_announcement_expires() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        let key = data.announce_passive(datapath);
        let mapping = datapath.mappings.get(&key).unwrap();
        datapath.mappings.set(
            key,
            Mapping {
                expires: 1,
                ..mapping
            },
        );
        Fixture::wan("too late", &data.inbound().syn())
            .counting(&[Counter::DeniedExpired])
            .check(datapath);
        assert!(datapath.mappings.get(&key).is_none());
        assert!(data.flows(datapath).is_none());
    });
}

#[test]
fn anybody_may_use_a_pinhole_that_names_nobody() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        let mut key = data.announce_passive(datapath);
        let mapping = datapath.mappings.get(&key).unwrap();
        datapath.mappings.clear();
        key.src = Default::default();
        datapath.mappings.set(key, mapping);
        let syn = data.inbound().syn();
        Fixture::wan("from somebody", &syn)
            .redirected(&hop(data.inwards(&syn)))
            .counting(&[Counter::PassiveUsed])
            .check(datapath);
        assert_eq!(datapath.mappings.len(), 0);
    });
}

#[test]
fn a_second_syn_on_a_live_data_connection_is_denied() {
    on_router(|datapath| {
        let data = control_v4().data(50_111, 50_000, 50_000);
        data.announce_passive(datapath);
        let syn = data.inbound().syn();
        let out = hop(data.inwards(&syn));
        Fixture::wan("SYN", &syn)
            .redirected(&out)
            .counting(&[Counter::PassiveUsed])
            .check(datapath);
        Fixture::wan("the SYN again", &syn)
            .redirected(&out)
            .check(datapath);
        let ack = data.inbound();
        Fixture::wan("the handshake's last ACK", &ack)
            .redirected(&hop(data.inwards(&ack)))
            .check(datapath);
        Fixture::wan("a SYN on the live connection", &syn)
            .counting(&[Counter::DeniedUnannounced])
            .check(datapath);
        assert!(data.flows(datapath).is_some());

        data.announce_passive(datapath);
        Fixture::wan("the same ports announced again", &syn)
            .redirected(&out)
            .counting(&[Counter::PassiveUsed, Counter::Replaced])
            .check(datapath);
        let (inbound, _) = data.flows(datapath).unwrap();
        assert_eq!((inbound.tcp_flags, inbound.packets), (SYN, 1));

        let reset = data.inbound().flags(RST);
        Fixture::wan("a reset", &reset)
            .redirected(&hop(data.inwards(&reset)))
            .check(datapath);
        Fixture::wan("a SYN behind the reset", &syn)
            .counting(&[Counter::DeniedUnannounced])
            .check(datapath);
    });
}

#[test]
fn the_servers_own_connection_goes_out_from_the_public_address() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let data = control.data(45_000, 20, 20);
            let key = data.announce_active(datapath);
            let syn = data.outbound().syn();
            Fixture::lan("SYN", &syn)
                .redirected(&hop(data.outwards(&syn)))
                .counting(&[Counter::ActiveUsed])
                .check(datapath);
            assert!(datapath.mappings.get(&key).is_none());
            let (inbound, _) = data.flows(datapath).unwrap();
            assert_eq!(inbound.kind, kind::ACTIVE);
            let answer = data.inbound().flags(SYN | ACK);
            Fixture::wan("its answer", &answer)
                .redirected(&hop(data.inwards(&answer)))
                .check(datapath);

            // A second server behind the same address has the same port to the same client.
            let mut second = control.data(45_000, REMAP, 20);
            second.inside.set_ip(match control.inside {
                std::net::SocketAddr::V4(_) => "10.0.0.6".parse().unwrap(),
                std::net::SocketAddr::V6(_) => "fd00:10::6".parse().unwrap(),
            });
            second.announce_active(datapath);
            let syn = second.outbound().syn();
            Fixture::lan("another server's SYN", &syn)
                .redirected(&hop(second.outwards(&syn)))
                .counting(&[Counter::ActiveUsed, Counter::Remapped])
                .check(datapath);
            assert!(second.flows(datapath).is_some());
            assert_ne!(datapath.port_marks(REMAP), 0);
        }
    });
}

#[test]
fn nothing_is_translated_when_there_is_no_room_for_flows() {
    on_router(|datapath| {
        let control = control_v4();
        control.publish(datapath, 0);
        for port in 0..ROOM as u16 / 2 {
            let data = control.data(10_000 + port, 50_000, 50_000);
            data.announce_passive(datapath);
            datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
        }
        assert_eq!(datapath.flows4.len(), ROOM as usize);
        datapath.events();
        let late = control.data(9_000, 50_000, 50_000);
        let key = late.announce_passive(datapath);
        Fixture::wan("a SYN too many", &late.inbound().syn())
            .dropped()
            .counting(&[Counter::DeniedNoRoom])
            .check(datapath);
        assert!(datapath.mappings.get(&key).is_some(), "it waits on");
        let [syn, answer, ack] = control.handshake([1, 2]);
        datapath.run(Hook::WanIngress, &syn.bytes());
        datapath.run(Hook::LanIngress, &answer.bytes());
        Fixture::wan("a session too many", &ack)
            .dropped()
            .counting(&[Counter::DeniedNoRoom])
            .check(datapath);
        assert_eq!(datapath.sessions.len(), 0);
        assert_eq!(datapath.flows4.len(), ROOM as usize);
        // Whoever comes just then is not let in so far.
        let mut next = control;
        next.outside.set_port(41_000);
        Fixture::wan("the next client's SYN", &next.inbound().syn())
            .dropped()
            .counting(&[Counter::DeniedNoRoom])
            .check(datapath);
        let told: Vec<_> = datapath
            .events()
            .iter()
            .map(|it| (it.what, it.reason))
            .collect();
        let denied = (event::DENIED, Counter::DeniedNoRoom as u16);
        assert_eq!(told, [denied; 3], "each has one reason, and it is told");
    });
}

#[test]
fn a_source_that_cannot_be_outside_begins_no_handshake() {
    on_router(|datapath| {
        for (control, sources) in [
            (
                control_v4(),
                &[
                    "0.0.0.0",
                    "127.0.0.1",
                    "224.0.0.5",
                    "255.255.255.255",
                    "10.0.0.88",
                    "10.0.0.5",
                    "10.0.0.1",
                    "198.51.100.1",
                ][..],
            ),
            (
                control_v6(),
                &[
                    "::",
                    "::1",
                    "ff02::1",
                    "fd00:10::88",
                    "fd00:10::5",
                    "2001:db8:1::1",
                ],
            ),
        ] {
            control.publish(datapath, 0);
            for source in sources {
                let from = std::net::SocketAddr::new(source.parse().unwrap(), 31_337);
                Fixture::wan(*source, &control.inbound().sent_by(from).syn())
                    .dropped()
                    .counting(&[Counter::DeniedSource])
                    .check(datapath);
            }
        }
    });
}

#[test]
fn a_syn_with_text_is_dropped_and_comes_again_without() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            let syn = control.inbound().syn().payload("PASV\r\n");
            Fixture::wan("with text", &syn)
                .dropped()
                .counting(&[Counter::DeniedSynText])
                .check(datapath);
            control.connect(datapath, [1, 2]);
            assert_eq!(datapath.sessions.len(), 1);
        }
    });
}

#[test]
fn who_is_denied_or_left_out_of_an_allow_list_begins_nothing() {
    const OVER: u64 = 1;
    let there = Listed::default();
    let nobody = Listed {
        flags: listed_flag::NOBODY,
        ..there
    };
    let over = Listed {
        expires: OVER,
        ..there
    };
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            control.publish(datapath, 0);
            let client = addr(control.outside);
            for (list, of, listed, counter) in [
                (list::DENY, scope::ALL, there, Some(Counter::DeniedBanned)),
                (list::DENY, 1, there, Some(Counter::DeniedBanned)),
                // Its time is over; of another server.
                (list::DENY, scope::ALL, over, None),
                (list::DENY, 2, there, None),
                (list::ALLOW, scope::ALL, there, None),
                (list::ALLOW, 1, nobody, Some(Counter::DeniedNotAllowed)),
                (
                    list::ALLOW,
                    scope::ALL,
                    over,
                    Some(Counter::DeniedNotAllowed),
                ),
                (list::ALLOW, 2, nobody, None),
            ] {
                datapath.forget_connections();
                let key = datapath.list(list, of, client, listed);
                let syn = control.inbound().syn();
                let before = datapath.counts();
                let outcome = datapath.run(Hook::WanIngress, &syn.bytes());
                let counted = datapath.counted_since(&before);
                let counted = counted.iter().map(|(counter, _)| *counter);
                let hits = datapath.unlist(&key).hits;
                let case = format!("{client}: {list} {of} {listed:?}");
                match counter {
                    Some(counter) => {
                        assert_eq!(outcome.verdict, DROP, "{case}");
                        assert_eq!(counted.collect::<Vec<_>>(), [counter], "{case}");
                        assert_eq!(hits, 1, "{case}");
                    }
                    None => {
                        assert_ne!(outcome.verdict, DROP, "{case}");
                        assert_eq!(hits, 0, "{case}");
                    }
                }
            }
        }
    });
}

#[test]
fn who_was_denied_since_its_syn_finishes_no_handshake_and_opens_no_announced_connection() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            datapath.forget_connections();
            control.publish(datapath, 0);
            let client = addr(control.outside);
            let [syn, answer, ack] = control.handshake([7, 9]);
            datapath.run(Hook::WanIngress, &syn.bytes());
            datapath.run(Hook::LanIngress, &answer.bytes());
            let key = datapath.list(list::DENY, scope::ALL, client, Listed::default());
            Fixture::wan("the handshake's end", &ack)
                .dropped()
                .counting(&[Counter::DeniedBanned])
                .check(datapath);
            assert_eq!(datapath.sessions.len(), 0);
            let data = control.data(50_111, 50_000, 50_000);
            data.announce_passive(datapath);
            Fixture::wan("the announced connection", &data.inbound().syn())
                .dropped()
                .counting(&[Counter::DeniedBanned])
                .check(datapath);
            datapath.unlist(&key);
        }
    });
}
