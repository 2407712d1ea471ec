//! The two flows of a connection: where they leave, and their entries.

use crate::forward::exit::{is_fresh, keep, redirectable};
use crate::forward::return_path;
use crate::kernel::helpers::jiffies;
use crate::kernel::hook::Hook;
use crate::kernel::route::{LOOPBACK, route};
use crate::kernel::skb::{Context, Skb};
use crate::state::scratch::{self, Connection, Draft, Path};
use crate::state::{counters, flows, maps};
use ftp_nat_common::abi::{
    Event, Flow, Interface, ReturnPath, Settings, event, flow_flag, interface_flag, kind,
    session_flag, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;

impl Path {
    /// By the stack.
    const STACK: Self = Self::through(0, 0);

    /// Through this interface; the first packet looks its next hop up.
    #[inline(always)]
    const fn through(ifindex: u32, mtu: u16) -> Self {
        Self {
            ifindex,
            mtu,
            macs: [0; 6],
            fresh_until: 0,
            route_epoch: 0,
            flags: 0,
        }
    }

    /// Back to where packets have come from, without looking it up for a second.
    #[inline(always)]
    fn back(path: &ReturnPath, wan: &Interface, settings: &Settings) -> Self {
        let flags = if wan.flags & interface_flag::XDP != 0 {
            u32::from(flow_flag::XDP)
        } else {
            0
        };
        Self {
            macs: path.macs,
            fresh_until: (jiffies() as u32).wrapping_add(settings.hz),
            route_epoch: settings.route_epoch,
            flags,
            ..Self::through(path.ifindex, wan.longest())
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
fn route_both(skb: &Skb, hook: Hook, part: &mut Draft) -> bool {
    let here = skb.ifindex();
    let (connection, hop) = (&part.connection, &mut part.hop);
    let is_hairpin = connection.flags & flow_flag::HAIRPIN != 0;
    if hook == Hook::WanEgress {
        return false;
    }
    let outwards = if hook == Hook::WanIngress { here } else { 0 };
    let outer_role = if is_hairpin {
        interface_flag::LAN
    } else {
        interface_flag::WAN
    };
    if hook == Hook::LanIngress && !is_hairpin {
        // Where the inside's packets come from; rules may choose routes by the interface of a packet from
        // outside, which this one is not.
        hop.ifindex = here;
    } else if !route(skb, &connection.alias.addr, &connection.inside.addr, 0, hop) {
        return false;
    }
    let Some(exit) = redirectable(hop.ifindex, interface_flag::LAN) else {
        return false;
    };
    if exit.flags & interface_flag::LEAVING != 0 {
        return false;
    }
    part.inward = Path::through(hop.ifindex, exit.longest());
    let path = &connection.return_path;
    // No route leads to a client on this machine itself.
    if path.ifindex == LOOPBACK
        && let Some(exit) = redirectable(LOOPBACK, interface_flag::LAN)
    {
        part.outward = Path::through(LOOPBACK, exit.longest());
        return true;
    }
    if let Some(wan) = redirectable(path.ifindex, interface_flag::WAN)
        && let Some(settings) = maps::SETTINGS.get(0)
    {
        part.outward = Path::back(path, wan, settings);
        return true;
    }
    if !route(
        skb,
        &connection.public.addr,
        &connection.outside.addr,
        outwards,
        hop,
    ) {
        return false;
    }
    let Some(exit) = redirectable(hop.ifindex, outer_role) else {
        return false;
    };
    part.outward = Path::through(hop.ifindex, exit.longest());
    true
}

/// The same from the control connection, if that goes between the same hosts and has been found its
/// way within the last second: most data connections follow a reply at once. Whom the server calls is
/// reached by the control connection's return path in any case.
#[inline(never)]
fn follow_control(hook: Hook, part: &mut Draft) -> bool {
    let connection = &mut part.connection;
    if connection.kind == kind::CONTROL {
        return false;
    }
    if hook != Hook::WanIngress {
        connection.return_path = ReturnPath::default();
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
    let from = if session.flags & session_flag::HAIRPIN == 0 {
        side::INBOUND
    } else {
        side::OUTBOUND
    };
    let Some(inbound) = flows::find(&session.outside, &session.public, from) else {
        return false;
    };
    // SAFETY: as above.
    let inbound = unsafe { &*inbound };
    if hook != Hook::WanIngress {
        connection.return_path = inbound.return_path;
    }
    let Some(outbound) = flows::find(&session.inside, &session.alias, side::OUTBOUND) else {
        return false;
    };
    // SAFETY: as above.
    let outbound = unsafe { &*outbound };
    if connection.return_path != inbound.return_path
        || inbound.out_ifindex == 0
        || !is_fresh(inbound)
        || !is_fresh(outbound)
    {
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
extern "C" fn ftp_nat_find_paths(context: Context, hook: u32, part: *mut Draft) -> u32 {
    let hook = Hook::of(hook);
    // SAFETY: the caller's part of the scratch memory, to which no other reference is alive.
    let Some(part) = (unsafe { part.as_mut() }) else {
        return 0;
    };
    let skb = Skb::of(context);
    let flags = part.connection.flags;
    if hook == Hook::WanIngress && flags & flow_flag::HAIRPIN == 0 {
        return_path::of_packet(&skb, &mut part.connection.return_path);
    }
    let follows = follow_control(hook, part);
    let may_be_redirected = flags & flow_flag::NO_NAT == 0 && hook != Hook::WanEgress;
    if may_be_redirected && (follows || route_both(&skb, hook, part)) {
        return 1;
    }
    part.inward = Path::STACK;
    part.outward = Path::STACK;
    if may_be_redirected {
        counters::add(Counter::PassedNoRoute, 0);
    }
    0
}

/// A SYN of a data connection is repeated that went by the stack for want of a way, and perhaps died
/// there: it and its answer go straight if there is a way now. `flow` is the SYN's.
#[inline(never)]
pub(super) fn choose_anew(skb: &Skb, hook: Hook, part: *mut Draft, flow: *mut Flow) {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive; the entry
    // stays in its place while the program runs.
    let (head, connection, flow) = unsafe { (&(*part).head, &mut (*part).connection, &mut *flow) };
    // Its way is looked up again, and so is that of the answer.
    flow.route_epoch = 0;
    if flow.out_ifindex != 0 || flow.flags & flow_flag::NO_NAT != 0 {
        return;
    }
    let (source, destination) = (flow.source(), flow.destination());
    if flow.is_outbound() {
        connection.inside = head.source;
        connection.alias = head.destination;
        connection.public = source;
        connection.outside = destination;
    } else {
        connection.outside = head.source;
        connection.public = head.destination;
        connection.alias = source;
        connection.inside = destination;
    }
    connection.session = flow.session;
    connection.kind = flow.kind;
    connection.flags = flow.flags & (flow_flag::HAIRPIN | flow_flag::NO_STACK);
    if ftp_nat_find_paths(skb.context(), hook as u32, part) == 0 {
        return;
    }
    let Some(other) = flows::find_any(&destination, &source) else {
        return;
    };
    // SAFETY: as above. Another packet that does this at once writes the same.
    unsafe {
        let other = &mut *other;
        if flow.is_outbound() {
            (*part).outward.give(flow);
            (*part).inward.give(other);
        } else {
            (*part).inward.give(flow);
            (*part).outward.give(other);
        }
    }
}

/// What has become of a try to make a connection's flows.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Made {
    /// Both exist now.
    Both = 0,
    /// Another connection has the same numbers; with another source port it may go.
    Taken = 1,
    /// There is no room.
    NoRoom = 2,
}

impl Made {
    /// From its number.
    #[inline(always)]
    const fn of(number: u32) -> Self {
        match number {
            0 => Self::Both,
            1 => Self::Taken,
            _ => Self::NoRoom,
        }
    }
}

/// Finds out where the directions of the connection in the memory leave, for [`create`].
///
/// One beside the other and not within: a chain of calls has 512 bytes of stack.
#[inline(always)]
pub(super) fn find_paths(skb: &Skb, hook: Hook, part: *mut Draft) {
    ftp_nat_find_paths(skb.context(), hook as u32, part);
}

/// Makes both flows of the connection in the memory. The inbound one comes first: it is the lock on
/// the public port, and with `fresh` it must not exist yet, unless as
/// one of the same three ends; otherwise it replaces an old one.
#[inline(always)]
pub(super) fn create(fresh: bool) -> Made {
    Made::of(ftp_nat_create(u32::from(fresh)))
}

/// A global function: the verifier checks it once and by itself. It takes the memory anew: Linux 6.1
/// puts nothing into a map that lies behind a pointer from another function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_create(fresh: u32) -> u32 {
    match scratch::opening() {
        // SAFETY: this is what the caller has handed down, and it holds no reference to it.
        Some(part) => make(unsafe { &mut *part }, fresh != 0) as u32,
        None => Made::NoRoom as u32,
    }
}

/// The flow of a connection that is not made: of one of its directions, while its handshake is not
/// finished. It lies in the memory, and is used for one packet.
#[inline(always)]
pub(crate) fn describe(skb: &Skb, hook: Hook, part: *mut Draft, outbound: bool) {
    ftp_nat_find_paths(skb.context(), hook as u32, part);
    ftp_nat_describe(part, u32::from(outbound));
}

/// The same for a packet that the stack forwards.
#[inline(always)]
pub(crate) fn describe_for_stack(part: *mut Draft, outbound: bool) {
    // SAFETY: see `scratch`; no other reference to these is alive.
    unsafe {
        (*part).inward = Path::STACK;
        (*part).outward = Path::STACK;
    }
    ftp_nat_describe(part, u32::from(outbound));
}

/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_describe(part: *mut Draft, outbound: u32) -> u32 {
    // SAFETY: the caller's part of the scratch memory, to which no other reference is alive.
    if let Some(part) = unsafe { part.as_mut() } {
        fill(part, outbound != 0);
    }
    0
}

/// Fills in the flow of one direction.
#[inline(always)]
fn fill(part: &mut Draft, outbound: bool) {
    let Draft {
        connection,
        flow,
        inward,
        outward,
        ..
    } = part;
    let now = jiffies();
    if outbound {
        flow.translate(
            [&connection.inside, &connection.alias],
            [&connection.public, &connection.outside],
        );
    } else {
        flow.translate(
            [&connection.outside, &connection.public],
            [&connection.alias, &connection.inside],
        );
    }
    flow.kind = connection.kind;
    flow.flags = connection.flags;
    flow.session = connection.session;
    flow.tcp_flags = 0;
    flow.acked = 0;
    flow.unanswered = 0;
    flow.return_path = connection.return_path;
    flow.born = now;
    flow.last_seen = now as u32;
    flow.packets = 0;
    flow.bytes = 0;
    if outbound {
        flow.flags |= flow_flag::OUTBOUND;
    }
    if connection.kind == kind::CONTROL && outbound == (connection.server_inside != 0) {
        flow.flags |= flow_flag::REPLIES;
    }
    if !outbound {
        inward.give(flow);
        return;
    }
    outward.give(flow);
    if flow.out_ifindex == 0
        && let Some(settings) = maps::SETTINGS.get(0)
    {
        // The stack's choice is compared with it after a second.
        keep(flow, settings);
    }
}

#[inline(always)]
fn make(part: &mut Draft, fresh: bool) -> Made {
    fill(part, false);
    let (outside, public) = (&part.connection.outside, &part.connection.public);
    let is_new = flows::insert_new(outside, public, &part.flow);
    if !is_new {
        if fresh && !is_of(outside, public, &part.connection) {
            return if flows::is_there(outside, public) {
                Made::Taken
            } else {
                Made::NoRoom
            };
        }
        note_replaced(&mut part.replaced, outside, public, part.flow.flags);
        if !replace_old(outside, public, &part.flow) {
            return Made::NoRoom;
        }
    }
    fill(part, true);
    let connection = &part.connection;
    let (seen_inside, seen_outside) = if connection.flags & flow_flag::NO_NAT != 0 {
        (&connection.public, &connection.outside)
    } else {
        (&connection.inside, &connection.alias)
    };
    // The inside end itself begins anew only what has ended. To who comes in, another connection's
    // numbers are taken.
    let made = if fresh {
        flows::replace(seen_inside, seen_outside, &part.flow)
    } else {
        flows::insert_new(seen_inside, seen_outside, &part.flow)
    };
    if made {
        return Made::Both;
    }
    flows::remove(&connection.outside, &connection.public);
    if !fresh && flows::is_there(seen_inside, seen_outside) {
        Made::Taken
    } else {
        Made::NoRoom
    }
}

/// Which side the packets of a connection's outer end come from, by [`flow_flag`].
#[inline(always)]
const fn side_of_client(flags: u8) -> u32 {
    if flags & flow_flag::HAIRPIN == 0 {
        side::INBOUND
    } else {
        side::OUTBOUND
    }
}

/// Whether the flow there is of an earlier connection between the very same ends: whoever begins anew
/// knows that his old one is over. (A server that connects from port 20 to one client port again and
/// again.)
#[inline(never)]
fn is_of(outside: &Endpoint, public: &Endpoint, connection: &Connection) -> bool {
    let from = side_of_client(connection.flags);
    let Some(old) = flows::find(outside, public, from) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let old = unsafe { &*old };
    old.kind == connection.kind && old.destination() == connection.inside
}

/// Puts the inbound flow in the place of an old connection's, whose outbound one ends.
#[inline(never)]
fn replace_old(outside: &Endpoint, public: &Endpoint, flow: &Flow) -> bool {
    let from = side_of_client(flow.flags);
    let Some(old) = flows::find(outside, public, from) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let old = unsafe { &*old };
    if old.flags & flow_flag::NO_NAT == 0 {
        flows::remove(&old.destination(), &old.source());
    } else {
        flows::remove(public, outside);
    }
    flows::replace(outside, public, flow)
}

/// Notes the end of the connection in whose place another one with these [`flow_flag`] begins: it is
/// told by [`tell_replaced`], because a chain of calls has 512 bytes of stack.
#[inline(never)]
fn note_replaced(told: &mut Event, outside: &Endpoint, public: &Endpoint, flags: u8) {
    let Some(inbound) = flows::find(outside, public, side_of_client(flags)) else {
        return;
    };
    // SAFETY: the entry stays in its place while the program runs.
    let inbound = unsafe { &*inbound };
    counters::add(Counter::Replaced, 0);
    let outbound = if inbound.flags & flow_flag::NO_NAT != 0 {
        flows::find(public, outside, side::OUTBOUND)
    } else {
        flows::find(&inbound.destination(), &inbound.source(), side::OUTBOUND)
    };
    told.what = event::ENDED;
    told.kind = inbound.kind;
    told.session = inbound.session;
    told.peer = *outside;
    told.inside = inbound.destination();
    told.public = *public;
    told.born = inbound.born;
    told.inbound = inbound.bytes;
    // SAFETY: the entry stays in its place while the program runs.
    told.outbound = outbound.map_or(0, |outbound| unsafe { (*outbound).bytes });
}

/// Tells the end of the connection whose place was taken, if one was.
#[inline(never)]
pub fn tell_replaced() {
    let Some(part) = scratch::opening() else {
        return;
    };
    // SAFETY: see `scratch`; no other reference to it is alive.
    let replaced = unsafe { &mut (*part).replaced };
    if replaced.what == 0 {
        return;
    }
    counters::tell(|told| {
        told.what = event::ENDED;
        told.kind = replaced.kind;
        told.reason = Counter::Replaced as u16;
        told.session = replaced.session;
        told.peer = replaced.peer;
        told.inside = replaced.inside;
        told.public = replaced.public;
        told.born = replaced.born;
        told.inbound = replaced.inbound;
        told.outbound = replaced.outbound;
    });
    replaced.what = 0;
}
