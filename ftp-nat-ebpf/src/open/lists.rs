//! Networks that may not begin sessions, and lists of those that alone may.

use crate::kernel::helpers::jiffies;
use crate::state::maps;
use aya_ebpf::maps::lpm_trie::Key;
use ftp_nat_common::abi::{ListKey, Listed, list, listed_flag, scope};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// Why a peer may not begin a session of this scope; None: it may. Also of a scope of which there are
/// no lists.
#[inline(never)]
pub(super) fn refuse_session(peer: &Addr, scope: u32) -> Option<Counter> {
    if let Some(reason) = refuse_peer(peer) {
        return Some(reason);
    }
    if scope != scope::ALL && is_denied(peer, scope) {
        return Some(Counter::DeniedBanned);
    }
    if is_left_out(peer, scope::ALL) || scope != scope::ALL && is_left_out(peer, scope) {
        return Some(Counter::DeniedNotAllowed);
    }
    None
}

/// Why nobody here talks to a peer; None: somebody does.
#[inline(never)]
pub(super) fn refuse_peer(peer: &Addr) -> Option<Counter> {
    is_denied(peer, scope::ALL).then_some(Counter::DeniedBanned)
}

#[inline(always)]
fn is_denied(addr: &Addr, scope: u32) -> bool {
    let Some(found) = look_up(list::DENY, scope, addr) else {
        return false;
    };
    let is_denied = is_in_force(found);
    if is_denied {
        hit(found);
    }
    is_denied
}

/// Whether there is an allow list that an address is not in.
#[inline(always)]
fn is_left_out(addr: &Addr, scope: u32) -> bool {
    let Some(found) = look_up(list::ALLOW, scope, addr) else {
        return false;
    };
    let is_left_out = found.flags & listed_flag::NOBODY != 0 || !is_in_force(found);
    if is_left_out {
        hit(found);
    }
    is_left_out
}

#[inline(always)]
fn look_up(list: u32, scope: u32, addr: &Addr) -> Option<&'static Listed> {
    let key = ListKey {
        list,
        scope,
        addr: *addr,
    };
    maps::LISTS.get(Key::new(ListKey::ALL, key))
}

#[inline(always)]
fn is_in_force(listed: &Listed) -> bool {
    listed.expires == 0 || jiffies() <= listed.expires
}

#[inline(always)]
fn hit(listed: &Listed) {
    let hits = (&raw const listed.hits).cast_mut();
    // SAFETY: it lies in the map's memory, which programs may write; nobody has read `hits` through
    // the reference. A count that another CPU's overwrites is lost.
    unsafe { hits.write_volatile(hits.read_volatile().wrapping_add(1)) };
}
