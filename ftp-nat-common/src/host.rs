//! The protocol half outside the kernel: what the gateway would send for a segment it got.
//!
//! Used by tests, the fuzzer and `ftp-nat inspect`. The datapath does the same with a packet in
//! place of the vectors.

mod recorder;

pub use self::recorder::{Happening, Recorder};

use crate::abi::{Lines, Session};
use crate::abi::{direction, direction_mut};
use crate::counter::Counter;
use crate::ftp::parser::Inspection;
use crate::ftp::tls::{self, PlainText};
use crate::gate::Gate;
use crate::stream::segment::{self, DROP, Hold, PASS, Plan};
use bytemuck::Zeroable;
use std::vec::Vec;

/// A segment of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether it ends the stream.
    pub fin: bool,
}

impl Segment {
    /// The number behind its last byte.
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload.len() as u32)
    }
}

/// What a gateway goes by, besides its sessions.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an unfinished line is held, in the unit of the time that [`pass`] is told.
    pub timeout: u64,
    /// The longest payload that may leave: a longer one is cut, and the sender repeats the rest.
    pub payload: usize,
}

/// Sends `segment` through the gateway at time `now`: gives what leaves it, if anything does.
///
/// `session` must be one that saw the connection's start ([`segment::start`]), or it takes the
/// first segment of each direction for one. `lines` keeps what is not sent on yet: the client's
/// lines, and the server's.
pub fn pass<G: Gate>(
    session: &mut Session,
    lines: &mut [Lines; 2],
    gate: &mut G,
    is_replies: bool,
    segment: &Segment,
    now: u64,
    limits: &Limits,
) -> Option<Segment> {
    if passes_unread(session, gate, is_replies, segment) {
        let mut whole = segment.clone();
        let edits = &direction(session, is_replies as u8).edits;
        // A line from before the encryption, once more.
        if edits.touch(whole.seq, whole.payload.len() as u32) {
            fit(session, is_replies, &mut whole, limits.payload);
        }
        return Some(rewrite(session, is_replies, &whole));
    }
    let direction = direction_mut(session, is_replies as u8);
    let len = segment.payload.len() as u32;
    let (plan, counter) = segment::plan(
        direction,
        segment.seq,
        len,
        segment.fin,
        now,
        limits.timeout,
    );
    counter.into_iter().for_each(|counter| gate.count(counter));
    let lines = &mut lines[usize::from(is_replies)];
    let mut whole = merge(lines, &plan, segment);
    if plan.verdict == DROP {
        return None;
    }
    if plan.verdict != PASS {
        let mut inspection = Inspection::zeroed();
        read(
            session,
            gate,
            &mut inspection,
            is_replies,
            &whole,
            plan.skip,
        );
        let hold = if !segment.fin && inspection.must_hold(session) {
            Hold::Yes
        } else {
            Hold::No
        };
        let outcome = segment::finish(
            session,
            &mut inspection,
            is_replies,
            hold,
            now,
            limits.timeout,
        );
        let counter = outcome.counter;
        counter.into_iter().for_each(|counter| gate.count(counter));
        if outcome.keeps {
            *lines.half_mut(outcome.place) = inspection.line;
        }
        if outcome.end == whole.seq && whole.seq != whole.end() {
            gate.count(Counter::LineHeld);
            if !outcome.probe {
                return None;
            }
            gate.count(Counter::LineAcknowledged);
        } else if outcome.end != whole.end() {
            gate.count(Counter::SegmentCut);
        } else if plan.merge > 0 {
            gate.count(Counter::LineMerged);
        }
        cut(&mut whole, outcome.end);
        if whole.payload.is_empty() && outcome.probe {
            let seq = direction_mut(session, is_replies as u8)
                .edits
                .sent(whole.seq);
            whole.seq = seq.wrapping_sub(1);
            return Some(whole);
        }
    }
    fit(session, is_replies, &mut whole, limits.payload);
    Some(rewrite(session, is_replies, &whole))
}

/// The acknowledgement number that the sender of a direction gets when its receiver sends `ack`.
pub fn acknowledge(session: &mut Session, is_replies: bool, ack: u32) -> u32 {
    segment::acknowledge(direction_mut(session, is_replies as u8), ack)
}

/// Whether the segment is encrypted. A segment that is plain text again ends that.
fn passes_unread<G: Gate>(
    session: &mut Session,
    gate: &mut G,
    is_replies: bool,
    segment: &Segment,
) -> bool {
    if !tls::is_encrypted(session, is_replies) {
        return false;
    }
    if segment.payload.is_empty() {
        return true;
    }
    let mut judge = PlainText::zeroed();
    let is_plain =
        segment.payload.iter().all(|byte| judge.feed(*byte)) && judge.is_plain(is_replies);
    let direction = direction_mut(session, is_replies as u8);
    if tls::pass_unread(direction, segment.seq, segment.payload.len() as u32) && is_plain {
        tls::clear(session, gate, is_replies, segment.seq);
        return false;
    }
    gate.count(Counter::PassedEncrypted);
    true
}

/// The segment with the kept bytes that belong in front of it.
fn merge(lines: &Lines, plan: &Plan, segment: &Segment) -> Segment {
    let kept = &lines.half(plan.from)[..plan.merge as usize];
    Segment {
        seq: segment.seq.wrapping_sub(plan.merge),
        payload: [kept, &segment.payload].concat(),
        fin: segment.fin,
    }
}

/// Reads what is new of the segment: its bytes behind the first `skip` ones.
fn read<G: Gate>(
    session: &mut Session,
    gate: &mut G,
    inspection: &mut Inspection,
    is_replies: bool,
    segment: &Segment,
    skip: u32,
) {
    inspection.begin(session, is_replies, segment.seq.wrapping_add(skip));
    let mut bytes = &segment.payload[skip as usize..];
    while let [byte, rest @ ..] = bytes {
        if let Some((word, rest)) = bytes.split_first_chunk()
            && inspection.skim(u64::from_ne_bytes(*word))
        {
            bytes = rest;
            continue;
        }
        bytes = rest;
        if inspection.feed(session, *byte) {
            inspection.act(session, gate);
        }
        if inspection.stop != 0 {
            break;
        }
    }
}

/// Leaves off what starts at the sender's `end`.
fn cut(segment: &mut Segment, end: u32) {
    if end != segment.end() {
        segment.fin = false;
    }
    segment
        .payload
        .truncate(end.wrapping_sub(segment.seq) as usize);
}

/// Cuts the segment so that no more than `longest` bytes leave.
fn fit(session: &Session, is_replies: bool, segment: &mut Segment, longest: usize) {
    let edits = &direction(session, is_replies as u8).edits;
    let mut end = segment.end();
    while edits.sent(end).wrapping_sub(edits.sent(segment.seq)) as usize > longest {
        end = end.wrapping_sub(1);
    }
    cut(segment, end);
}

/// A segment with all edits that lie in it, and with the receiver's numbers.
fn rewrite(session: &Session, is_replies: bool, segment: &Segment) -> Segment {
    let edits = &direction(session, is_replies as u8).edits;
    let first = edits.sent(segment.seq);
    let end = edits.sent(segment.end());
    let payload = (0..end.wrapping_sub(first))
        .map(|at| match edits.source(first.wrapping_add(at)) {
            (Some(byte), _) => byte,
            (None, seq) => segment.payload[seq.wrapping_sub(segment.seq) as usize],
        })
        .collect::<Vec<_>>();
    // All of it lies in a piece that got shorter: a keep-alive asks for the acknowledgement.
    let is_swallowed = payload.is_empty() && !segment.payload.is_empty() && !segment.fin;
    Segment {
        seq: first.wrapping_sub(is_swallowed as u32),
        payload,
        fin: segment.fin,
    }
}
