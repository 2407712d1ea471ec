//! The protocol half outside the kernel: what the gateway would send for a segment it got.
//!
//! Used by tests, the fuzzer and `ftp-nat inspect`. The datapath does the same with a packet in
//! place of the vectors.

use crate::abi::{LINE_MAX, Session};
use crate::counter::Counter;
use crate::inspect::{Gate, Inspection, direction, direction_mut};
use crate::segment::{self, DROP, INSPECT, PASS};
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

/// Sends `segment` through the gateway at time `now`: gives what leaves it, if anything does.
///
/// `session` must be one that saw the connection's start ([`segment::start`]); `timeout` is in
/// `now`'s unit.
pub fn pass<G: Gate>(
    session: &mut Session,
    gate: &mut G,
    is_replies: bool,
    segment: &Segment,
    now: u64,
    timeout: u64,
) -> Option<Segment> {
    let side = is_replies as u8;
    let len = segment.payload.len() as u32;
    let (plan, counter) =
        segment::plan(direction_mut(session, side), segment.seq, len, now, timeout);
    counter.into_iter().for_each(|counter| gate.count(counter));
    let mut bytes = segment.payload.clone();
    let mut seq = segment.seq;
    let mut fin = segment.fin;
    match plan.verdict {
        PASS => {}
        DROP => return None,
        INSPECT => {
            let mut inspection = Inspection::zeroed();
            let held = direction(session, side).line;
            seq = seq.wrapping_sub(plan.merge);
            bytes.splice(0..0, held[..plan.merge as usize % LINE_MAX].iter().copied());
            inspection.begin(session, is_replies, seq.wrapping_add(plan.skip));
            for byte in &bytes[plan.skip as usize..] {
                inspection.feed(session, gate, *byte);
                if inspection.stop != 0 {
                    break;
                }
            }
            let all = seq.wrapping_add(bytes.len() as u32);
            let end = segment::finish(session, &inspection, is_replies, segment.fin, now);
            if end != all {
                fin = false;
                gate.count(if end == seq {
                    Counter::LineHeld
                } else {
                    Counter::SegmentCut
                });
            }
            bytes.truncate(end.wrapping_sub(seq) as usize);
            if bytes.is_empty() {
                return None;
            }
        }
        other => unreachable!("plan {other}"),
    }
    Some(rewrite(
        session,
        side,
        &Segment {
            seq,
            payload: bytes,
            fin,
        },
    ))
}

/// A segment with all edits that lie in it, and with the receiver's numbers.
fn rewrite(session: &Session, side: u8, segment: &Segment) -> Segment {
    let edits = &direction(session, side).edits;
    let first = edits.sent(segment.seq);
    let end = edits.sent(segment.seq.wrapping_add(segment.payload.len() as u32));
    let payload = (0..end.wrapping_sub(first))
        .map(|at| match edits.source(first.wrapping_add(at)) {
            (Some(byte), _) => byte,
            (None, seq) => segment.payload[seq.wrapping_sub(segment.seq) as usize],
        })
        .collect();
    Segment {
        seq: first,
        payload,
        fin: segment.fin,
    }
}
