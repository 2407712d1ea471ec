//! A segment against what its direction has seen: new, repeated, ahead of a gap, or the end of a
//! held line.
//!
//! TCP lets a gateway deliver less than it was sent: what is not sent on is not acknowledged, and
//! the sender repeats it. So an unfinished line is cut off the segment and kept; when its next
//! bytes come, the segment that goes out holds the whole of it. No acknowledgement is ever made
//! up, and end-to-end reliability stays what it was.

use crate::abi::{Direction, LINE_MAX, Session, direction_flag};
use crate::counter::Counter;
use crate::inspect::{Inspection, direction_mut};
use crate::seq::distance;

/// What to do with a segment before its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// [`PASS`], [`DROP`] or [`INSPECT`].
    pub verdict: u8,
    /// Bytes of the payload that were inspected before.
    pub skip: u32,
    /// Held bytes that come in front of the payload.
    pub merge: u32,
}

/// Nothing in it is new.
pub const PASS: u8 = 0;
/// It must not be sent on now.
pub const DROP: u8 = 1;
/// Its bytes must be read.
pub const INSPECT: u8 = 2;

impl Plan {
    const fn of(verdict: u8) -> Self {
        Self {
            verdict,
            skip: 0,
            merge: 0,
        }
    }
}

/// Notes the direction's initial sequence number, from its SYN.
#[inline(always)]
pub fn start(direction: &mut Direction, isn: u32) {
    direction.isn = isn;
    direction.seen = isn.wrapping_add(1);
    direction.flags |= direction_flag::STARTED;
}

/// What to do with `len` bytes from `seq`, and whether something is to be counted.
///
/// `now` and `timeout` are in the same unit; after `timeout` a gap is given up and a held line let
/// go.
#[inline(always)]
pub fn plan(
    direction: &mut Direction,
    seq: u32,
    len: u32,
    now: u64,
    timeout: u64,
) -> (Plan, Option<Counter>) {
    if len == 0 {
        return (Plan::of(PASS), None);
    }
    if direction.flags & direction_flag::STARTED == 0 {
        start(direction, seq.wrapping_sub(1));
    }
    let held = direction.held_len as u32;
    let ahead = distance(seq, direction.seen);
    let end = distance(seq.wrapping_add(len), direction.seen);
    if end <= 0 {
        return (Plan::of(PASS), None);
    }
    if ahead > held as i32 {
        return beyond_a_gap(direction, seq, now, timeout);
    }
    direction.gap_since = 0;
    if held == 0 {
        return (
            Plan {
                verdict: INSPECT,
                skip: ahead.wrapping_neg() as u32,
                merge: 0,
            },
            None,
        );
    }
    if ahead > 0 {
        return (
            Plan {
                verdict: INSPECT,
                skip: 0,
                merge: ahead as u32 & (LINE_MAX as u32 - 1),
            },
            None,
        );
    }
    // The held line again, from its start.
    let skip = ahead.wrapping_neg() as u32;
    if now.wrapping_sub(direction.held_since) > timeout {
        direction.held_len = 0;
        direction.flags |= direction_flag::LET_GO;
        return (
            Plan {
                verdict: INSPECT,
                skip,
                merge: 0,
            },
            Some(Counter::LineReleased),
        );
    }
    if end <= held as i32 {
        return (Plan::of(DROP), Some(Counter::LineHeld));
    }
    (
        Plan {
            verdict: INSPECT,
            skip,
            merge: 0,
        },
        None,
    )
}

#[inline(always)]
fn beyond_a_gap(
    direction: &mut Direction,
    seq: u32,
    now: u64,
    timeout: u64,
) -> (Plan, Option<Counter>) {
    if direction.gap_since == 0 {
        direction.gap_since = now.max(1);
    }
    if now.wrapping_sub(direction.gap_since) <= timeout {
        return (Plan::of(DROP), Some(Counter::GapDropped));
    }
    // Nobody will fill it: the bytes went another way. Go on here, in the middle of some line.
    direction.gap_since = 0;
    direction.seen = seq;
    direction.held_len = 0;
    direction.line_len = 1;
    direction.head = 0;
    direction.flags |= direction_flag::LET_GO;
    (
        Plan {
            verdict: INSPECT,
            skip: 0,
            merge: 0,
        },
        Some(Counter::Resynced),
    )
}

/// After the bytes were read: notes what is seen and held, and gives the sequence number up to
/// which the segment is sent on. `last`: nothing will follow (FIN), so nothing is held.
#[inline(always)]
pub fn finish(
    session: &mut Session,
    inspection: &Inspection,
    is_replies: bool,
    last: bool,
    now: u64,
) -> u32 {
    let hold = !last && inspection.must_hold(session);
    let direction = direction_mut(session, is_replies as u8);
    if hold {
        if direction.held_len == 0 || direction.seen != inspection.line_seq {
            direction.held_since = now;
        }
        direction.seen = inspection.line_seq;
        direction.held_len = inspection.line_len;
        direction.line_len = 0;
        direction.head = 0;
        direction.flags &= !direction_flag::LET_GO;
        return inspection.line_seq;
    }
    direction.seen = inspection.seq;
    direction.held_len = 0;
    direction.line_len = inspection.line_len;
    direction.head = inspection.head;
    // The start of a line that went on is out of reach.
    if inspection.line_len > 0 {
        direction.flags |= direction_flag::LET_GO;
    } else {
        direction.flags &= !direction_flag::LET_GO;
    }
    inspection.seq
}
