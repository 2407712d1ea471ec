//! Telling why a packet opens nothing.

use crate::state::counters;
use crate::state::scratch::Head;

/// Counts and reports a packet that is denied, under this counter's number.
#[inline(never)]
pub(super) fn deny(head: &Head, counter: u32) {
    counters::add_number(counter, head.total);
    counters::tell_denied(|told| {
        told.reason = counter as u16;
        told.peer = head.source;
        told.public = head.destination;
    });
}
