//! Flows: finding the one of a packet, and making the two of a connection.

use crate::count;
use crate::gateway::Hook;
use crate::kernel::{Skb, jiffies, route};
use crate::maps;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, flow_flag, interface_flag, kind, side};
use ftp_nat_common::addr::{Addr, Endpoint, Port};
use ftp_nat_common::checksum::{difference, of_addr};
use ftp_nat_common::counter::Counter;

/// An address family: its flow key, its map.
pub trait Net: Copy {
    /// Whether this is IPv4.
    const V4: bool;
    /// The key of a connection's packets from `src` to `dst`.
    fn key(src: &Endpoint, dst: &Endpoint, side: u32) -> Self;
    /// The same key on a side of the gateway.
    fn on(self, side: u32) -> Self;
    /// Source.
    fn source(&self) -> Endpoint;
    /// Destination.
    fn destination(&self) -> Endpoint;
    /// The flow of this key.
    fn find(&self) -> Option<*mut Flow>;
    /// Makes the flow of this key.
    fn insert(&self, flow: &Flow, flags: u32) -> bool;
    /// Ends the flow of this key.
    fn remove(&self);
}

impl Net for FlowKey4 {
    const V4: bool = true;

    #[inline(always)]
    fn key(src: &Endpoint, dst: &Endpoint, side: u32) -> Self {
        Self { src: src.addr.v4(), dst: dst.addr.v4(), sport: src.port, dport: dst.port, side }
    }

    #[inline(always)]
    fn on(self, side: u32) -> Self {
        Self { side, ..self }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.src), self.sport)
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.dst), self.dport)
    }

    #[inline(always)]
    fn find(&self) -> Option<*mut Flow> {
        maps::FLOWS4.get_ptr_mut(self)
    }

    #[inline(always)]
    fn insert(&self, flow: &Flow, flags: u32) -> bool {
        maps::FLOWS4.insert(self, flow, u64::from(flags)).is_ok()
    }

    #[inline(always)]
    fn remove(&self) {
        let _ = maps::FLOWS4.remove(self);
    }
}

impl Net for FlowKey6 {
    const V4: bool = false;

    #[inline(always)]
    fn key(src: &Endpoint, dst: &Endpoint, side: u32) -> Self {
        Self { src: src.addr, dst: dst.addr, sport: src.port, dport: dst.port, side }
    }

    #[inline(always)]
    fn on(self, side: u32) -> Self {
        Self { side, ..self }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.sport)
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.dport)
    }

    #[inline(always)]
    fn find(&self) -> Option<*mut Flow> {
        maps::FLOWS6.get_ptr_mut(self)
    }

    #[inline(always)]
    fn insert(&self, flow: &Flow, flags: u32) -> bool {
        maps::FLOWS6.insert(self, flow, u64::from(flags)).is_ok()
    }

    #[inline(always)]
    fn remove(&self) {
        let _ = maps::FLOWS6.remove(self);
    }
}

/// A connection through the gateway.
pub struct Connection {
    /// The end outside.
    pub outside: Endpoint,
    /// The inside end as the outside sees it.
    pub public: Endpoint,
    /// The end behind the gateway.
    pub inside: Endpoint,
    /// Its control connection.
    pub session: u32,
    /// [`kind`].
    pub kind: u8,
    /// [`flow_flag`] of both directions.
    pub flags: u8,
    /// Whether the server is inside: the outbound flow carries the replies.
    pub server_inside: bool,
}

/// Where the two directions leave, 0 where the stack forwards them.
struct Exits {
    inbound: Exit,
    outbound: Exit,
}

/// Where a direction leaves.
#[derive(Clone, Copy)]
struct Exit {
    ifindex: u32,
    mtu: u32,
    next_hop: Addr,
}

impl Exit {
    const STACK: Self = Self { ifindex: 0, mtu: 0, next_hop: Addr([0; 4]) };
}

/// An interface's MTU, if flows may be redirected through it in this role.
#[inline(always)]
fn redirectable(ifindex: u32, role: u32) -> Option<u32> {
    // SAFETY: the map is not preallocated, so an entry lives on while it is read.
    let interface = unsafe { maps::INTERFACES.get(ifindex) }?;
    let wanted = role | interface_flag::ETHERNET;
    (interface.flags & wanted == wanted).then_some(interface.mtu)
}

/// Where a connection's directions leave: both by redirect, or neither, so that the stack sees all
/// of it or nothing.
#[inline(always)]
fn exits(skb: &Skb, hook: Hook, connection: &Connection) -> Option<Exits> {
    let here = skb.ifindex();
    let (inwards, outwards) = match hook {
        Hook::WanIngress => (0, here),
        Hook::LanIngress => (here, 0),
        Hook::WanEgress => return None,
    };
    let inbound = route(skb, &connection.outside.addr, &connection.inside.addr, inwards)?;
    let inbound_mtu = redirectable(inbound.ifindex, interface_flag::LAN)?;
    let outbound = route(skb, &connection.public.addr, &connection.outside.addr, outwards)?;
    let outbound_mtu = redirectable(outbound.ifindex, interface_flag::WAN)?;
    Some(Exits {
        inbound: Exit { ifindex: inbound.ifindex, mtu: inbound_mtu, next_hop: inbound.next_hop },
        outbound: Exit { ifindex: outbound.ifindex, mtu: outbound_mtu, next_hop: outbound.next_hop },
    })
}

/// Makes both flows of a connection. The inbound one comes first: it is the lock on the public
/// port. With `fresh` it must not exist yet; otherwise it replaces an old one.
#[inline(never)]
pub fn create<N: Net>(skb: &Skb, hook: Hook, connection: &Connection, fresh: bool) -> bool {
    let no_nat = connection.flags & flow_flag::NO_NAT != 0;
    let seen_inside = if no_nat { connection.public } else { connection.inside };
    let inbound = N::key(&connection.outside, &connection.public, side::INBOUND);
    let outbound = N::key(&seen_inside, &connection.outside, side::OUTBOUND);
    if !fresh {
        if let Some(old) = inbound.find() {
            // SAFETY: the map is not preallocated, so the entry lives on while it is read.
            let old_end = unsafe { Endpoint::new((*old).to, (*old).port) };
            N::key(&old_end, &connection.outside, side::OUTBOUND).remove();
        }
    }
    let exits = if no_nat { None } else { exits(skb, hook, connection) };
    if exits.is_none() && !no_nat && hook as u32 != Hook::WanEgress as u32 {
        count::add(Counter::PassedNoRoute, 0);
    }
    let (inward, outward) = match exits {
        Some(exits) => (exits.inbound, exits.outbound),
        None => (Exit::STACK, Exit::STACK),
    };
    let now = jiffies();
    let inside_sum = of_addr(&connection.inside.addr.0, N::V4);
    let public_sum = of_addr(&connection.public.addr.0, N::V4);
    let mut flow = Flow {
        to: connection.inside.addr,
        port: connection.inside.port,
        kind: connection.kind,
        flags: connection.flags,
        addr_diff: difference(public_sum, inside_sum),
        port_diff: port_difference(connection.public.port, connection.inside.port),
        out_ifindex: inward.ifindex,
        out_mtu: inward.mtu,
        session: connection.session,
        route_epoch: 0,
        next_hop: inward.next_hop,
        tcp_flags: 0,
        pad: [0; 7],
        born: now,
        last_seen: now,
        packets: 0,
        bytes: 0,
    };
    if connection.kind == kind::CONTROL && !connection.server_inside {
        flow.flags |= flow_flag::REPLIES;
    }
    if !inbound.insert(&flow, if fresh { BPF_NOEXIST } else { BPF_ANY }) {
        return false;
    }
    flow.to = connection.public.addr;
    flow.port = connection.public.port;
    flow.flags = connection.flags;
    if connection.kind == kind::CONTROL && connection.server_inside {
        flow.flags |= flow_flag::REPLIES;
    }
    flow.addr_diff = difference(inside_sum, public_sum);
    flow.port_diff = port_difference(connection.inside.port, connection.public.port);
    flow.out_ifindex = outward.ifindex;
    flow.out_mtu = outward.mtu;
    flow.next_hop = outward.next_hop;
    if !outbound.insert(&flow, BPF_ANY) {
        inbound.remove();
        return false;
    }
    true
}

#[inline(always)]
fn port_difference(from: Port, to: Port) -> u16 {
    difference(u64::from(from.0), u64::from(to.0))
}
