//! Pools: several servers behind one public end.

use std::{collections::HashMap, net::SocketAddr, process::Command};

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{Pool, PublishKey, event, health, publish_flag},
    counter::Counter::{
        DeniedNoServer, DeniedNoTls, EditEqual, HandshakeStarted, HandshakeUnchecked,
        PassedEncrypted, PassiveOpened, PassiveUsed, PermitGranted, PermitUsed, Rewrote227,
        SessionEncrypted, SessionOpened,
    },
    wire::addr::Port,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, Hook, REMAP, on_router},
    packet::{ACK, Packet, SYN},
    scene::{Ends, addr, control_v4, control_v6, endpoint, hop},
    talk::{Client, Server, Talk},
};

/// A public end, and its servers.
struct Shared {
    ends: Ends,
    servers: Vec<SocketAddr>,
    pool: Pool,
}

impl Shared {
    /// Of this many servers, which all pass their checks.
    fn new(ends: Ends, count: u8) -> Self {
        let servers: Vec<SocketAddr> = (5..5 + count)
            .map(|last| match ends.inside {
                SocketAddr::V4(_) => format!("10.0.0.{last}:21"),
                SocketAddr::V6(_) => format!("[fd00:10::{last}]:21"),
            })
            .map(|text| text.parse().unwrap())
            .collect();
        let mut pool = Pool::zeroed();
        pool.count = count;
        for (entry, server) in pool.all_mut().iter_mut().zip(&servers) {
            entry.server = endpoint(*server);
            entry.health = health::UP;
        }
        Self {
            ends,
            servers,
            pool,
        }
    }

    fn key(&self) -> PublishKey {
        PublishKey {
            addr: addr(self.ends.public),
            port: Port::new(self.ends.public.port()),
            pad: 0,
        }
    }

    fn publish(&mut self, datapath: &mut Datapath, flags: u16) {
        let first = Ends {
            inside: self.servers[0],
            ..self.ends
        };
        first.publish(datapath, publish_flag::POOL | flags);
        self.write(datapath);
    }

    fn write(&mut self, datapath: &mut Datapath) {
        self.pool.fill();
        datapath.pools.set(self.key(), self.pool);
    }

    fn mark(&mut self, datapath: &mut Datapath, server: SocketAddr, health: u8, draining: u8) {
        for entry in self.pool.all_mut() {
            if entry.server == endpoint(server) {
                (entry.health, entry.draining) = (health, draining);
            }
        }
        self.write(datapath);
    }

    /// The server that the client's new sessions go to.
    fn chosen(&self) -> SocketAddr {
        let chosen = self.pool.server_for(&addr(self.ends.outside)).server;
        *self
            .servers
            .iter()
            .find(|it| endpoint(**it) == chosen)
            .unwrap()
    }

    /// The ends of such a session.
    fn session(&self) -> Ends {
        Ends {
            inside: self.chosen(),
            ..self.ends
        }
    }
}

#[test]
fn a_clients_sessions_go_to_the_server_that_the_table_says() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut shared = Shared::new(ends, 3);
            shared.publish(datapath, 0);
            let session = shared.session();
            for port in [40_000, 40_001] {
                let mut session = session;
                session.outside.set_port(port);
                session.connect(datapath, [7, 8]);
                let (inbound, outbound) = session.flows(datapath).unwrap();
                assert_eq!(inbound.destination(), endpoint(session.inside));
                assert_eq!(outbound.source(), endpoint(session.public));
            }
            for (_, its) in datapath.sessions.all() {
                assert_eq!(its.inside, endpoint(session.inside));
            }
            // Its server fails: the next one goes elsewhere, the others go on.
            shared.mark(datapath, session.inside, health::DOWN, 0);
            let mut next = shared.session();
            assert_ne!(next.inside, session.inside);
            next.outside.set_port(40_002);
            next.connect(datapath, [7, 8]);
            assert!(next.flows(datapath).is_some());
            let packet = session.inbound().seq(8).ack(9);
            Fixture::wan("a packet of the first session", &packet)
                .redirected(&hop(session.inwards(&packet)))
                .check(datapath);
            // And comes back: so do new sessions.
            shared.mark(datapath, session.inside, health::UP, 0);
            assert_eq!(shared.chosen(), session.inside);
        }
    });
}

#[test]
fn a_handshake_stays_with_its_server_whatever_becomes_of_the_pool() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut shared = Shared::new(ends, 2);
            shared.publish(datapath, 0);
            let old = shared.session();
            let syn = old.inbound().syn().seq(7);
            Fixture::wan("SYN", &syn)
                .redirected(&hop(old.inwards(&syn)))
                .counting(&[HandshakeStarted])
                .check(datapath);
            shared.mark(datapath, old.inside, health::DOWN, 0);
            let new = shared.session();
            assert_ne!(new.inside, old.inside);
            Fixture::wan("the same SYN", &syn)
                .redirected(&hop(old.inwards(&syn)))
                .check(datapath);
            let answer = old.outbound().flags(SYN | ACK).seq(99).ack(8);
            Fixture::lan("the server's answer", &answer)
                .redirected(&hop(old.outwards(&answer)))
                .check(datapath);
            let ack = old.inbound().seq(8).ack(100);
            Fixture::wan("the handshake's end", &ack)
                .redirected(&hop(old.inwards(&ack)))
                .counting(&[SessionOpened])
                .check(datapath);
            assert_eq!(
                datapath.sessions.all()[0].1.inside,
                endpoint(old.inside),
                "the session is with the server that has shaken hands"
            );
            // The client has forgotten the connection and begins another one from the same port.
            let another = new.inbound().syn().seq(70_000_000);
            Fixture::wan("another SYN", &another)
                .redirected(&hop(new.inwards(&another)))
                .counting(&[HandshakeStarted])
                .check(datapath);
            let answer = new.outbound().flags(SYN | ACK).seq(5).ack(70_000_001);
            datapath.run(Hook::LanIngress, &answer.bytes());
            let ack = new.inbound().seq(70_000_001).ack(6);
            datapath.run(Hook::WanIngress, &ack.bytes());
            let (inbound, _) = new.flows(datapath).unwrap();
            assert_eq!(inbound.destination(), endpoint(new.inside));
            assert_eq!(
                datapath.flows4.len() + datapath.flows6.len(),
                2,
                "nothing is left of the old connection"
            );
        }
    });
}

#[test]
fn data_connections_follow_their_session() {
    on_router(|datapath| {
        datapath.forget_connections();
        let mut shared = Shared::new(control_v4(), 4);
        shared.publish(datapath, 0);
        let session = shared.session();
        let mut talk = Talk::shake_hands(datapath, session, true, [1000, 2000]);
        talk.passes(Server, "220 ready\r\n");
        // Its server is taken out of the pool, and even the pool goes.
        shared.mark(talk.datapath, session.inside, health::UP, 1);
        let elsewhere = shared.session();
        assert_ne!(elsewhere.inside, session.inside);
        talk.datapath.pools.clear();
        talk.passes(Client, "PASV\r\n");
        let numbers = session.inside.ip().to_string().replace('.', ",");
        talk.says(
            Server,
            &format!("227 Entering Passive Mode ({numbers},195,80).\r\n"),
            "227 Entering Passive  (198,51,100,1,195,80).\r\n",
            &[PassiveOpened, Rewrote227, EditEqual],
        );
        let data = session.data(50_111, 50_000, 50_000);
        let syn = data.inbound().syn();
        Fixture::wan("the announced connection", &syn)
            .redirected(&hop(data.inwards(&syn)))
            .counting(&[PassiveUsed])
            .check(talk.datapath);
    });
}

/// A TLS record of this type.
fn record(kind: u8, len: u8) -> String {
    let header = [kind, 3, 3, 0, len].map(char::from);
    header.iter().collect::<String>() + &"z".repeat(len.into())
}

#[test]
fn a_passive_range_leads_to_the_sessions_server() {
    on_router(|datapath| {
        datapath.forget_connections();
        let mut shared = Shared::new(control_v4(), 4);
        shared.ends.publish_range(datapath, 50_000, 50_999);
        let mut published = datapath.published.get(&shared.key()).unwrap();
        published.flags |= publish_flag::POOL;
        published.server = endpoint(shared.servers[0]);
        datapath.published.set(shared.key(), published);
        shared.write(datapath);
        let session = shared.session();
        let mut talk = Talk::shake_hands(datapath, session, true, [1, 2]);
        talk.passes(Server, "220 ready\r\n");
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(Server, "234 go\r\n", "234 go\r\n", &[SessionEncrypted]);
        let (hello, change) = (record(22, 100), record(20, 1) + &record(22, 40));
        for (sender, text, counted) in [
            (Client, &hello, None),
            (Server, &hello, None),
            (Client, &change, None),
            (Server, &change, None),
            (Client, &record(23, 30), None),
            (Server, &record(23, 60), Some(PermitGranted)),
        ] {
            let counted: Vec<_> = counted.into_iter().chain([PassedEncrypted]).collect();
            talk.says(sender, text, text, &counted);
        }
        shared.mark(talk.datapath, session.inside, health::DOWN, 0);
        assert_ne!(shared.chosen(), session.inside);
        let data = session.data(4000, 50_500, 50_500);
        let syn = data.inbound().syn();
        Fixture::wan("a connection to the range", &syn)
            .redirected(&hop(data.inwards(&syn)))
            .counting(&[PermitUsed])
            .check(talk.datapath);
        let mut stranger = data;
        stranger.outside.set_ip("198.51.100.77".parse().unwrap());
        Fixture::wan("a stranger's", &stranger.inbound().syn())
            .counting(&[DeniedNoTls])
            .check(talk.datapath);
    });
}

#[test]
fn each_server_sees_this_machine_by_the_address_on_its_own_network() {
    on_router(|datapath| {
        datapath.forget_connections();
        let mut shared = Shared::new(control_v4(), 2);
        for (place, entry) in shared.pool.all_mut().iter_mut().enumerate() {
            let near = format!("10.0.{place}.1:0");
            entry.near = addr(near.parse().unwrap());
        }
        shared.publish(datapath, publish_flag::TOWARD_GATEWAY);
        let session = shared.session();
        let place = usize::from(session.inside != shared.servers[0]);
        let alias: SocketAddr = format!("10.0.{place}.1:{REMAP}").parse().unwrap();
        let syn = session.inbound().syn().seq(7);
        let arrives = |packet: &Packet| hop(packet.clone().sent_by(alias).sent_to(session.inside));
        Fixture::wan("SYN", &syn)
            .redirected(&arrives(&syn))
            .counting(&[HandshakeStarted])
            .check(datapath);
        shared.mark(datapath, session.inside, health::DOWN, 0);
        Fixture::wan("the same SYN", &syn)
            .redirected(&arrives(&syn))
            .check(datapath);
        let answer = Packet::new(session.inside, alias)
            .flags(SYN | ACK)
            .seq(99)
            .ack(8);
        let out = answer
            .clone()
            .sent_by(session.public)
            .sent_to(session.outside);
        Fixture::lan("the server's answer", &answer)
            .redirected(&hop(out))
            .check(datapath);
        let ack = session.inbound().seq(8).ack(100);
        Fixture::wan("the handshake's end", &ack)
            .redirected(&arrives(&ack))
            .counting(&[SessionOpened])
            .check(datapath);
    });
}

#[test]
fn where_no_server_passes_its_check_all_get_sessions_and_where_all_are_drained_none() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            datapath.forget_connections();
            let mut shared = Shared::new(ends, 2);
            shared.publish(datapath, 0);
            for server in shared.servers.clone() {
                shared.mark(datapath, server, health::DOWN, 0);
            }
            let syn = ends.inbound().syn();
            Fixture::wan("none passes", &syn)
                .redirected(&hop(shared.session().inwards(&syn)))
                .counting(&[HandshakeUnchecked, HandshakeStarted])
                .check(datapath);
            for server in shared.servers.clone() {
                shared.mark(datapath, server, health::UP, 1);
            }
            let another = ends.inbound().syn().seq(77);
            // What a closed port shows: nobody translates it.
            Fixture::wan("all are drained", &another)
                .counting(&[DeniedNoServer])
                .check(datapath);
            // The first one has a server already.
            Fixture::wan("the first SYN again", &syn)
                .redirected(&hop(shared.session().inwards(&syn)))
                .check(datapath);
            assert_eq!(datapath.sessions.len(), 0);
            assert!(datapath.events().iter().all(|it| it.what != event::SESSION));
        }
    });
}

#[test]
fn ten_thousand_clients_are_spread_within_five_percent_of_even() {
    const CLIENTS: u32 = 10_000;
    on_router(|datapath| {
        let route = ["route", "add", "198.18.0.0/15", "via", "198.51.100.20"];
        assert!(Command::new("ip").args(route).status().unwrap().success());
        for count in [2, 3, 4] {
            datapath.forget_connections();
            let mut shared = Shared::new(control_v4(), count);
            shared.publish(datapath, 0);
            let mut got: HashMap<[u8; 4], u32> = HashMap::new();
            for client in 0..CLIENTS {
                let mut ends = shared.ends;
                let ip = 0xc612_0000_u32 + client * 3;
                ends.outside.set_ip(std::net::Ipv4Addr::from(ip).into());
                let syn = ends.inbound().syn().seq(count.into());
                let outcome = datapath.run(Hook::WanIngress, &syn.bytes());
                let to = outcome.frame[30..34].try_into().unwrap();
                *got.entry(to).or_default() += 1;
            }
            assert_eq!(got.len(), usize::from(count), "{got:?}");
            let even = f64::from(CLIENTS) / f64::from(count);
            for (server, clients) in &got {
                let off = (f64::from(*clients) - even).abs() / even;
                assert!(off <= 0.05, "{server:?} has {clients} of {CLIENTS}");
            }
            println!("{CLIENTS} clients, {count} servers: {got:?}");
        }
    });
}
