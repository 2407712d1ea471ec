//! Mappings: the first SYN of an announced data connection.

use super::alias;
use super::connection::{Made, create, find_paths};
use super::lists;
use super::port_search::{TRIES, random_port};
use super::refusal;
use crate::kernel::helpers::{jiffies, repeat};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Connection, Draft};
use crate::state::{counters, maps, ports, shares};
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{Mapping, MappingKey, REVERSED, event, kind, mapping_flag, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Endpoint, Port};

/// What a SYN's mapping has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// There is none.
    No,
    /// It was used: the connection's flows exist now.
    Opened,
    /// It has expired.
    Expired,
    /// There is no room for flows, or its client has its share of them; the mapping waits on.
    /// Its peer may not come; the mapping waits for its end.
    Banned,
    /// There is no room for flows; the mapping waits on.
    NoRoom,
}

/// Looks for the mapping that lets this SYN through, and makes the connection's flows.
#[inline(never)]
pub(super) fn use_for(skb: &Skb, hook: Hook, part: *mut Draft) -> Use {
    // SAFETY: see `scratch`: three fields that lie apart, to which no other reference is alive.
    let (head, mapping, connection) =
        unsafe { (&(*part).head, &mut (*part).mapping, &mut (*part).connection) };
    let side = hook.side();
    let (source, destination) = (&head.source, &head.destination);
    if !ports::is_announced(source.port, destination.port) {
        return Use::No;
    }
    let mut wanted = MappingKey {
        src: source.addr,
        dst: destination.addr,
        dport: destination.port,
        pad: 0,
        side,
    };
    let mut found = maps::MAPPINGS.get_ptr(wanted);
    if found.is_none() && side == side::INBOUND {
        // A pinhole that anybody may use (`peer = "any"`) names nobody.
        wanted.src = Addr::default();
        found = maps::MAPPINGS.get_ptr(wanted);
    }
    let Some(found) = found else { return Use::No };
    let (peer, public) = if side == side::INBOUND {
        (source, destination)
    } else {
        (destination, source)
    };
    if let Some(reason) = lists::refuse_peer(&peer.addr) {
        refusal::deny_peer(head.total, reason as u32, peer, public);
        return Use::Banned;
    }
    // SAFETY: the entry stays in its place while the program runs.
    *mapping = unsafe { *found };
    let share = shares::find(&mapping.client);
    if let Some(share) = share {
        // SAFETY: see `shares::find`.
        if shares::is_full(unsafe { (*share).connections }, mapping.most_connections) {
            shares::note_refusal(share);
            refusal::deny(head, Counter::DeniedClientConnections as u32);
            return Use::NoRoom;
        }
    }
    // Whoever removes it uses it: a SYN and its twin on another CPU do not both.
    if maps::MAPPINGS.remove(wanted).is_err() {
        return Use::No;
    }
    if jiffies() > mapping.expires {
        refusal::deny(head, Counter::DeniedExpired as u32);
        return Use::Expired;
    }
    belongs_to(connection, mapping);
    let is_other = !mapping.other.addr.is_none();
    let inward = mapping.is_inward(&wanted);
    if inward {
        connection.outside = *source;
        connection.public = *destination;
        connection.inside = mapping.to;
        connection.alias = *source;
        if is_other {
            connection.alias = mapping.other;
            connection.alias.port = alias::hidden(source.port);
        }
    } else {
        connection.outside = if is_other {
            mapping.other
        } else {
            *destination
        };
        connection.public = mapping.to;
        connection.public.port = source.port;
        connection.inside = *source;
        connection.alias = *destination;
    }
    let made = find_port(skb, hook, part, inward);
    if !made {
        refusal::deny(head, Counter::DeniedNoRoom as u32);
        let _ = maps::MAPPINGS.insert(wanted, mapping, u64::from(BPF_NOEXIST));
        return Use::NoRoom;
    }
    // SAFETY: see `scratch`; no other reference to it is alive.
    if let (Some(share), 0) = (share, unsafe { (*part).replaced.what }) {
        shares::add_connection(share);
    }
    if mapping.flags & mapping_flag::LEARNED != 0 {
        forget_learned(connection);
    }
    counters::add(used(connection), 0);
    tell_used(connection, mapping.cause);
    Use::Opened
}

/// What a connection has of its mapping.
#[inline(always)]
pub(super) fn belongs_to(connection: &mut Connection, mapping: &Mapping) {
    connection.session = mapping.session;
    connection.kind = mapping.kind;
    connection.flags = mapping.flow_flags;
    connection.server_inside = 1;
}

/// The counter of a used mapping.
#[inline(always)]
pub(super) const fn used(connection: &Connection) -> Counter {
    if connection.kind == kind::ACTIVE {
        Counter::ActiveUsed
    } else {
        Counter::PassiveUsed
    }
}

/// Tells that a mapping was used.
#[inline(always)]
pub(super) fn tell_used(connection: &Connection, cause: u8) {
    counters::tell(|told| {
        told.what = event::USED;
        told.kind = connection.kind;
        told.reason = used(connection) as u16;
        told.session = connection.session;
        told.peer = connection.outside;
        told.inside = connection.inside;
        told.public = connection.public;
        told.cause = cause;
    });
}

/// The search for the source port of a connection.
#[repr(C)]
struct Search {
    part: *mut Draft,
    inward: bool,
    found: bool,
}

/// Makes the connection's flows: with its own source port if the other end has that free, else with
/// another.
#[inline(always)]
pub(super) fn find_port(skb: &Skb, hook: Hook, part: *mut Draft, inward: bool) -> bool {
    find_paths(skb, hook, part);
    let mut search = Search {
        part,
        inward,
        found: false,
    };
    repeat(TRIES, &mut search, try_port);
    // SAFETY: see `scratch`; the loop is over.
    let connection = unsafe { &(*part).connection };
    if search.found && !inward && connection.public.port != connection.inside.port {
        if let Some(settings) = maps::SETTINGS.get(0) {
            ports::mark(connection.public.port, settings.hz);
        }
        counters::add(Counter::Remapped, 0);
    }
    search.found
}

/// Tries the ports in the search's connection; the next try takes another. 1 ends the loop.
unsafe extern "C" fn try_port(_index: u64, search: *mut Search) -> i64 {
    // SAFETY: `repeat` hands over what `find_port` made.
    let search = unsafe { &mut *search };
    match create(!search.inward) {
        Made::Both => search.found = true,
        Made::Taken => {}
        Made::NoRoom => return 1,
    }
    if search.found {
        return 1;
    }
    if let Some(settings) = maps::SETTINGS.get(0) {
        // SAFETY: the connection lies in this CPU's own scratch.
        let connection = unsafe { &mut (*search.part).connection };
        let port = random_port(settings);
        if search.inward {
            connection.alias.port = port;
        } else {
            connection.public.port = port;
        }
    }
    0
}

/// Removes both entries of a connection that was learned: one was used.
#[inline(never)]
pub(super) fn forget_learned(connection: &Connection) {
    let (outside, public) = (&connection.outside, &connection.public);
    let (inside, alias) = (&connection.inside, &connection.alias);
    if connection.kind == kind::ACTIVE && connection.server_inside != 0 {
        remove(inside, alias, alias.port, side::OUTBOUND);
        remove(outside, public, outside.port, side::INBOUND | REVERSED);
    } else {
        remove(outside, public, public.port, side::INBOUND);
        remove(inside, alias, inside.port, side::OUTBOUND | REVERSED);
    }
}

#[inline(always)]
fn remove(src: &Endpoint, dst: &Endpoint, dport: Port, side: u32) {
    let _ = maps::MAPPINGS.remove(MappingKey {
        src: src.addr,
        dst: dst.addr,
        dport,
        pad: 0,
        side,
    });
}
