//! Mappings: the first SYN of an announced data connection.

use crate::count;
use crate::flow::{Connection, create};
use crate::gateway::Hook;
use crate::interest;
use crate::kernel::{Skb, jiffies, random, repeat};
use crate::maps;
use ftp_nat_common::abi::{MappingKey, Settings, event, side};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Port};

/// How many ports are tried when the wanted one is taken.
pub const TRIES: u32 = 16;

/// Looks for the mapping that lets this SYN through, and makes the connection's flows.
#[inline(never)]
pub fn use_for(skb: &Skb, hook: Hook) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let (syn, mapping, connection) = unsafe {
        (
            &(*scratch).syn,
            &mut (*scratch).mapping,
            &mut (*scratch).connection,
        )
    };
    let side = hook.side();
    let (source, destination) = (&syn.source, &syn.destination);
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
    let Some(found) = found else { return false };
    // SAFETY: a map's entry stays in its place while a program runs.
    *mapping = unsafe { *found };
    // Whoever removes it uses it: a SYN and its twin on another CPU do not both.
    if maps::MAPPINGS.remove(wanted).is_err() {
        return false;
    }
    if jiffies() > mapping.expires {
        count::add(Counter::DeniedExpired, 0);
        return false;
    }
    connection.session = mapping.session;
    connection.kind = mapping.kind;
    connection.flags = 0;
    connection.server_inside = 1;
    let made = if side == side::INBOUND {
        connection.outside = *source;
        connection.public = *destination;
        connection.inside = mapping.to;
        create(skb, hook, false)
    } else {
        connection.outside = *destination;
        connection.public = mapping.to;
        connection.public.port = source.port;
        connection.inside = *source;
        outbound(skb, hook, connection)
    };
    let counter = if made {
        Counter::MappingUsed
    } else {
        Counter::PassedMapFull
    };
    count::add(counter, 0);
    if made {
        tell_used(connection, mapping.cause);
    }
    made
}

#[inline(always)]
fn tell_used(connection: &Connection, cause: u8) {
    count::tell(|told| {
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
    connection: *mut Connection,
    hook: Hook,
    found: u32,
}

/// The server's own connection goes out: with its source port if the client's end has that free,
/// else with another.
#[inline(always)]
fn outbound(skb: &Skb, hook: Hook, connection: &mut Connection) -> bool {
    let mut search = Search {
        skb,
        connection,
        hook,
        found: 0,
    };
    repeat(TRIES, &mut search, try_port);
    if search.found != 0 && connection.public.port != connection.inside.port {
        if let Some(settings) = maps::SETTINGS.get(0) {
            interest::note(connection.public.port, settings.hz);
        }
        count::add(Counter::Remapped, 0);
    }
    search.found != 0
}

/// Tries the port in the search's connection; the next try takes another. 1 ends the loop.
unsafe extern "C" fn try_port(_index: u64, search: *mut Search<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `outbound` made.
    let search = unsafe { &mut *search };
    if create(search.skb, search.hook, true) {
        search.found = 1;
        return 1;
    }
    if let Some(settings) = maps::SETTINGS.get(0) {
        // SAFETY: the connection lies in this CPU's own scratch.
        unsafe { (*search.connection).public.port = random_port(settings) };
    }
    0
}

/// A port of the range for remaps.
#[inline(always)]
pub fn random_port(settings: &Settings) -> Port {
    let first = u32::from(settings.remap_first);
    let size = u32::from(settings.remap_last)
        .wrapping_sub(first)
        .wrapping_add(1)
        & 0xffff;
    let size = if size == 0 { 1 } else { size };
    Port::new((first + random() % size) as u16)
}
