//! Return paths: what a client outside sends comes by one of several uplinks, and from one of
//! several routers there. The answers leave the same way.
//!
//! The routing tables know only where packets of a new connection would go. Rules by source address do
//! not see the address that a packet has after its translation, and marks that a firewall keeps for a
//! connection are not there for what bypasses the firewall.

use super::exit::{is_bare, is_fresh, keep, redirectable};
use crate::kernel::hook::{DROP, NEXT};
use crate::kernel::route::{Hop, redirect, route};
use crate::kernel::skb::{Skb, TRANSLATED};
use crate::state::flows::{self, Table, is_near};
use crate::state::maps;
use ftp_nat_common::abi::{Flow, ReturnPath, flow_flag, interface_flag, kind, setting, side};
use ftp_nat_common::wire::addr::Addr;

/// After how many lookups without an answer a return path is doubted.
const DOUBTED: u8 = 2;

/// The way back of a packet at the WAN's ingress hook; interface 0: an answer could not be sent
/// there, as the packet was for a group of machines or does not name its sender, or is not to be
/// ([`setting::BY_ROUTES`]).
#[inline(never)]
pub fn of_packet(skb: &Skb, path: &mut ReturnPath) {
    *path = ReturnPath::default();
    if maps::SETTINGS
        .get(0)
        .is_none_or(|it| it.flags & setting::BY_ROUTES != 0)
    {
        return;
    }
    let ifindex = skb.ifindex();
    let Some(wan) = redirectable(ifindex, interface_flag::WAN) else {
        return;
    };
    let Some([d0, d1, d2, s0, s1, s2]) = skb.view::<[u16; 6]>(0).copied() else {
        return;
    };
    // IEEE 802: the lowest bit of the first byte says that the address is a group's.
    let group = 0x0100_u16.to_be();
    if !is_bare(wan) && ((d0 | s0) & group != 0 || s0 | s1 | s2 == 0) {
        return;
    }
    path.ifindex = ifindex;
    path.macs = [s0, s1, s2, d0, d1, d2];
}

/// Notes the way back of a packet that came from outside, if it is another one than before: its sender
/// has moved, or another router brings its packets. Of a data connection only with a number that TCP
/// may believe.
#[inline(never)]
pub fn learn<N: Table>(skb: &Skb, key: &N, seq: u32, entry: *mut Flow) {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    // The kernel's own NAT has chosen the way of connections that begin inside.
    if flow.return_path.ifindex == 0 && flow.flags & flow_flag::NO_NAT != 0 {
        return;
    }
    let mut path = ReturnPath::default();
    of_packet(skb, &mut path);
    if path.ifindex == 0 || path == flow.return_path {
        return;
    }
    let Some(other) = key.other_way(flow).look_up() else {
        return;
    };
    // SAFETY: as above, and the fields are aligned. While the addresses are written there is no
    // interface, so that another CPU that reads them meanwhile asks the routing tables; one that has
    // read the old interface and half of the new addresses sends to nobody for a second at most.
    unsafe {
        if flow.kind != kind::CONTROL && !is_near(&*other, seq) {
            return;
        }
        let there = &raw mut (*entry).return_path;
        (&raw mut (*there).ifindex).write_volatile(0);
        (&raw mut (*there).macs).write_volatile(path.macs);
        (&raw mut (*there).ifindex).write_volatile(path.ifindex);
        (&raw mut (*other).route_epoch).write_volatile(0);
    }
}

/// The inbound flow of an outbound one, if the way back to its sender is known and can be taken; null:
/// it is not.
#[inline(never)]
fn behind(flow: &Flow) -> *const Flow {
    let Some(inbound) = flows::find(&flow.destination(), &flow.source(), side::INBOUND) else {
        return core::ptr::null();
    };
    // SAFETY: the entry stays in its place while the program runs.
    let ifindex = unsafe { (*inbound).return_path.ifindex };
    if redirectable(ifindex, interface_flag::WAN).is_some() {
        inbound
    } else {
        core::ptr::null()
    }
}

/// Whether a flow's packets leave by the way back and not as the routing tables have it. `is_found`:
/// those know a next hop behind the same interface; `agrees`: it is the same one. Counts how often
/// nobody has answered: then the two take turns, because a router may have died, and another one have
/// taken its address.
#[inline(always)]
fn differs(flow: &mut Flow, inbound: &Flow, is_found: bool, agrees: bool) -> bool {
    let hz = maps::SETTINGS.get(0).map_or(0, |it| it.hz);
    let last_lookup = flow.fresh_until.wrapping_sub(hz);
    let answered = inbound.last_seen.wrapping_sub(last_lookup) as i32 >= 0;
    flow.unanswered = if answered || flow.fresh_until == 0 {
        0
    } else {
        flow.unanswered.saturating_add(1)
    };
    let is_turn_of_routes = flow.unanswered >= DOUBTED && flow.unanswered.is_multiple_of(2);
    !(agrees || is_found && is_turn_of_routes)
}

/// The next hop of a redirected flow's packets, from and to `ends`, by its connection's return path,
/// which is left in `back`; false: there is none.
#[inline(always)]
pub(super) fn next_hop(
    skb: &Skb,
    entry: *mut Flow,
    ends: &[Addr; 2],
    back: &mut ReturnPath,
    hop: &mut Hop,
) -> bool {
    // SAFETY: entries stay in their places while the program runs. Of the outbound one this packet's
    // CPU is the only one that writes these fields, or others write the same.
    unsafe {
        let inbound = behind(&*entry);
        if inbound.is_null() {
            return false;
        }
        *back = (*inbound).return_path;
        let is_found = route(skb, &ends[0], &ends[1], back.ifindex, hop);
        let is_resolved = is_found && hop.is_resolved != 0;
        let agrees = is_resolved && is_same_destination(&hop.macs, &back.macs);
        if differs(&mut *entry, &*inbound, is_found, agrees) {
            hop.ifindex = back.ifindex;
            hop.macs = back.macs;
            hop.is_resolved = Hop::GIVEN;
        }
    }
    true
}

/// Whether two Ethernet headers have the same destination.
#[inline(always)]
fn is_same_destination(one: &[u16; 6], other: &[u16; 6]) -> bool {
    one[0] == other[0] && one[1] == other[1] && one[2] == other[2]
}

/// The verdict on a packet that the stack has sent, and which is at the WAN's egress hook, as it
/// leaves: by its connection's return path.
#[inline(always)]
pub fn leave(skb: &Skb, entry: *mut Flow) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    if flow.return_path.ifindex == 0 && is_fresh(flow) {
        return NEXT;
    }
    leave_otherwise(skb, entry)
}

/// The same where the stack's choice is another way, or has to be looked at.
#[inline(never)]
fn leave_otherwise(skb: &Skb, entry: *mut Flow) -> i32 {
    // SAFETY: the entry stays in its place while the program runs.
    let flow = unsafe { &*entry };
    let mut path = &flow.return_path;
    if flow.out_ifindex != 0 {
        // One that the stack itself sends about a redirected flow.
        // SAFETY: as above; null is none.
        let Some(inbound) = (unsafe { behind(flow).as_ref() }) else {
            return NEXT;
        };
        path = &inbound.return_path;
    } else if !is_fresh(flow) {
        reconsider(skb, entry);
    }
    if path.ifindex == 0 {
        return NEXT;
    }
    if !skb.change::<[u16; 6]>(0, |macs| *macs = path.macs) {
        return DROP;
    }
    if path.ifindex == skb.ifindex() {
        return NEXT;
    }
    skb.set_note(TRANSLATED);
    redirect(path.ifindex)
}

/// Compares the way that the stack has chosen with the return path, for the packets of the next second.
#[inline(never)]
fn reconsider(skb: &Skb, entry: *mut Flow) {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return;
    };
    // SAFETY: as in `next_hop`.
    unsafe {
        let flow = &mut *entry;
        let inbound = behind(flow);
        let mut path = ReturnPath::default();
        if !inbound.is_null() {
            let known = (*inbound).return_path;
            let is_here = known.ifindex == skb.ifindex();
            let chosen = skb.view::<[u16; 6]>(0);
            let agrees = is_here && chosen.is_some_and(|it| is_same_destination(it, &known.macs));
            if differs(flow, &*inbound, is_here, agrees) {
                path = known;
            }
        }
        flow.return_path = path;
        keep(flow, settings);
    }
}
