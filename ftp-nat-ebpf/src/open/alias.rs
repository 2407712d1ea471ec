//! The end outside as the inside sees it: as it is, unless the server must not see it, or another
//! connection of the server's has the same numbers.

use super::port_search::{TRIES, random_port};
use crate::kernel::helpers::repeat;
use crate::state::scratch::{self, Draft};
use crate::state::{flows, maps};
use ftp_nat_common::abi::{HalfOpenKey, flow_flag, half_open_flag, side};
use ftp_nat_common::wire::addr::{Endpoint, Port};

/// The first port to try at this machine's own address: the client's own, where it is of the range
/// for remaps. All others may be in use by this machine itself.
#[inline(always)]
pub(super) fn hidden(own: Port) -> Port {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return own;
    };
    let is_ours = (settings.remap_first..=settings.remap_last).contains(&own.number());
    if is_ours { own } else { random_port(settings) }
}

/// Under what end the inside knows the handshake in the memory: `alias` of its connection, whose
/// other ends are known. At first the memory has there what is wanted. False: no port is free.
#[inline(always)]
pub(super) fn choose() -> bool {
    ftp_nat_choose_alias() != 0
}

/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_choose_alias() -> u32 {
    let Some(part) = scratch::opening() else {
        return 0;
    };
    // SAFETY: see `scratch`; no other reference to these is alive.
    let connection = unsafe { &mut (*part).connection };
    if let Some(known) = known(connection) {
        connection.alias = known;
        return 1;
    }
    let mut search = Search { part, found: 0 };
    repeat(TRIES, &mut search, try_alias);
    search.found
}

/// What the same connection goes by already: one that is live, or a handshake.
#[inline(always)]
fn known(connection: &scratch::Connection) -> Option<Endpoint> {
    let from = if connection.flags & flow_flag::HAIRPIN == 0 {
        side::INBOUND
    } else {
        side::OUTBOUND
    };
    if let Some(flow) = flows::find(&connection.outside, &connection.public, from) {
        // SAFETY: the entry stays in its place while the program runs.
        let flow = unsafe { &*flow };
        if flow.destination() == connection.inside {
            return Some(flow.source());
        }
    }
    let there = maps::HALF_OPEN.get_ptr(HalfOpenKey {
        inside: connection.public,
        outside: connection.outside,
    })?;
    // SAFETY: the entry may be reused while it is read: then it says nothing about these ends.
    let there = unsafe { &*there };
    let is_ours = there.flags & half_open_flag::ALIAS != 0
        && there.public == connection.public
        && there.to == connection.inside;
    is_ours.then_some(there.other)
}

/// The search for a free alias.
#[repr(C)]
struct Search {
    part: *mut Draft,
    found: u32,
}

/// Tries the alias in the search's connection; the next try takes another port. 1 ends the loop.
unsafe extern "C" fn try_alias(_index: u64, search: *mut Search) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_choose_alias` made; the connection lies in this CPU's
    // own scratch.
    let (search, connection) = unsafe {
        let search = &mut *search;
        let connection = &mut (*search.part).connection;
        (search, connection)
    };
    if is_free(connection) {
        search.found = 1;
        return 1;
    }
    if let Some(settings) = maps::SETTINGS.get(0) {
        connection.alias.port = random_port(settings);
    }
    0
}

/// Whether the server has no other connection and no other handshake with the alias.
#[inline(always)]
fn is_free(connection: &scratch::Connection) -> bool {
    let key = HalfOpenKey {
        inside: connection.inside,
        outside: connection.alias,
    };
    if let Some(there) = maps::HALF_OPEN.get_ptr(key) {
        // SAFETY: the entry may be reused while it is read: then another port is taken in vain.
        let there = unsafe { &*there };
        if there.public != connection.public || there.other != connection.outside {
            return false;
        }
    }
    match flows::find(&connection.inside, &connection.alias, side::OUTBOUND) {
        None => true,
        // SAFETY: the entry stays in its place while the program runs.
        Some(flow) => unsafe {
            (*flow).source() == connection.public && (*flow).destination() == connection.outside
        },
    }
}
