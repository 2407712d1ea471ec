//! Which segments of a control connection TCP would believe.
//!
//! RFC 9293 section 3.10.7.4 has an end accept what lies in the window that it advertised, and
//! acknowledgements of what was really sent; RFC 5961 has it end a connection only by the exact
//! number. The gateway sees both ends' segments, so it judges by what both have really sent: a
//! segment that the receiver would not take changes nothing here either. Windows are scaled where
//! both SYNs agreed on it (RFC 7323 section 2.2).

use crate::abi::{Direction, LINE_MAX, direction_flag};
use crate::wire::seq::distance;

/// How far before what the receiver has acknowledged a segment may start or acknowledge, in bytes:
/// it is a repetition then, which TCP answers but does not take.
const BEHIND: i32 = 1 << 20;

/// Starts to judge a direction whose sender's SYN had the number `isn` and this window scale.
#[inline(always)]
pub fn track(direction: &mut Direction, scale: u8) {
    direction.scale = scale & 15;
    // Until the receiver's first segment tells more: one byte, as a zero window has.
    direction.window = direction.end;
    direction.flags |= direction_flag::TRACKED;
}

/// Whether the receiver would take a segment with the sender's numbers `seq` to `end` (exclusive,
/// SYN and FIN counted), and the acknowledgement `ack`, which is the sender's number for the other
/// direction's bytes: mapped back by that direction's edits. `unseen`: so many bytes of either
/// direction may have gone another way.
#[inline(always)]
pub fn is_believed(
    own: &Direction,
    others: &Direction,
    seq: u32,
    end: u32,
    ack: u32,
    unseen: i32,
) -> bool {
    // What a sender was told early is not in the receiver's window yet.
    let early = if own.owed == 0 { 0 } else { LINE_MAX as i32 };
    distance(seq, own.window) <= early.wrapping_add(unseen)
        && distance(end, own.acked) >= -BEHIND
        && distance(ack, others.end) <= unseen
        && distance(ack, others.acked) >= -BEHIND
}

/// Whether a RST with this number ends the connection (RFC 5961 section 3.2): it is the number that
/// the receiver waits for, which lies between what it has acknowledged and what was sent.
#[inline(always)]
pub fn is_exact(own: &Direction, seq: u32) -> bool {
    seq == own.end || seq == own.acked || seq == own.seen
}

/// Notes what the sender has sent: up to `end`.
#[inline(always)]
pub fn sent(own: &mut Direction, end: u32) {
    if distance(end, own.end) > 0 {
        own.end = end;
    }
}

/// Notes the window that a direction's receiver advertises, shifted by the receiver's `scale`, behind
/// the number `acked` of the direction's sender.
#[inline(always)]
pub fn open(direction: &mut Direction, acked: u32, window: u32, scale: u8) {
    let edge = acked.wrapping_add(window << (scale & 15));
    if distance(edge, direction.window) > 0 {
        direction.window = edge;
    }
}
