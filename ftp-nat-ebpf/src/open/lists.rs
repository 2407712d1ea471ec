//! Networks that may not begin sessions, and lists of those that alone may.

use crate::kernel::helpers::jiffies;
use crate::state::maps;
use aya_ebpf::maps::lpm_trie::Key;
use ftp_nat_common::abi::{self, ListKey, Listed, setting};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// Whether there is no list: nobody needs to be looked up.
#[inline(always)]
pub(super) fn are_empty() -> bool {
    maps::SETTINGS
        .get(0)
        .is_some_and(|it| it.flags & setting::NO_LISTS != 0)
}

/// [`abi::refuse_session`].
#[inline(never)]
pub(super) fn refuse_session(peer: &Addr, scope: u32) -> Option<Counter> {
    if are_empty() {
        return None;
    }
    abi::refuse_session(scope, |list, scope| refuses(peer, list, scope))
}

/// [`abi::refuse_peer`].
#[inline(never)]
pub(super) fn refuse_peer(peer: &Addr) -> Option<Counter> {
    if are_empty() {
        return None;
    }
    abi::refuse_peer(|list, scope| refuses(peer, list, scope))
}

/// Whether what a peer meets in a list of a scope refuses it; counts that if so.
#[inline(always)]
fn refuses(peer: &Addr, list: u32, scope: u32) -> bool {
    let key = ListKey {
        list,
        scope,
        addr: *peer,
    };
    let Some(found) = maps::LISTS.get(Key::new(ListKey::ALL, key)) else {
        return false;
    };
    let refuses = found.refuses(list, jiffies());
    if refuses {
        hit(found);
    }
    refuses
}

#[inline(always)]
fn hit(listed: &Listed) {
    let hits = (&raw const listed.hits).cast_mut();
    // SAFETY: it lies in the map's memory, which programs may write; nobody has read `hits` through
    // the reference. A count that another CPU's overwrites is lost.
    unsafe { hits.write_volatile(hits.read_volatile().wrapping_add(1)) };
}
