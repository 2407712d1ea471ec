//! Who talks to whom: the lab's client and server, and the router's public address between them.

use std::net::SocketAddr;

use ftp_nat_common::{
    abi::{
        Flow, FlowKey4, FlowKey6, Mapping, MappingKey, Publish, PublishKey, kind, publish_flag,
        side,
    },
    wire::addr::{Addr, Endpoint, Port, PortPair},
};

use crate::{
    loaded::{Datapath, Hook, NEVER},
    packet::Packet,
    packet::{ACK, SYN},
};

/// The number of a session that nobody has.
pub(crate) const SESSION: u32 = 77;

/// A connection through the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The end outside.
    pub(crate) outside: SocketAddr,
    /// The inside end as the outside sees it.
    pub(crate) public: SocketAddr,
    /// The end behind the gateway.
    pub(crate) inside: SocketAddr,
}

/// A control connection over IPv4.
pub(crate) fn control_v4() -> Ends {
    Ends::new("198.51.100.20:40000", "198.51.100.1:21", "10.0.0.5:21")
}

/// A control connection over IPv6.
pub(crate) fn control_v6() -> Ends {
    Ends::new(
        "[2001:db8:1::20]:40000",
        "[2001:db8:1::1]:21",
        "[fd00:10::5]:21",
    )
}

/// A control connection of a masqueraded client.
pub(crate) fn masqueraded_v4() -> Ends {
    Ends::new(
        "198.51.100.30:2100",
        "198.51.100.1:40000",
        "10.0.0.105:39999",
    )
}

/// The same over IPv6.
pub(crate) fn masqueraded_v6() -> Ends {
    Ends::new(
        "[2001:db8:1::30]:2100",
        "[2001:db8:1::1]:40000",
        "[fd00:10::50]:39999",
    )
}

impl Ends {
    fn new(outside: &str, public: &str, inside: &str) -> Self {
        let [outside, public, inside] = [outside, public, inside].map(|end| end.parse().unwrap());
        Self {
            outside,
            public,
            inside,
        }
    }

    /// A data connection between the same hosts.
    pub(crate) fn data(self, outside: u16, public: u16, inside: u16) -> Self {
        Self {
            outside: SocketAddr::new(self.outside.ip(), outside),
            public: SocketAddr::new(self.public.ip(), public),
            inside: SocketAddr::new(self.inside.ip(), inside),
        }
    }

    /// A packet from the outside, as it reaches the gateway.
    pub(crate) fn inbound(&self) -> Packet {
        Packet::new(self.outside, self.public)
    }

    /// A packet from the inside, as it reaches the gateway.
    pub(crate) fn outbound(&self) -> Packet {
        Packet::new(self.inside, self.outside)
    }

    /// The handshake of a published server's client, with these initial sequence numbers.
    pub(crate) fn handshake(&self, [client, server]: [u32; 2]) -> [Packet; 3] {
        let (client_next, server_next) = (client.wrapping_add(1), server.wrapping_add(1));
        [
            self.inbound().syn().seq(client),
            self.outbound()
                .flags(SYN | ACK)
                .seq(server)
                .ack(client_next),
            self.inbound().flags(ACK).seq(client_next).ack(server_next),
        ]
    }

    /// Has a published server's client finish its handshake.
    pub(crate) fn connect(&self, datapath: &Datapath, isns: [u32; 2]) {
        let [syn, answer, ack] = self.handshake(isns);
        // What is not translated leaves by the WAN as it is.
        let outwards = if self.inside == self.public {
            Hook::WanEgress
        } else {
            Hook::LanIngress
        };
        datapath.run(Hook::WanIngress, &syn.bytes());
        datapath.run(outwards, &answer.bytes());
        datapath.run(Hook::WanIngress, &ack.bytes());
    }

    /// What becomes of a packet from the outside.
    pub(crate) fn inwards(self, packet: &Packet) -> Packet {
        packet.clone().sent_to(self.inside)
    }

    /// What becomes of a packet from the inside.
    pub(crate) fn outwards(self, packet: &Packet) -> Packet {
        packet.clone().sent_by(self.public)
    }

    /// The flows of both directions, inbound first.
    pub(crate) fn flows(&self, datapath: &Datapath) -> Option<(Flow, Flow)> {
        let inbound = find_flow(datapath, self.outside, self.public);
        inbound.zip(find_flow(datapath, self.inside, self.outside))
    }

    /// Puts another flow in the inbound one's place.
    pub(crate) fn set_inbound(&self, datapath: &mut Datapath, flow: Flow) {
        set_flow(datapath, self.outside, self.public, flow);
    }

    /// Puts another flow in the outbound one's place.
    pub(crate) fn set_outbound(&self, datapath: &mut Datapath, flow: Flow) {
        set_flow(datapath, self.inside, self.outside, flow);
    }

    /// Announces this data connection for the client to make.
    pub(crate) fn announce_passive(&self, datapath: &mut Datapath) -> MappingKey {
        let key = MappingKey {
            src: addr(self.outside),
            dst: addr(self.public),
            dport: Port::new(self.public.port()),
            pad: 0,
            side: side::INBOUND,
        };
        announce(datapath, key, endpoint(self.inside), kind::PASSIVE);
        key
    }

    /// Announces this data connection for the server to make.
    pub(crate) fn announce_active(&self, datapath: &mut Datapath) -> MappingKey {
        let key = MappingKey {
            src: addr(self.inside),
            dst: addr(self.outside),
            dport: Port::new(self.outside.port()),
            pad: 0,
            side: side::OUTBOUND,
        };
        let to = Endpoint::new(addr(self.public), Port::default());
        announce(datapath, key, to, kind::ACTIVE);
        key
    }

    /// Publishes the inside end, whose passive range is open to clients with a live TLS session.
    pub(crate) fn publish_range(&self, datapath: &mut Datapath, first: u16, last: u16) {
        self.publish(datapath, 0);
        let key = PublishKey {
            addr: addr(self.public),
            port: Port::new(self.public.port()),
            pad: 0,
        };
        let address = PublishKey {
            port: Port::new(0),
            ..key
        };
        let mut publish = datapath.published.get(&key).unwrap();
        (publish.passive_first, publish.passive_last) = (first, last);
        datapath.published.set(key, publish);
        let others = datapath.published.get(&address);
        let ranges = Publish {
            flags: publish_flag::RANGE,
            passive_first: others.map_or(first, |it| it.passive_first.min(first)),
            passive_last: others.map_or(last, |it| it.passive_last.max(last)),
            ..Publish::default()
        };
        datapath.published.set(address, ranges);
    }

    /// Publishes the inside end.
    pub(crate) fn publish(&self, datapath: &mut Datapath, flags: u16) {
        self.publish_denying(datapath, flags, 0);
    }

    /// The same with commands that are denied.
    pub(crate) fn publish_denying(&self, datapath: &mut Datapath, flags: u16, deny: u64) {
        let key = PublishKey {
            addr: addr(self.public),
            port: Port::new(self.public.port()),
            pad: 0,
        };
        let publish = Publish {
            server: endpoint(self.inside),
            advertise: addr(self.public),
            flags,
            deny,
            ..Publish::default()
        };
        datapath.publish(key, publish);
    }
}

fn announce(datapath: &mut Datapath, key: MappingKey, to: Endpoint, kind: u8) {
    let mapping = Mapping {
        to,
        session: SESSION,
        kind,
        expires: u64::MAX - NEVER,
        ..Mapping::default()
    };
    datapath.mappings.set(key, mapping);
    datapath.mark_port(key.dport.number(), 1);
    datapath.mark_port(to.port.number(), 1);
}

/// The flow of packets from `src` to `dst`.
fn find_flow(datapath: &Datapath, src: SocketAddr, dst: SocketAddr) -> Option<Flow> {
    match key(src, dst) {
        Key::V4(key) => datapath.flows4.get(&key),
        Key::V6(key) => datapath.flows6.get(&key),
    }
}

fn set_flow(datapath: &mut Datapath, src: SocketAddr, dst: SocketAddr, flow: Flow) {
    match key(src, dst) {
        Key::V4(key) => datapath.flows4.set(key, flow),
        Key::V6(key) => datapath.flows6.set(key, flow),
    }
}

enum Key {
    V4(FlowKey4),
    V6(FlowKey6),
}

fn key(src: SocketAddr, dst: SocketAddr) -> Key {
    let (src, dst) = (endpoint(src), endpoint(dst));
    if src.addr.is_v4() {
        Key::V4(FlowKey4 {
            src: src.addr.v4(),
            dst: dst.addr.v4(),
            ports: PortPair::new(src.port, dst.port),
        })
    } else {
        Key::V6(FlowKey6 {
            src: src.addr,
            dst: dst.addr,
            ports: PortPair::new(src.port, dst.port),
        })
    }
}

/// The packet one hop further on.
pub(crate) fn hop(packet: Packet) -> Packet {
    let ttl = packet.ttl - 1;
    packet.ttl(ttl)
}

/// An address as the maps hold it.
pub(crate) fn addr(of: SocketAddr) -> Addr {
    of.ip().into()
}

/// An end as the maps hold it.
pub(crate) fn endpoint(of: SocketAddr) -> Endpoint {
    Endpoint::new(addr(of), Port::new(of.port()))
}

/// The networks of masqueraded clients.
pub(crate) const INSIDE: [(&str, u32); 2] = [("10.0.0.0", 8), ("fd00:10::", 32)];
