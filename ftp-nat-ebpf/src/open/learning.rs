//! Whether all is known here that other gateways of the cluster know.

use crate::kernel::helpers::jiffies;
use crate::state::scratch::Draft;
use crate::state::{counters, maps};
use ftp_nat_common::abi::{PublishKey, cluster, publish_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::{Addr, Port};

/// Whether other gateways share their sessions with this one ([`cluster::SHARED`]).
#[inline(always)]
pub fn is_shared() -> bool {
    maps::SETTINGS
        .get(0)
        .is_some_and(|it| it.cluster & cluster::SHARED != 0)
}

/// Whether one of them listens now ([`cluster::LISTENED`]).
#[inline(always)]
pub fn is_listened_to() -> bool {
    maps::SETTINGS
        .get(0)
        .is_some_and(|it| it.cluster & cluster::LISTENED != 0)
}

/// Whether connections to this public address may be known to another gateway and not here yet
/// ([`publish_flag::AWAY`] and [`Settings::learning_until`](ftp_nat_common::abi::Settings)).
#[inline(never)]
pub(super) fn is_learning(addr: &Addr) -> bool {
    let key = PublishKey {
        addr: *addr,
        port: Port(0),
        pad: 0,
    };
    // SAFETY: the entry stays in its place while the program runs.
    let Some(address) = (unsafe { maps::PUBLISHED.get(key) }) else {
        return false;
    };
    address.flags & publish_flag::AWAY != 0
        || maps::SETTINGS
            .get(0)
            .is_some_and(|it| it.learning_until != 0 && jiffies() < it.learning_until)
}

/// Counts a packet that is dropped because its connection may become known.
#[inline(always)]
pub(super) fn refuse(part: *mut Draft) {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    counters::add(Counter::DroppedLearning, head.total);
}
