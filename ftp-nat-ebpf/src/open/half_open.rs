//! The tables of handshakes that are not finished: one for all, and one for those whose address has
//! its share of that already.

use crate::state::{counters, maps, shares};
use aya_ebpf::bindings::BPF_ANY;
use ftp_nat_common::abi::{HalfOpen, HalfOpenKey};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// The handshake of a key. The entry may be reused while it is read, for another handshake.
#[inline(always)]
pub(super) fn find(key: &HalfOpenKey) -> Option<*mut HalfOpen> {
    if let Some(found) = maps::HALF_OPEN.get_ptr_mut(key) {
        return Some(found);
    }
    maps::HALF_OPEN_BEYOND.get_ptr_mut(key)
}

/// Counts a handshake that begins, of this client (the key of its share); whether it had its share of
/// those before. Whoever has sent its SYN is not known to receive at the client's address: so nobody is
/// refused for the number of his handshakes.
#[inline(always)]
pub(super) fn begin(client: &Addr) -> bool {
    let is_beyond = shares::begin_handshake(client);
    if is_beyond {
        counters::add(Counter::HandshakeBeyond, 0);
    }
    is_beyond
}

/// Makes an entry, in the table for those beyond their share or in the common one; false: there is no
/// memory for it.
#[inline(never)]
pub(super) fn add(key: &HalfOpenKey, half_open: &HalfOpen, is_beyond: bool) -> bool {
    let flags = u64::from(BPF_ANY);
    if is_beyond {
        maps::HALF_OPEN_BEYOND.insert(key, half_open, flags).is_ok()
    } else {
        maps::HALF_OPEN.insert(key, half_open, flags).is_ok()
    }
}

/// Removes an entry; whether it was in the common table.
#[inline(always)]
pub(super) fn remove(key: &HalfOpenKey) -> bool {
    let is_common = maps::HALF_OPEN.remove(key).is_ok();
    if !is_common {
        let _ = maps::HALF_OPEN_BEYOND.remove(key);
    }
    is_common
}
