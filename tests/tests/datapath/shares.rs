//! What one client may have of the tables, and that others have the rest.

use std::{net::SocketAddr, process::Command};

use ftp_nat_common::{
    abi::{HALF_OPEN_SECONDS, Mapping, Settings, Share, event, share_of},
    bucket,
    counter::Counter::{
        self, DeniedClientConnections, DeniedClientSessions, DeniedRate, DeniedUnannounced,
        EventsWithheld, HandshakeBeyond, HandshakeStarted, PassiveUsed, Refused227, SessionOpened,
    },
};

use ftp_nat_tests::lab::WAN;

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, on_router},
    packet::RST,
    scene::{Ends, addr, control_v4, control_v6, hop},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [100, 200];

/// The same server's connection with another client, or with the same one from another port.
fn from(ends: Ends, outside: &str) -> Ends {
    Ends {
        outside: outside.parse().unwrap(),
        ..ends
    }
}

/// Publishes with these bounds for a client.
fn publish(datapath: &mut Datapath, ends: Ends, sessions: u32, connections: u32) {
    ends.publish(datapath, 0);
    let [(key, mut entry)] = datapath.published.all()[..] else {
        panic!("{} are published", datapath.published.len());
    };
    entry.client_sessions = sessions;
    entry.client_connections = connections;
    datapath.publish(key, entry);
}

fn share(datapath: &Datapath, of: SocketAddr) -> Share {
    datapath
        .shares
        .get(&share_of(&addr(of)))
        .unwrap_or_default()
}

/// What was told of what was denied: the reason, and the port that it was denied to.
fn denied(datapath: &Datapath) -> Vec<(u16, u16)> {
    let events = datapath.events();
    let denied = events.iter().filter(|it| it.what == event::DENIED);
    denied
        .map(|it| (it.reason, it.peer.port.number()))
        .collect()
}

/// A control connection of one client and of two others: for IPv6, the client has another address of
/// its network, and the last one is another network's.
fn clients() -> [(Ends, Ends, Ends); 2] {
    let (v4, v6) = (control_v4(), control_v6());
    [
        (v4, from(v4, "198.51.100.20:1"), from(v4, "198.51.100.21:1")),
        (
            v6,
            from(v6, "[2001:db8:1:0:ffff::77]:1"),
            from(v6, "[2001:db8:1:1::20]:1"),
        ),
    ]
}

/// The way to the last of the IPv6 clients.
fn route_to_the_other_network() {
    let route = ["-6", "route", "add", "2001:db8:1:1::/64", "dev", WAN];
    let added = Command::new("ip").args(route).status().unwrap();
    assert!(added.success());
}

#[test]
fn a_client_has_its_share_of_sessions_and_others_are_let_in() {
    on_router(|datapath| {
        route_to_the_other_network();
        for (one, same, other) in clients() {
            datapath.published.clear();
            datapath.forget_connections();
            publish(datapath, one, 2, 0);
            one.connect(datapath, ISN);
            let mut second = one;
            second.outside.set_port(50_000);
            second.connect(datapath, ISN);
            assert_eq!(share(datapath, one.outside).sessions, 2);
            datapath.events();
            for _ in 0..2 {
                Fixture::wan("one too many", &same.inbound().syn())
                    .dropped()
                    .counting(&[DeniedClientSessions])
                    .check(datapath);
            }
            assert_eq!(
                denied(datapath),
                [(DeniedClientSessions as u16, same.outside.port()); 2]
            );
            assert_eq!(share(datapath, one.outside).refused, 2);
            other.connect(datapath, ISN);
            assert_eq!(datapath.sessions.len(), 3);
            assert_eq!(share(datapath, other.outside).sessions, 1);
        }
    });
}

#[test]
fn handshakes_that_began_together_do_not_all_become_sessions() {
    on_router(|datapath| {
        let control = control_v4();
        publish(datapath, control, 2, 0);
        let all: Vec<_> = (0..3_u16)
            .map(|number| {
                let mut ends = control;
                ends.outside.set_port(50_000 + number);
                (ends, ends.handshake(ISN))
            })
            .collect();
        for (_, [syn, answer, _]) in &all {
            datapath.run(Hook::WanIngress, &syn.bytes());
            datapath.run(Hook::LanIngress, &answer.bytes());
        }
        for (at, (ends, [.., ack])) in all.iter().enumerate() {
            let fixture = Fixture::wan(format!("ACK {at}"), ack);
            if at < 2 {
                let out = hop(ends.inwards(ack));
                fixture.redirected(&out).counting(&[SessionOpened])
            } else {
                fixture.dropped().counting(&[DeniedClientSessions])
            }
            .check(datapath);
        }
        assert_eq!(datapath.sessions.len(), 2);
        assert_eq!(share(datapath, control.outside).sessions, 2);
    });
}

#[test]
fn a_client_has_its_share_of_data_connections_and_its_mapping_waits() {
    on_router(|datapath| {
        route_to_the_other_network();
        for (one, _, other) in clients() {
            datapath.published.clear();
            datapath.forget_connections();
            publish(datapath, one, 0, 2);
            one.connect(datapath, ISN);
            other.connect(datapath, ISN);
            let announce = |datapath: &mut Datapath, ends: Ends, number: u16| {
                let data = ends.data(50_000 + number, 51_000 + number, 51_000 + number);
                let key = data.announce_passive(datapath);
                let mapping = datapath.mappings.get(&key).unwrap();
                let mapping = Mapping {
                    client: share_of(&addr(ends.outside)),
                    most_connections: 2,
                    ..mapping
                };
                datapath.mappings.set(key, mapping);
                (data, key)
            };
            for number in 0..3 {
                let (data, key) = announce(datapath, one, number);
                let syn = data.inbound().syn();
                let fixture = Fixture::wan(format!("SYN {number}"), &syn);
                if number < 2 {
                    let out = hop(data.inwards(&syn));
                    fixture
                        .redirected(&out)
                        .counting(&[PassiveUsed])
                        .check(datapath);
                    continue;
                }
                datapath.events();
                fixture
                    .dropped()
                    .counting(&[DeniedClientConnections])
                    .check(datapath);
                assert!(datapath.mappings.get(&key).is_some(), "it waits on");
                let reason = (DeniedClientConnections as u16, data.outside.port());
                assert_eq!(denied(datapath), [reason]);
            }
            assert_eq!(share(datapath, one.outside).connections, 2);
            let (data, _) = announce(datapath, other, 9);
            let syn = data.inbound().syn();
            Fixture::wan("another client's", &syn)
                .redirected(&hop(data.inwards(&syn)))
                .counting(&[PassiveUsed])
                .check(datapath);
        }
    });
}

#[test]
fn what_takes_an_old_connections_place_is_not_counted_twice() {
    on_router(|datapath| {
        let control = control_v4();
        publish(datapath, control, 0, 5);
        control.connect(datapath, ISN);
        for _ in 0..3 {
            let data = control.data(50_000, 51_000, 51_000);
            let key = data.announce_passive(datapath);
            let mut mapping = datapath.mappings.get(&key).unwrap();
            mapping.client = addr(control.outside);
            datapath.mappings.set(key, mapping);
            datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
        }
        assert_eq!(share(datapath, control.outside).connections, 1);
    });
}

/// Settings with so many announcements a second of a client, and of a session.
fn rates(datapath: &mut Datapath, client: u32, session: u32) {
    let settings = datapath.settings();
    let second = bucket::ticks(settings.hz.into());
    datapath.set(Settings {
        client_interval: bucket::interval(second, client),
        session_interval: bucket::interval(second, session),
        ..settings
    });
}

#[test]
fn announcements_beyond_a_rate_fail_at_once_and_are_told() {
    on_router(|datapath| {
        for (client, session) in [(2, 0), (0, 2), (2, 1000), (1000, 2)] {
            rates(datapath, client, session);
            let mut talk = Talk::begin(datapath, control_v4(), ISN);
            for number in 0..2 {
                talk.passes(Client, "PASV\r\n");
                let reply = format!("227 Entering Passive Mode (10,0,0,5,195,{number}).\r\n");
                let packet = talk.segment(Server, &reply);
                talk.datapath.run(Hook::LanIngress, &packet.bytes());
                talk.next[1] = talk.next[1].wrapping_add(reply.len() as u32);
            }
            talk.datapath.events();
            talk.passes(Client, "PASV\r\n");
            let reply = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
            let refusal = "425 No data connection: the gateway cannot).\r\n";
            talk.says(Server, reply, refusal, &[DeniedRate, Refused227]);
            let peer = talk.ends.outside;
            assert_eq!(denied(talk.datapath).len(), 1);
            assert_eq!(share(talk.datapath, peer).refused, 1);
            assert_eq!(talk.mappings().len(), 1, "a session has one waiting");
        }
    });
}

/// Settings with so many handshakes of a client that wait in the common table.
fn half_open(datapath: &mut Datapath, most: u32) {
    let settings = datapath.settings();
    let span = bucket::ticks(u64::from(settings.hz) * HALF_OPEN_SECONDS);
    datapath.set(Settings {
        half_open_interval: bucket::interval(span, most),
        ..settings
    });
}

#[test]
fn half_handshakes_of_one_address_push_out_nobody_elses_and_it_can_still_finish_one() {
    on_router(|datapath| {
        let control = control_v4();
        control.publish(datapath, 0);
        half_open(datapath, 10);
        // Somebody far away has just begun.
        let far = from(control, "198.51.100.99:4000");
        let [syn, answer, ack] = far.handshake(ISN);
        datapath.run(Hook::WanIngress, &syn.bytes());
        datapath.run(Hook::LanIngress, &answer.bytes());
        let before = datapath.counts();
        // More than there is room for in all.
        const FLOOD: u64 = 100_000;
        for number in 0..FLOOD {
            let address = format!(
                "198.51.100.{}:{}",
                200 + number / 50_000,
                1024 + number % 50_000
            );
            let syn = from(control, &address).inbound().syn();
            datapath.run(Hook::WanIngress, &syn.bytes());
        }
        let counted = datapath.counted_since(&before);
        let beyond = counted
            .iter()
            .find(|(counter, _)| *counter == HandshakeBeyond);
        let beyond = beyond.map_or(0, |(_, by)| by.packets);
        assert!(
            beyond > FLOOD - 500,
            "{beyond} of {FLOOD} were beyond their share"
        );
        Fixture::wan("the far client's ACK", &ack)
            .redirected(&hop(far.inwards(&ack)))
            .counting(&[SessionOpened])
            .check(datapath);
        // Whoever has the flooder's address, or pretends to, gets in as long as he is quick.
        let own = from(control, "198.51.100.201:999");
        let [syn, answer, ack] = own.handshake(ISN);
        Fixture::wan("SYN", &syn)
            .redirected(&hop(own.inwards(&syn)))
            .counting(&[HandshakeStarted, HandshakeBeyond])
            .check(datapath);
        datapath.run(Hook::LanIngress, &answer.bytes());
        Fixture::wan("ACK", &ack)
            .redirected(&hop(own.inwards(&ack)))
            .counting(&[SessionOpened])
            .check(datapath);
    });
}

#[test]
fn handshakes_that_end_count_no_more() {
    on_router(|datapath| {
        let control = from(control_v4(), "198.51.100.98:2000");
        control.publish(datapath, 0);
        half_open(datapath, 4);
        let before = datapath.counts();
        for number in 0..40_u16 {
            let mut ends = control;
            ends.outside.set_port(2000 + number);
            if number % 2 == 0 {
                ends.connect(datapath, ISN);
            } else {
                let [syn, ..] = ends.handshake(ISN);
                datapath.run(Hook::WanIngress, &syn.bytes());
                let reset = ends.inbound().flags(RST).seq(ISN[0] + 1);
                datapath.run(Hook::WanIngress, &reset.bytes());
            }
        }
        let counted = datapath.counted_since(&before);
        assert!(
            counted
                .iter()
                .all(|(counter, _)| *counter != HandshakeBeyond)
        );
        assert_eq!(datapath.sessions.len(), 20);
    });
}

#[test]
fn a_flood_of_denials_leaves_room_for_what_was_let_in() {
    on_router(|datapath| {
        let control = control_v4();
        control.publish(datapath, 0);
        let before = datapath.counts();
        datapath.mark_port(50_000, 1);
        let syn = control.data(4000, 50_000, 50_000).inbound().syn().bytes();
        for _ in 0..20_000 {
            datapath.run(Hook::WanIngress, &syn);
        }
        let counted = datapath.counted_since(&before);
        let count = |of: Counter| {
            let found = counted.iter().find(|(counter, _)| *counter == of);
            found.map_or(0, |(_, by)| by.packets)
        };
        assert_eq!(count(DeniedUnannounced), 20_000);
        assert_eq!(count(Counter::EventsLost), 0, "the ring was never full");
        let told = datapath.events().len() as u64;
        assert_eq!(told + count(EventsWithheld), 20_000);
        assert!(told < 5_000, "{told} were told");
    });
}

#[test]
fn a_masqueraded_client_is_counted_by_its_own_address() {
    on_router(|datapath| {
        let ends = crate::scene::masqueraded_v4();
        let settings = datapath.settings();
        datapath.set(Settings {
            client_sessions: 1,
            ..settings
        });
        let talk = Talk::begin_masqueraded(datapath, ends, ISN);
        assert_eq!(share(talk.datapath, ends.inside).sessions, 1);
        let datapath = talk.datapath;
        let second = Ends {
            inside: SocketAddr::new(ends.inside.ip(), 45_000),
            public: SocketAddr::new(ends.public.ip(), 45_000),
            ..ends
        };
        let own = second.outbound().syn();
        datapath.run(Hook::LanIngress, &own.bytes());
        let syn = crate::packet::Packet::new(second.public, second.outside).syn();
        Fixture::egress("its second session", &syn)
            .dropped()
            .counting(&[DeniedClientSessions])
            .check(datapath);
    });
}
