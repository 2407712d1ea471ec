//! A segment against what its direction has seen: new, repeated, ahead of a gap, or the end of a
//! held line.
//!
//! TCP lets a gateway deliver less than it was sent: what is not sent on is not acknowledged, and
//! the sender repeats it. So an unfinished line is cut off the segment and kept; when its next
//! bytes come, the segment that goes out holds the whole of it.
//!
//! Many senders keep those next bytes back until the first ones are acknowledged: because of
//! Nagle's algorithm, or because many small segments have filled the congestion window. Measured
//! with Linux 6.18 as sender: the tail loss probe brings what was written within 0.2 s, but of
//! three writes, of two with 0.3 s between them, or of single bytes 20 ms apart the rest never
//! comes. So when a held line is repeated, or has waited for long, it is acknowledged before it is
//! sent on: the segment goes on without its payload and one number early, as a keep-alive
//! (RFC 9293 section 3.8.4), the receiver answers with the acknowledgement that it gave last, and
//! [`acknowledge`] turns that into one of everything held. The receiver makes it, with its own
//! window and timestamps; the gateway changes a number, as it does behind every edit. From then on
//! it owes those bytes to the receiver ([`Owed`]): they stand in front of what the sender sends
//! next, and again in front of its repetitions, until the receiver has acknowledged them.

use super::{adopt, timestamp, window};
use crate::abi::{Direction, LINE_MAX, Session, direction_flag};
use crate::abi::{direction, direction_mut};
use crate::counter::Counter;
use crate::edit::edits::Edits;
use crate::ftp::parser::Inspection;
use crate::wire::seq::distance;

/// Keeps a length below [`LINE_MAX`], a power of two.
const LINE_MASK: u32 = LINE_MAX as u32 - 1;

/// What to do with a segment before its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Plan {
    /// Nothing in it is new.
    Pass = 0,
    /// It must not be sent on now; its sender repeats it.
    Drop = 1,
    /// Its bytes must be read.
    Inspect = 2,
    /// TCP would not believe it: it changes nothing here.
    Outside = 3,
}

impl Plan {
    /// From its number.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::Pass,
            1 => Self::Drop,
            2 => Self::Inspect,
            _ => Self::Outside,
        }
    }
}

/// A [`Plan`], and where the segment's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Whether it is read.
    pub verdict: Plan,
    /// Kept bytes that come in front of the payload.
    pub merge: u32,
    /// Which half of [`crate::abi::Lines`] they are in.
    pub from: u16,
    /// How many bytes, counted from the first of those, were inspected before: some kept ones too,
    /// where a line was let go of which the sender has repeated only the start.
    pub skip: u32,
}

/// What to do with a segment after its bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The sequence number up to which it is sent on.
    pub end: u32,
    /// Where that leaves nothing of it: the segment is sent on all the same, empty and with the
    /// number before its first one, so that the receiver acknowledges what it has.
    pub probe: bool,
    /// What was read of the line is to be kept, in the half of [`crate::abi::Lines`] at
    /// [`Outcome::place`].
    pub keeps: bool,
    /// Which half that is: 0 or 1.
    pub place: u16,
    /// Something to be counted.
    pub counter: Option<Counter>,
}

/// A held line's sender is told to go on after the hold timeout divided by two to this power, although it
/// repeated nothing; and what comes so long after a segment behind a gap was dropped repeats it.
const PATIENCE: u32 = 6;

/// Bytes that the sender was told are delivered before they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// The sender's number of the first one.
    pub from: u32,
    /// How many, below [`LINE_MAX`].
    pub len: u16,
    /// Which half of [`crate::abi::Lines`] they are in: 0 or 1.
    pub place: u16,
}

impl Owed {
    /// What a direction owes, or has owed last.
    #[inline(always)]
    pub const fn of(direction: &Direction) -> Self {
        let word = direction.owed;
        Self {
            from: word as u32,
            len: (word >> 32) as u16 & LINE_MASK as u16,
            place: (word >> 48) as u16 & 1,
        }
    }

    /// As one word: the other direction reads it while this one writes it.
    #[inline(always)]
    const fn word(self) -> u64 {
        self.from as u64 | (self.len as u64) << 32 | (self.place as u64) << 48
    }

    /// Whether the receiver may still lack some of it.
    #[inline(always)]
    const fn is_due(self, direction: &Direction) -> bool {
        let end = self.from.wrapping_add(self.len as u32);
        self.len > 0 && distance(direction.acked, end) < 0
    }
}

/// The half of [`crate::abi::Lines`] that the line that starts at `start` is kept in: not the one of
/// bytes that are owed, unless they are its own.
#[inline(always)]
pub const fn place(direction: &Direction, start: u32) -> u16 {
    let owed = Owed::of(direction);
    if owed.len == 0 || owed.from == start {
        owed.place
    } else {
        owed.place ^ 1
    }
}

/// The half of [`crate::abi::Lines`] that the start of a line is kept in which was sent on and is told:
/// no line is held then.
#[inline(always)]
pub const fn told_place(direction: &Direction) -> u16 {
    Owed::of(direction).place ^ 1
}

/// Makes a direction one in which nothing was seen yet. What its edits hold does not matter then.
#[inline(always)]
pub fn reset(direction: &mut Direction) {
    direction.seen = 0;
    direction.held_len = 0;
    direction.line_len = 0;
    direction.head = 0;
    direction.flags = 0;
    direction.may_jump = 0;
    direction.has_timestamps = 0;
    direction.isn = 0;
    direction.held_since = 0;
    direction.gap_since = 0;
    direction.owed = 0;
    direction.acked = 0;
    direction.end = 0;
    direction.window = 0;
    direction.scale = 0;
    direction.cleared = 0;
    direction.spoke_tls = 0;
    direction.timestamp = 0;
    direction.edits.count = 0;
    direction.edits.adjusted = 0;
    direction.edits.growth = 0;
    direction.edits.pad = 0;
}

/// Notes the direction's initial sequence number, from its SYN.
#[inline(always)]
pub fn start(direction: &mut Direction, isn: u32) {
    direction.isn = isn;
    direction.seen = isn.wrapping_add(1);
    direction.acked = direction.seen;
    direction.end = direction.seen;
    direction.flags |= direction_flag::STARTED;
}

/// Notes the direction's initial sequence number from a SYN with `len` bytes of data, which are not
/// read (RFC 7413). A SYN that was seen before changes nothing.
#[inline(always)]
pub fn start_by_syn(direction: &mut Direction, isn: u32, len: u32) {
    if direction.flags & direction_flag::STARTED == 0 || direction.isn != isn {
        start(direction, isn);
        direction.seen = direction.seen.wrapping_add(len);
        direction.end = direction.seen;
    }
}

/// What to do with `len` bytes from `seq`, and whether something is to be counted. `last`: nothing
/// follows them (FIN).
///
/// `now` and `timeout` are in the same unit; a gap is given up when the receiver has acknowledged
/// what is missing, or after twice the `timeout`.
#[inline(always)]
pub fn plan(
    direction: &mut Direction,
    seq: u32,
    len: u32,
    last: bool,
    now: u64,
    timeout: u64,
) -> (Planned, Option<Counter>) {
    let mut plan = Planned {
        verdict: Plan::Pass,
        merge: 0,
        from: 0,
        skip: 0,
    };
    if len == 0 && !last {
        return (plan, None);
    }
    if direction.flags & direction_flag::STARTED == 0 {
        start(direction, seq.wrapping_sub(1));
    }
    let (merge, from) = kept_before(direction, seq);
    plan.merge = merge;
    plan.from = from;
    let ahead = distance(seq.wrapping_sub(merge), direction.seen);
    if ahead > 0 {
        if len == 0 {
            return (plan, None);
        }
        let dropped_since = direction.gap_since;
        let repeated = dropped_since != 0 && now.wrapping_sub(dropped_since) > timeout >> PATIENCE;
        if adopt::jump(direction, seq, repeated) {
            plan.merge = 0;
            plan.verdict = Plan::Inspect;
            return (plan, Some(Counter::Resynced));
        }
        let counter = beyond_a_gap(direction, seq, now, timeout);
        plan.verdict = if matches!(counter, Counter::GapDropped) {
            Plan::Drop
        } else {
            Plan::Inspect
        };
        return (plan, Some(counter));
    }
    direction.gap_since = 0;
    if distance(seq.wrapping_add(len), direction.seen) > 0 {
        plan.verdict = Plan::Inspect;
        plan.skip = ahead.wrapping_neg() as u32;
    }
    (plan, None)
}

/// How many kept bytes belong in front of a segment that starts at `seq`, and where they are kept:
/// those of a held line, or those that are owed.
#[inline(always)]
fn kept_before(direction: &Direction, seq: u32) -> (u32, u16) {
    let ahead = distance(seq, direction.seen);
    if ahead > 0 && ahead <= direction.held_len as i32 {
        let from = place(direction, direction.seen);
        return (ahead as u32 & LINE_MASK, from);
    }
    let owed = Owed::of(direction);
    let ahead = distance(seq, owed.from);
    if ahead > 0 && ahead <= owed.len as i32 && owed.is_due(direction) {
        return (ahead as u32 & LINE_MASK, owed.place);
    }
    (0, 0)
}

#[inline(always)]
fn beyond_a_gap(direction: &mut Direction, seq: u32, now: u64, timeout: u64) -> Counter {
    if direction.gap_since == 0 {
        direction.gap_since = now.max(1);
    }
    // What is missing went another way: while no datapath was attached, for example.
    let went_by = distance(direction.acked, direction.seen) > 0;
    let waited = now.wrapping_sub(direction.gap_since);
    // Where TCP's numbers are known, what is missing comes again; to go on behind it would let it
    // pass unread then.
    let is_hopeless = direction.flags & direction_flag::TRACKED == 0
        && waited >> 1 > timeout
        && !Owed::of(direction).is_due(direction);
    if !went_by && !is_hopeless {
        return Counter::GapDropped;
    }
    // Go on here, in the middle of some line.
    direction.gap_since = 0;
    direction.seen = seq;
    direction.held_len = 0;
    direction.line_len = 1;
    direction.head = 0;
    direction.flags |= direction_flag::LET_GO;
    Counter::Resynced
}

/// Whether a line that was not finished may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// There is no need to: [`Inspection::must_hold`] says so, or nothing will follow (FIN).
    No,
    /// It must be, and there are [`crate::abi::Lines`] to keep it in.
    Yes,
    /// It should be, but there is no room.
    Full,
}

/// After the bytes were read: notes what is seen and held.
///
/// `now` and `timeout` are in the same unit; a line that its sender still repeats after `timeout`
/// is let go: then the receiver does not answer keep-alives.
#[inline(always)]
pub fn finish(
    session: &mut Session,
    inspection: &mut Inspection,
    is_replies: bool,
    hold: Hold,
    now: u64,
    timeout: u64,
) -> Outcome {
    let direction = direction_mut(session, is_replies as u8);
    let held_len = direction.held_len;
    let again = held_len != 0 && direction.seen == inspection.line_seq;
    let waited = now.wrapping_sub(direction.held_since);
    let released = hold == Hold::Full || hold == Hold::Yes && again && waited > timeout;
    if hold == Hold::Yes && !released {
        if !again {
            direction.held_since = now;
        }
        let repeated = again && inspection.line_len <= held_len;
        let stuck = repeated || (again && waited > timeout >> PATIENCE);
        direction.seen = inspection.line_seq;
        // A repetition may bring less than what is known.
        direction.held_len = if repeated {
            held_len
        } else {
            inspection.line_len
        };
        direction.line_len = 0;
        direction.head = 0;
        direction.flags &= !(direction_flag::LET_GO | direction_flag::READER);
        let place = place(direction, inspection.line_seq);
        return Outcome {
            end: inspection.line_seq,
            probe: stuck && owe(direction, place),
            keeps: !repeated,
            place,
            counter: None,
        };
    }
    direction.seen = inspection.seq;
    direction.held_len = 0;
    direction.line_len = inspection.line_len;
    direction.head = inspection.head;
    // The start of a line that went on is out of reach.
    direction.flags &= !(direction_flag::LET_GO | direction_flag::READER);
    direction.flags |= inspection.kept_flags();
    if inspection.line_len > 0 {
        direction.flags |= direction_flag::LET_GO;
    }
    if released {
        inspection.release(session);
    }
    Outcome {
        end: inspection.seq,
        probe: false,
        keeps: false,
        place: 0,
        counter: if released {
            Some(Counter::LineReleased)
        } else {
            None
        },
    }
}

/// Owes the held line, which is kept at `place`, to the receiver, if nothing else is owed.
#[inline(always)]
fn owe(direction: &mut Direction, place: u16) -> bool {
    let owed = Owed::of(direction);
    if owed.from != direction.seen && owed.is_due(direction) {
        return false;
    }
    direction.owed = Owed {
        from: direction.seen,
        len: direction.held_len,
        place,
    }
    .word();
    true
}

/// Whether acknowledgements of this direction's bytes need [`acknowledge`]; SACK blocks only where
/// [`Edits::adjusted`] says so.
#[inline(always)]
pub const fn is_renumbered(direction: &Direction) -> bool {
    direction.owed != 0 || direction.edits.adjusted != 0
}

/// Whether a segment without payload, SYN, FIN and RST leaves as it came and TCP believes it; what
/// it acknowledges is noted then. `ack`: its acknowledgement number, if that counts; `window`: the
/// window that it advertises, as it stands in the header; `stamp`: its timestamp, 0: it has none.
#[inline(always)]
pub fn is_quiet(
    session: &mut Session,
    is_replies: bool,
    seq: u32,
    ack: Option<u32>,
    window: u32,
    stamp: u32,
) -> bool {
    let own = direction(session, is_replies as u8);
    let others = direction(session, !is_replies as u8);
    if own.edits.adjusted != 0 || is_renumbered(others) {
        return false;
    }
    // The driver knows the time.
    if session.adopted != 0 {
        return false;
    }
    let is_tracked = own.flags & direction_flag::TRACKED != 0;
    let Some(ack) = ack else { return !is_tracked };
    if is_tracked && !window::is_believed(own, others, seq, seq, ack, 0) {
        return false;
    }
    let scale = own.scale;
    timestamp::note(direction_mut(session, is_replies as u8), seq, stamp, false);
    let others = direction_mut(session, !is_replies as u8);
    if distance(ack, others.acked) > 0 {
        others.acked = ack;
    }
    window::open(others, ack, window, scale);
    true
}

/// What the sender of `direction` is told when its receiver acknowledges `ack`.
#[inline(always)]
pub fn acknowledge(direction: &mut Direction, ack: u32) -> u32 {
    let seq = Edits::original(&direction.edits, ack, false);
    if distance(seq, direction.acked) > 0 {
        direction.acked = seq;
    }
    let owed = Owed::of(direction);
    let at = distance(seq, owed.from);
    if at >= 0 && at < owed.len as i32 {
        owed.from.wrapping_add(owed.len as u32)
    } else {
        seq
    }
}
