//! Connections whose two ends are both translated: clients that the server must not see under their
//! own address, clients behind the gateway, and clients whose port is taken.

use std::net::SocketAddr;

use ftp_nat_common::{
    abi::{Publish, PublishKey, flow_flag, publish_flag, session_flag},
    counter::Counter,
    wire::addr::Port,
};

use crate::{
    fixture::Fixture,
    loaded::{Datapath, REMAP, on_router},
    packet::{ACK, ETHERNET, Packet, SYN},
    scene::{addr, endpoint, hop},
};

/// A control connection and what each side sees of it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    client: SocketAddr,
    public: SocketAddr,
    /// The client as the server sees it.
    alias: SocketAddr,
    server: SocketAddr,
    /// Where the client's packets come from.
    from: fn(&str, &Packet) -> Fixture,
}

fn wan(name: &str, packet: &Packet) -> Fixture {
    Fixture::wan(name, packet)
}

fn lan(name: &str, packet: &Packet) -> Fixture {
    Fixture::lan(name, packet)
}

impl Seen {
    fn new(from: fn(&str, &Packet) -> Fixture, [client, public, alias, server]: [&str; 4]) -> Self {
        let [client, public, alias, server] =
            [client, public, alias, server].map(|end| end.parse().unwrap());
        Self {
            client,
            public,
            alias,
            server,
            from,
        }
    }

    fn publish(&self, datapath: &mut Datapath, flags: u16) {
        let near = match self.server {
            SocketAddr::V4(_) => "10.0.0.1:0",
            SocketAddr::V6(_) => "[fd00:10::1]:0",
        };
        let key = PublishKey {
            addr: addr(self.public),
            port: Port::new(self.public.port()),
            pad: 0,
        };
        let publish = Publish {
            server: endpoint(self.server),
            advertise: addr("203.0.113.9:0".parse().unwrap()),
            near: addr(near.parse().unwrap()),
            flags,
            ..Publish::default()
        };
        datapath.publish(key, publish);
    }

    fn inbound(&self) -> Packet {
        Packet::new(self.client, self.public)
    }

    fn outbound(&self) -> Packet {
        Packet::new(self.server, self.alias)
    }

    /// What the server gets of a packet.
    fn inwards(&self, packet: &Packet) -> Packet {
        hop(packet.clone().sent_by(self.alias).sent_to(self.server))
    }

    /// What the client gets of one.
    fn outwards(&self, packet: &Packet) -> Packet {
        hop(packet.clone().sent_by(self.public).sent_to(self.client))
    }

    /// The whole handshake, and a segment without payload each way.
    fn connect(&self, datapath: &Datapath) {
        let syn = self.inbound().syn().seq(6);
        (self.from)("SYN", &syn)
            .redirected(&self.inwards(&syn))
            .counting(&[Counter::HandshakeStarted])
            .check(datapath);
        (self.from)("the SYN again", &syn)
            .redirected(&self.inwards(&syn))
            .check(datapath);
        let answer = self.outbound().flags(SYN | ACK).seq(99).ack(7);
        Fixture::lan("the server's answer", &answer)
            .redirected(&self.outwards(&answer))
            .check(datapath);
        let ack = self.inbound().seq(7).ack(100);
        (self.from)("the end of the handshake", &ack)
            .redirected(&self.inwards(&ack))
            .counting(&[Counter::SessionOpened])
            .check(datapath);
        self.talk(datapath);
    }

    fn talk(&self, datapath: &Datapath) {
        let reply = self.outbound().seq(100).ack(7);
        Fixture::lan("an acknowledgement of the server's", &reply)
            .redirected(&self.outwards(&reply))
            .check(datapath);
        let packet = self.inbound().seq(7).ack(100);
        (self.from)("one of the client's", &packet)
            .redirected(&self.inwards(&packet))
            .check(datapath);
    }
}

fn toward_gateway() -> [Seen; 2] {
    [
        Seen::new(
            wan,
            [
                "198.51.100.20:40000",
                "198.51.100.1:21",
                "10.0.0.1:61000",
                "10.0.0.5:21",
            ],
        ),
        Seen::new(
            wan,
            [
                "[2001:db8:1::20]:40000",
                "[2001:db8:1::1]:21",
                "[fd00:10::1]:61000",
                "[fd00:10::5]:21",
            ],
        ),
    ]
}

fn on_one_network() -> [Seen; 2] {
    [
        Seen::new(
            lan,
            [
                "10.0.0.77:40000",
                "198.51.100.1:21",
                "10.0.0.1:61000",
                "10.0.0.5:21",
            ],
        ),
        Seen::new(
            lan,
            [
                "[fd00:10::77]:40000",
                "[2001:db8:1::1]:21",
                "[fd00:10::1]:61000",
                "[fd00:10::5]:21",
            ],
        ),
    ]
}

#[test]
fn the_server_sees_the_gateway_where_it_must_not_see_its_clients() {
    on_router(|datapath| {
        for seen in toward_gateway() {
            seen.publish(datapath, publish_flag::TOWARD_GATEWAY);
            seen.connect(datapath);
            let (_, session) = datapath.sessions.all()[0];
            assert_eq!(session.outside, endpoint(seen.client));
            assert_eq!(session.alias, endpoint(seen.alias));
            assert_eq!(session.flags & session_flag::HAIRPIN, 0);
            datapath.forget_connections();
        }
    });
}

#[test]
fn a_client_behind_the_gateway_reaches_the_public_address() {
    on_router(|datapath| {
        for seen in on_one_network() {
            seen.publish(datapath, 0);
            seen.connect(datapath);
            let (_, session) = datapath.sessions.all()[0];
            assert_eq!(session.flags & session_flag::HAIRPIN, session_flag::HAIRPIN);
            // Not the address that clients outside are told.
            assert_eq!(session.advertise, addr(seen.public));
            datapath.forget_connections();
        }
    });
}

#[test]
fn a_port_that_one_client_has_at_the_server_another_does_not_get() {
    on_router(|datapath| {
        for seen in toward_gateway() {
            seen.publish(datapath, publish_flag::TOWARD_GATEWAY);
            seen.connect(datapath);
            let mut late = seen;
            late.client.set_port(40_001);
            let syn = late.inbound().syn();
            // The range has no other.
            Fixture::wan("a second client", &syn)
                .dropped()
                .counting(&[Counter::DeniedNoPort])
                .check(datapath);
            seen.talk(datapath);
            datapath.forget_connections();
            late.connect(datapath);
            datapath.forget_connections();
        }
    });
}

#[test]
fn one_port_of_a_client_reaches_a_server_by_two_public_ends() {
    on_router(|datapath| {
        for mut one in toward_gateway() {
            one.alias = one.client;
            let mut other = one;
            other.public.set_port(2121);
            other.alias.set_port(REMAP);
            one.publish(datapath, 0);
            other.publish(datapath, 0);
            one.connect(datapath);
            other.connect(datapath);
            one.talk(datapath);
            assert_eq!(datapath.sessions.len(), 2);
            datapath.forget_connections();
        }
    });
}

#[test]
fn what_the_stack_cannot_forward_is_dropped() {
    on_router(|datapath| {
        for seen in toward_gateway().into_iter().chain(on_one_network()) {
            seen.publish(datapath, publish_flag::TOWARD_GATEWAY);
            seen.connect(datapath);
            let old = seen.inbound().seq(7).ack(100).ttl(1);
            (seen.from)("too old", &old)
                .dropped()
                .counting(&[Counter::DroppedNoWay])
                .check(datapath);
            let big = seen.outbound().seq(100).ack(7);
            let headers = big.bytes().len() - ETHERNET;
            let big = big.payload(vec![b'x'; 1501 - headers]);
            Fixture::lan("too big", &big)
                .dropped()
                .counting(&[Counter::DroppedNoWay])
                .check(datapath);
            datapath.forget_connections();
        }
    });
}

#[test]
fn a_syn_from_the_inside_is_its_stacks_where_its_source_does_not_lead_back() {
    on_router(|datapath| {
        for seen in on_one_network() {
            seen.publish(datapath, 0);
            let mut elsewhere = seen;
            elsewhere.client.set_ip(match seen.client {
                SocketAddr::V4(_) => "198.51.100.20".parse().unwrap(),
                SocketAddr::V6(_) => "2001:db8:1::20".parse().unwrap(),
            });
            Fixture::lan("a source of the outside", &elsewhere.inbound().syn()).check(datapath);
            seen.publish(datapath, publish_flag::KERNEL_NAT);
            Fixture::lan("the kernel's own", &seen.inbound().syn()).check(datapath);
        }
    });
}

#[test]
fn both_directions_of_a_hairpin_come_from_the_inside() {
    on_router(|datapath| {
        for seen in on_one_network() {
            seen.publish(datapath, 0);
            seen.connect(datapath);
            let both = flow_flag::HAIRPIN | flow_flag::NO_STACK;
            let flows = match seen.client {
                SocketAddr::V4(_) => datapath.flows4.all().iter().map(|it| it.1).collect(),
                SocketAddr::V6(_) => datapath
                    .flows6
                    .all()
                    .iter()
                    .map(|it| it.1)
                    .collect::<Vec<_>>(),
            };
            assert_eq!(flows.len(), 2);
            for flow in flows {
                assert_eq!(flow.flags & both, both);
                assert_eq!(flow.out_ifindex, datapath.lan);
            }
            let packet = seen.inbound().seq(7).ack(100);
            Fixture::wan("the same tuple from outside", &packet)
                .dropped()
                .counting(&[Counter::DeniedSource])
                .check(datapath);
            datapath.forget_connections();
        }
    });
}
