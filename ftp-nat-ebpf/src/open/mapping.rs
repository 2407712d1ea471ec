//! Mappings: the first SYN of an announced data connection.

use super::connection::create;
use super::learned;
use super::port_search::{TRIES, random_port};
use crate::kernel::helpers::{jiffies, repeat};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Connection, Opening};
use crate::state::{counters, maps, ports};
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{Mapping, MappingKey, event, mapping_flag, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// What a SYN's mapping has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// There is none.
    No,
    /// It was used: the connection's flows exist now.
    Opened,
    /// It has expired.
    Expired,
    /// There is no room for flows; the mapping waits on.
    NoRoom,
}

/// Looks for the mapping that lets this SYN through, and makes the connection's flows.
#[inline(never)]
pub(super) fn use_for(skb: &Skb, hook: Hook, part: *mut Opening) -> Use {
    // SAFETY: see `scratch`: three fields that lie apart, to which no other reference is alive.
    let (head, mapping, connection) =
        unsafe { (&(*part).head, &mut (*part).mapping, &mut (*part).connection) };
    let side = hook.side();
    let (source, destination) = (&head.source, &head.destination);
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
    // SAFETY: the entry stays in its place while the program runs.
    *mapping = unsafe { *found };
    // Whoever removes it uses it: a SYN and its twin on another CPU do not both.
    if maps::MAPPINGS.remove(wanted).is_err() {
        return Use::No;
    }
    if jiffies() > mapping.expires {
        counters::add(Counter::DeniedExpired, head.total);
        return Use::Expired;
    }
    belongs_to(connection, mapping);
    let made = if side == side::INBOUND {
        connection.outside = *source;
        connection.public = *destination;
        connection.inside = mapping.to;
        create(skb, hook, part, false)
    } else {
        connection.outside = *destination;
        connection.public = mapping.to;
        connection.public.port = source.port;
        connection.inside = *source;
        outbound(skb, hook, part)
    };
    if !made {
        counters::add(Counter::DeniedNoRoom, head.total);
        let _ = maps::MAPPINGS.insert(wanted, mapping, u64::from(BPF_NOEXIST));
        return Use::NoRoom;
    }
    if mapping.flags & mapping_flag::LEARNED != 0 {
        learned::forget(connection);
    }
    counters::add(Counter::MappingUsed, 0);
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

/// Tells that a mapping was used.
#[inline(always)]
pub(super) fn tell_used(connection: &Connection, cause: u8) {
    counters::tell(|told| {
        told.what = event::USED;
        told.kind = connection.kind;
        told.reason = Counter::MappingUsed as u16;
        told.session = connection.session;
        told.peer = connection.outside;
        told.inside = connection.inside;
        told.public = connection.public;
        told.cause = cause;
    });
}

/// The search for a public source port.
#[repr(C)]
struct Search<'a> {
    skb: &'a Skb,
    part: *mut Opening,
    hook: Hook,
    found: u32,
}

/// The server's own connection goes out: with its source port if the client's end has that free,
/// else with another.
#[inline(always)]
fn outbound(skb: &Skb, hook: Hook, part: *mut Opening) -> bool {
    let mut search = Search {
        skb,
        part,
        hook,
        found: 0,
    };
    repeat(TRIES, &mut search, try_port);
    // SAFETY: see `scratch`; the loop is over.
    let connection = unsafe { &(*part).connection };
    if search.found != 0 && connection.public.port != connection.inside.port {
        if let Some(settings) = maps::SETTINGS.get(0) {
            ports::mark(connection.public.port, settings.hz);
        }
        counters::add(Counter::Remapped, 0);
    }
    search.found != 0
}

/// Tries the port in the search's connection; the next try takes another. 1 ends the loop.
unsafe extern "C" fn try_port(_index: u64, search: *mut Search<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `outbound` made.
    let search = unsafe { &mut *search };
    if create(search.skb, search.hook, search.part, true) {
        search.found = 1;
        return 1;
    }
    if let Some(settings) = maps::SETTINGS.get(0) {
        // SAFETY: the connection lies in this CPU's own scratch.
        unsafe { (*search.part).connection.public.port = random_port(settings) };
    }
    0
}
