//! The two flows of a connection: where they leave, and their entries.

use crate::forward::send::{is_fresh, redirectable};
use crate::kernel::helpers::jiffies;
use crate::kernel::hook::Hook;
use crate::kernel::route::route;
use crate::kernel::skb::{Context, Skb};
use crate::state::scratch::{self, Connection, Opening, Path};
use crate::state::{counters, flows, maps};
use ftp_nat_common::abi::{Flow, event, flow_flag, interface_flag, kind, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;

impl Path {
    /// By the stack.
    const STACK: Self = Self::through(0, 0);

    /// Through this interface; the first packet asks for its neighbour.
    #[inline(always)]
    const fn through(ifindex: u32, mtu: u32) -> Self {
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

/// Sets where the connection's directions leave: both by redirect, or neither, so that the stack
/// sees all of it or nothing.
#[inline(never)]
fn route_both(skb: &Skb, hook: Hook, part: &mut Opening) -> bool {
    let here = skb.ifindex();
    let (inwards, outwards) = match hook {
        Hook::WanIngress => (0, here),
        Hook::LanIngress => (here, 0),
        Hook::WanEgress => return false,
    };
    let (connection, hop) = (&part.connection, &mut part.hop);
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
    part.inward = Path::through(hop.ifindex, exit.mtu);
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
    part.outward = Path::through(hop.ifindex, exit.mtu);
    true
}

/// The same from the control connection, if that goes between the same hosts and has been found its
/// way within the last second: most data connections follow a reply at once.
#[inline(never)]
fn follow_control(part: &mut Opening) -> bool {
    let connection = &part.connection;
    if connection.kind == kind::CONTROL {
        return false;
    }
    let Some(session) = maps::SESSIONS.get_ptr(connection.session) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let session = unsafe { &*session };
    if session.outside.addr != connection.outside.addr
        || session.public.addr != connection.public.addr
        || session.inside.addr != connection.inside.addr
    {
        return false;
    }
    let Some(inbound) = flows::find(&session.outside, &session.public, side::INBOUND) else {
        return false;
    };
    let Some(outbound) = flows::find(&session.inside, &session.outside, side::OUTBOUND) else {
        return false;
    };
    // SAFETY: as above.
    let (inbound, outbound) = unsafe { (&*inbound, &*outbound) };
    if inbound.out_ifindex == 0 || !is_fresh(inbound) || !is_fresh(outbound) {
        return false;
    }
    part.inward = Path::of(inbound);
    part.outward = Path::of(outbound);
    true
}

/// Finds out where the connection's directions leave: `inward` and `outward` of the memory.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_find_paths(context: Context, hook: u32, part: *mut Opening) -> u32 {
    let hook = Hook::of(hook);
    // SAFETY: the caller's part of the scratch memory, to which no other reference is alive.
    let Some(part) = (unsafe { part.as_mut() }) else {
        return 0;
    };
    let no_nat = part.connection.flags & flow_flag::NO_NAT != 0;
    let may_be_redirected = !no_nat && hook != Hook::WanEgress;
    if may_be_redirected && (follow_control(part) || route_both(&Skb::of(context), hook, part)) {
        return 1;
    }
    part.inward = Path::STACK;
    part.outward = Path::STACK;
    if may_be_redirected {
        counters::add(Counter::PassedNoRoute, 0);
    }
    0
}

/// Makes both flows of the connection in the memory. The inbound one comes first: it is the lock on
/// the public port. With `fresh` it must not exist yet, unless as one of the same three ends; otherwise
/// it replaces an old one. False: it exists, or there is no room.
#[inline(always)]
pub(crate) fn create(skb: &Skb, hook: Hook, part: *mut Opening, fresh: bool) -> bool {
    // One beside the other and not within: a chain of calls has 512 bytes of stack.
    ftp_nat_find_paths(skb.context(), hook as u32, part);
    ftp_nat_create(u32::from(fresh)) != 0
}

/// A global function: the verifier checks it once and by itself. It takes the memory anew: Linux 6.1
/// puts nothing into a map that lies behind a pointer from another function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_create(fresh: u32) -> u32 {
    match scratch::opening() {
        // SAFETY: this is what the caller has handed down, and it holds no reference to it.
        Some(part) => u32::from(make(unsafe { &mut *part }, fresh != 0)),
        None => 0,
    }
}

/// The flow of a connection that is not made: of one of its directions, while its handshake is not
/// finished. It lies in the memory, and is used for one packet.
#[inline(always)]
pub(crate) fn describe(skb: &Skb, hook: Hook, part: *mut Opening) {
    ftp_nat_find_paths(skb.context(), hook as u32, part);
    ftp_nat_describe(part, u32::from(hook.side() == side::OUTBOUND));
}

/// The same for a packet that the stack forwards.
#[inline(always)]
pub(crate) fn describe_for_stack(hook: Hook, part: *mut Opening) {
    // SAFETY: see `scratch`; no other reference to these is alive.
    unsafe {
        (*part).inward = Path::STACK;
        (*part).outward = Path::STACK;
    }
    ftp_nat_describe(part, u32::from(hook.side() == side::OUTBOUND));
}

/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_describe(part: *mut Opening, outbound: u32) -> u32 {
    // SAFETY: the caller's part of the scratch memory, to which no other reference is alive.
    if let Some(part) = unsafe { part.as_mut() } {
        fill(part, outbound != 0);
    }
    0
}

/// Fills in the flow of one direction.
#[inline(always)]
fn fill(part: &mut Opening, outbound: bool) {
    let Opening {
        connection,
        flow,
        inward,
        outward,
        ..
    } = part;
    let now = jiffies();
    if outbound {
        flow.translate(
            [&connection.inside, &connection.outside],
            [&connection.public, &connection.outside],
        );
    } else {
        flow.translate(
            [&connection.outside, &connection.public],
            [&connection.outside, &connection.inside],
        );
    }
    flow.kind = connection.kind;
    flow.flags = connection.flags;
    flow.session = connection.session;
    flow.tcp_flags = 0;
    flow.acked = 0;
    flow.pad = 0;
    flow.born = now;
    flow.last_seen = now;
    flow.packets = 0;
    flow.bytes = 0;
    if outbound {
        flow.flags |= flow_flag::OUTBOUND;
    }
    if connection.kind == kind::CONTROL && outbound == (connection.server_inside != 0) {
        flow.flags |= flow_flag::REPLIES;
    }
    if outbound {
        outward.give(flow);
    } else {
        inward.give(flow);
    }
}

#[inline(always)]
fn make(part: &mut Opening, fresh: bool) -> bool {
    fill(part, false);
    let (outside, public) = (&part.connection.outside, &part.connection.public);
    if !flows::insert_new(outside, public, &part.flow)
        && (fresh && !is_of(outside, public, &part.connection)
            || !replace_old(outside, public, &part.flow))
    {
        return false;
    }
    fill(part, true);
    let connection = &part.connection;
    let seen_inside = if connection.flags & flow_flag::NO_NAT != 0 {
        &connection.public
    } else {
        &connection.inside
    };
    if !flows::replace(seen_inside, &connection.outside, &part.flow) {
        flows::remove(&connection.outside, &connection.public);
        return false;
    }
    true
}

/// Whether the flow there is of an earlier connection between the very same ends: whoever begins anew
/// knows that his old one is over. (A server that connects from port 20 to one client port again and
/// again.)
#[inline(never)]
fn is_of(outside: &Endpoint, public: &Endpoint, connection: &Connection) -> bool {
    let Some(old) = flows::find(outside, public, side::INBOUND) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let old = unsafe { &*old };
    old.kind == connection.kind && old.destination() == connection.inside
}

/// Puts the inbound flow in the place of an old connection's, whose outbound one ends.
#[inline(never)]
fn replace_old(outside: &Endpoint, public: &Endpoint, flow: &Flow) -> bool {
    let Some(old) = flows::find(outside, public, side::INBOUND) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let old = unsafe { &*old };
    let old_end = old.destination();
    tell_replaced(outside, public, &old_end, old);
    flows::remove(&old_end, outside);
    flows::replace(outside, public, flow)
}

/// Tells the end of a connection in whose place another one begins, by its ends and inbound flow.
#[inline(never)]
fn tell_replaced(outside: &Endpoint, public: &Endpoint, inside: &Endpoint, inbound: &Flow) {
    counters::add(Counter::Replaced, 0);
    let seen_inside = if inbound.flags & flow_flag::NO_NAT != 0 {
        public
    } else {
        inside
    };
    let outbound = flows::find(seen_inside, outside, side::OUTBOUND);
    // SAFETY: the entry stays in its place while the program runs.
    let outbound = outbound.map_or(0, |outbound| unsafe { (*outbound).bytes });
    counters::tell(|told| {
        told.what = event::ENDED;
        told.kind = inbound.kind;
        told.reason = Counter::Replaced as u16;
        told.session = inbound.session;
        told.peer = *outside;
        told.inside = *inside;
        told.public = *public;
        told.born = inbound.born;
        told.inbound = inbound.bytes;
        told.outbound = outbound;
    });
}
