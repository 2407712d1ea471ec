//! Flows: finding the one of a packet, and making the two of a connection.

use crate::count;
use crate::forward::is_fresh;
use crate::gateway::Hook;
use crate::kernel::{Context, Skb, jiffies, route};
use crate::maps;
use crate::packet::{self, Ipv4, Ipv6, Reading};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{
    Flow, FlowKey4, FlowKey6, Interface, flow_flag, interface_flag, kind, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port, PortPair};
use ftp_nat_common::wire::checksum::{difference, of_addr};

/// An address family: its flow key, its map.
pub trait Net: Copy {
    /// Whether this is IPv4.
    const V4: bool;
    /// Length of an IP header without options.
    const HEADER: usize;
    /// The whole headers of a TCP packet.
    fn headers(skb: &Skb) -> Reading<Self>;
    /// The key of a connection's packets from `src` to `dst`.
    fn key(src: &Endpoint, dst: &Endpoint) -> Self;
    /// Source.
    fn source(&self) -> Endpoint;
    /// Destination.
    fn destination(&self) -> Endpoint;
    /// The flow of this key, whatever side its packets come by.
    fn look_up(&self) -> Option<*mut Flow>;
    /// The flow of this key, whose packets come by this side.
    #[inline(always)]
    fn find(&self, side: u32) -> Option<*mut Flow> {
        let flow = self.look_up()?;
        // SAFETY: a map's entry stays in its place while a program runs.
        (unsafe { (*flow).side() } == side).then_some(flow)
    }
    /// Makes the flow of this key.
    fn insert(&self, flow: &Flow, flags: u32) -> bool;
    /// Ends the flow of this key.
    fn remove(&self);
}

impl Net for FlowKey4 {
    const V4: bool = true;
    const HEADER: usize = size_of::<Ipv4>();

    #[inline(always)]
    fn headers(skb: &Skb) -> Reading<Self> {
        packet::read4(skb)
    }

    #[inline(always)]
    fn key(src: &Endpoint, dst: &Endpoint) -> Self {
        Self {
            src: src.addr.v4(),
            dst: dst.addr.v4(),
            ports: PortPair::new(src.port, dst.port),
        }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.src), self.ports.source())
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.dst), self.ports.destination())
    }

    #[inline(always)]
    fn look_up(&self) -> Option<*mut Flow> {
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
    const HEADER: usize = size_of::<Ipv6>();

    #[inline(always)]
    fn headers(skb: &Skb) -> Reading<Self> {
        packet::read6(skb)
    }

    #[inline(always)]
    fn key(src: &Endpoint, dst: &Endpoint) -> Self {
        Self {
            src: src.addr,
            dst: dst.addr,
            ports: PortPair::new(src.port, dst.port),
        }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.ports.source())
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.ports.destination())
    }

    #[inline(always)]
    fn look_up(&self) -> Option<*mut Flow> {
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

/// A connection through the gateway. It lies in the scratch memory: the stack is short.
#[repr(C)]
#[derive(Clone, Copy)]
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
    /// 1: the server is inside, the outbound flow carries the replies.
    pub server_inside: u8,
}

/// Where a direction leaves.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Exit {
    ifindex: u32,
    mtu: u32,
    macs: [u16; 6],
    fresh_until: u32,
    route_epoch: u32,
    flags: u32,
}

impl Exit {
    /// Through this interface; the first packet asks for its neighbour.
    #[inline(always)]
    fn through(ifindex: u32, mtu: u32) -> Self {
        Self {
            ifindex,
            mtu,
            macs: [0; 6],
            fresh_until: 0,
            route_epoch: 0,
            flags: 0,
        }
    }

    /// Where this flow's packets leave.
    #[inline(always)]
    fn of(flow: &Flow) -> Self {
        Self {
            ifindex: flow.out_ifindex,
            mtu: flow.out_mtu,
            macs: flow.macs,
            fresh_until: flow.fresh_until,
            route_epoch: flow.route_epoch,
            flags: u32::from(flow.flags & flow_flag::XDP),
        }
    }

    /// Lets this flow's packets leave there.
    #[inline(always)]
    fn give(&self, flow: &mut Flow) {
        flow.out_ifindex = self.ifindex;
        flow.out_mtu = self.mtu;
        flow.macs = self.macs;
        flow.fresh_until = self.fresh_until;
        flow.route_epoch = self.route_epoch;
        flow.flags |= self.flags as u8;
    }
}

/// An interface, if flows may be redirected through it in this role.
#[inline(always)]
pub fn redirectable(ifindex: u32, role: u32) -> Option<&'static Interface> {
    // SAFETY: a map's entry stays in its place while a program runs.
    let interface = unsafe { maps::INTERFACES.get(ifindex) }?;
    let wanted = role | interface_flag::ETHERNET;
    (interface.flags & wanted == wanted).then_some(interface)
}

/// Sets where the connection's directions leave: both by redirect, or neither, so that the stack
/// sees all of it or nothing.
#[inline(never)]
fn set_exits(skb: &Skb, hook: Hook) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    let here = skb.ifindex();
    let (inwards, outwards) = match hook {
        Hook::WanIngress => (0, here),
        Hook::LanIngress => (here, 0),
        Hook::WanEgress => return false,
    };
    let (connection, hop) = (&scratch.connection, &mut scratch.hop);
    if !route(
        skb,
        &connection.outside.addr,
        &connection.inside.addr,
        inwards,
        hop,
    ) {
        return false;
    }
    let Some(exit) = redirectable(hop.ifindex, interface_flag::LAN) else {
        return false;
    };
    scratch.inward = Exit::through(hop.ifindex, exit.mtu);
    if !route(
        skb,
        &connection.public.addr,
        &connection.outside.addr,
        outwards,
        hop,
    ) {
        return false;
    }
    let Some(exit) = redirectable(hop.ifindex, interface_flag::WAN) else {
        return false;
    };
    scratch.outward = Exit::through(hop.ifindex, exit.mtu);
    true
}

/// The same from the control connection, if that goes between the same hosts and has been found its
/// way within the last second: most data connections follow a reply at once.
#[inline(never)]
fn follow_control() -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let scratch = unsafe { &mut *scratch };
    let connection = &scratch.connection;
    if connection.kind == kind::CONTROL {
        return false;
    }
    let Some(session) = maps::SESSIONS.get_ptr(connection.session) else {
        return false;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let session = unsafe { &*session };
    if session.outside.addr != connection.outside.addr
        || session.public.addr != connection.public.addr
        || session.inside.addr != connection.inside.addr
    {
        return false;
    }
    let Some(inbound) = find(&session.outside, &session.public, side::INBOUND) else {
        return false;
    };
    let Some(outbound) = find(&session.inside, &session.outside, side::OUTBOUND) else {
        return false;
    };
    // SAFETY: as above.
    let (inbound, outbound) = unsafe { (&*inbound, &*outbound) };
    if inbound.out_ifindex == 0 || !is_fresh(inbound) || !is_fresh(outbound) {
        return false;
    }
    scratch.inward = Exit::of(inbound);
    scratch.outward = Exit::of(outbound);
    true
}

/// Leaves in the scratch memory where the connection's directions leave.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_exits(context: Context, hook: u32) -> u32 {
    let hook = Hook::of(hook);
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let no_nat = unsafe { (*scratch).connection.flags & flow_flag::NO_NAT != 0 };
    let may_be_redirected = !no_nat && hook != Hook::WanEgress;
    if may_be_redirected && (follow_control() || set_exits(&Skb::of(context), hook)) {
        return 1;
    }
    // SAFETY: as above.
    unsafe {
        (*scratch).inward = Exit::through(0, 0);
        (*scratch).outward = Exit::through(0, 0);
    }
    if may_be_redirected {
        count::add(Counter::PassedNoRoute, 0);
    }
    0
}

/// Makes both flows of the connection in the scratch memory. The inbound one comes first: it is the
/// lock on the public port. With `fresh` it must not exist yet; otherwise it replaces an old one.
#[inline(always)]
pub(crate) fn create(skb: &Skb, hook: Hook, fresh: bool) -> bool {
    // One beside the other and not within: a chain of calls has 512 bytes of stack.
    ftp_nat_exits(skb.context(), hook as u32);
    ftp_nat_create(u32::from(fresh)) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_create(fresh: u32) -> u32 {
    u32::from(make(fresh != 0))
}

#[inline(always)]
fn make(fresh: bool) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let (connection, flow) = unsafe { (&(*scratch).connection, &mut (*scratch).flow) };
    let no_nat = connection.flags & flow_flag::NO_NAT != 0;
    let seen_inside = if no_nat {
        &connection.public
    } else {
        &connection.inside
    };
    let now = jiffies();
    // An IPv4 address lies in the last word, behind words that both addresses share.
    let inside_sum = of_addr(&connection.inside.addr.0, false);
    let public_sum = of_addr(&connection.public.addr.0, false);
    flow.to = connection.inside.addr;
    flow.port = connection.inside.port;
    flow.kind = connection.kind;
    flow.flags = connection.flags;
    flow.addr_diff = difference(public_sum, inside_sum);
    flow.port_diff = port_difference(connection.public.port, connection.inside.port);
    flow.session = connection.session;
    flow.tcp_flags = 0;
    flow.acked = 0;
    flow.pad = [0; 3];
    flow.born = now;
    flow.last_seen = now;
    flow.packets = 0;
    flow.bytes = 0;
    if connection.kind == kind::CONTROL && connection.server_inside == 0 {
        flow.flags |= flow_flag::REPLIES;
    }
    // SAFETY: as above.
    let (inward, outward) = unsafe { (&(*scratch).inward, &(*scratch).outward) };
    inward.give(flow);
    let (outside, public) = (&connection.outside, &connection.public);
    if !insert(outside, public, flow, BPF_NOEXIST) && (fresh || !replace_old(outside, public, flow))
    {
        return false;
    }
    flow.to = connection.public.addr;
    flow.port = connection.public.port;
    flow.flags = connection.flags | flow_flag::OUTBOUND;
    if connection.kind == kind::CONTROL && connection.server_inside != 0 {
        flow.flags |= flow_flag::REPLIES;
    }
    flow.addr_diff = difference(inside_sum, public_sum);
    flow.port_diff = port_difference(connection.inside.port, connection.public.port);
    outward.give(flow);
    if !insert(seen_inside, &connection.outside, flow, BPF_ANY) {
        remove(&connection.outside, &connection.public);
        return false;
    }
    true
}

/// The flow of packets from `src` to `dst` that come by this side.
#[inline(always)]
pub fn find(src: &Endpoint, dst: &Endpoint, side: u32) -> Option<*mut Flow> {
    if src.addr.is_v4() {
        FlowKey4::key(src, dst).find(side)
    } else {
        FlowKey6::key(src, dst).find(side)
    }
}

#[inline(never)]
fn insert(src: &Endpoint, dst: &Endpoint, flow: &Flow, flags: u32) -> bool {
    if src.addr.is_v4() {
        FlowKey4::key(src, dst).insert(flow, flags)
    } else {
        FlowKey6::key(src, dst).insert(flow, flags)
    }
}

#[inline(never)]
fn remove(src: &Endpoint, dst: &Endpoint) {
    if src.addr.is_v4() {
        FlowKey4::key(src, dst).remove();
    } else {
        FlowKey6::key(src, dst).remove();
    }
}

/// Puts the inbound flow in the place of an old connection's, whose outbound one ends.
#[inline(never)]
fn replace_old(outside: &Endpoint, public: &Endpoint, flow: &Flow) -> bool {
    let Some(old) = find(outside, public, side::INBOUND) else {
        return false;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    let old_end = unsafe { Endpoint::new((*old).to, (*old).port) };
    remove(&old_end, outside);
    insert(outside, public, flow, BPF_ANY)
}

#[inline(always)]
fn port_difference(from: Port, to: Port) -> u16 {
    difference(u64::from(from.0), u64::from(to.0))
}
