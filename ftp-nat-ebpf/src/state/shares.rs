//! What each client has of the tables, and what it was refused.

use super::maps;
use crate::kernel::helpers::jiffies;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{HALF_OPEN_SECONDS, HalfOpenLevel, Settings, Share};
use ftp_nat_common::bucket::{self, after, is_beyond};
use ftp_nat_common::wire::addr::Addr;

/// A client's share, by [`ftp_nat_common::abi::share_of`] its address; None: it has none yet.
///
/// The entry stays in its place while the program runs (see [`maps`]). The daemon's sweep may put
/// another in its place meanwhile: a count that is lost by that is set right by the next sweep, which
/// counts anew.
#[inline(always)]
pub fn find(client: &Addr) -> Option<*mut Share> {
    maps::SHARES.get_ptr_mut(client)
}

/// The same, made if it is not there; None: there is no room for it, and the client is not counted.
#[inline(always)]
pub fn find_or_make(client: &Addr) -> Option<*mut Share> {
    if let Some(share) = find(client) {
        return Some(share);
    }
    let none = Share::default();
    let _ = maps::SHARES.insert(client, none, u64::from(BPF_NOEXIST));
    find(client)
}

/// Whether a count has reached its bound; 0: there is none.
#[inline(always)]
pub fn is_full(count: u32, most: u32) -> bool {
    most != 0 && count >= most
}

/// Notes that something was refused to a client.
#[inline(always)]
pub fn note_refusal(share: *mut Share) {
    // SAFETY: see `find`; whole fields are read and written.
    unsafe {
        let refused = &raw mut (*share).refused;
        refused.write_volatile(refused.read_volatile().wrapping_add(1));
        (&raw mut (*share).refused_at).write_volatile(jiffies());
    }
}

/// Uses an allowance of which there is so much a second ([`bucket`]); false: it is used up. Of two
/// uses on two CPUs at once, one may not count.
#[inline(always)]
pub fn allow_announcement(until: *mut u64, interval: u64, settings: &Settings) -> bool {
    if interval == 0 {
        return true;
    }
    let now = bucket::ticks(jiffies());
    // SAFETY: the caller's field of a map's entry, which stays in its place while the program runs.
    unsafe {
        let next = after(until.read_volatile(), now, interval);
        if is_beyond(next, now, bucket::ticks(settings.hz.into())) {
            return false;
        }
        until.write_volatile(next);
    }
    true
}

/// The span of the allowance of unfinished handshakes.
#[inline(always)]
fn half_open_span(settings: &Settings) -> u64 {
    bucket::ticks(u64::from(settings.hz).wrapping_mul(HALF_OPEN_SECONDS))
}

/// Counts a handshake that begins; whether its client has had its share of those before.
#[inline(never)]
pub fn begin_handshake(client: &Addr) -> bool {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return false;
    };
    if settings.half_open_interval == 0 {
        return false;
    }
    let now = bucket::ticks(jiffies());
    let Some(level) = maps::HALF_OPEN_LEVELS.get_ptr_mut(client) else {
        let first = HalfOpenLevel {
            until: after(0, now, settings.half_open_interval),
        };
        let _ = maps::HALF_OPEN_LEVELS.insert(client, first, u64::from(BPF_ANY));
        return false;
    };
    // SAFETY: the entry may be reused meanwhile, for another client: one handshake is counted for
    // the wrong one then.
    unsafe {
        let until = &raw mut (*level).until;
        let next = after(until.read_volatile(), now, settings.half_open_interval);
        if is_beyond(next, now, half_open_span(settings)) {
            return true;
        }
        until.write_volatile(next);
    }
    false
}

/// Counts a handshake that is finished.
#[inline(always)]
pub fn finish_handshake(client: &Addr) {
    let Some(settings) = maps::SETTINGS.get(0) else {
        return;
    };
    if let Some(level) = maps::HALF_OPEN_LEVELS.get_ptr_mut(client) {
        // SAFETY: as in `begin_handshake`.
        unsafe {
            let until = &raw mut (*level).until;
            let less = until
                .read_volatile()
                .saturating_sub(settings.half_open_interval);
            until.write_volatile(less);
        }
    }
}

/// Adds to a count that other CPUs change as well.
#[inline(always)]
fn add(count: *mut u32, by: u32) {
    // SAFETY: the caller's field of a map's entry, which stays in its place while the program runs.
    unsafe {
        core::intrinsics::atomic_xadd::<u32, u32, { core::intrinsics::AtomicOrdering::Relaxed }>(
            count, by,
        );
    }
}

/// Counts a session that was made.
#[inline(always)]
pub fn add_session(share: *mut Share) {
    // SAFETY: see `find`.
    add(unsafe { &raw mut (*share).sessions }, 1);
}

/// Takes that back.
#[inline(always)]
pub fn take_session(share: *mut Share) {
    // SAFETY: see `find`.
    add(unsafe { &raw mut (*share).sessions }, u32::MAX);
}

/// Counts a data connection that was made.
#[inline(always)]
pub fn add_connection(share: *mut Share) {
    // SAFETY: see `find`.
    add(unsafe { &raw mut (*share).connections }, 1);
}

/// Notes that there was no room for a control connection. For the next half second, SYNs to control
/// ports are dropped: their clients try again, and do not take themselves for connected as those do
/// whose last acknowledgement is dropped. The next one after that finds out whether there is room.
#[inline(always)]
pub fn note_no_room() {
    if let (Some(until), Some(settings)) = (maps::FULL_UNTIL.get_ptr_mut(0), maps::SETTINGS.get(0))
    {
        // SAFETY: a whole aligned word; of several CPUs the last one wins.
        unsafe { until.write_volatile(jiffies().wrapping_add(u64::from(settings.hz / 2))) };
    }
}

/// Whether there was no room just now.
#[inline(always)]
pub fn is_no_room() -> bool {
    let Some(until) = maps::FULL_UNTIL.get_ptr(0) else {
        return false;
    };
    // SAFETY: a whole aligned word.
    unsafe { until.read_volatile() > jiffies() }
}
