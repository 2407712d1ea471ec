//! Telling why a packet opens nothing.

use crate::state::counters;
use crate::state::scratch::Head;
use ftp_nat_common::wire::addr::Endpoint;

/// Counts and reports a packet from outside that is denied, under this counter's number.
#[inline(always)]
pub(super) fn deny(head: &Head, counter: u32) {
    deny_peer(head.total, counter, &head.source, &head.destination);
}

/// The same of a packet of `total` bytes, whichever of its ends is the peer outside.
#[inline(never)]
pub(super) fn deny_peer(total: u32, counter: u32, peer: &Endpoint, public: &Endpoint) {
    counters::add_number(counter, total);
    counters::tell_denied(|told| {
        told.reason = counter as u16;
        told.peer = *peer;
        told.public = *public;
    });
}
