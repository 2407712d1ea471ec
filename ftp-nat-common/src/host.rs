//! The gateway's reading of a control connection outside the kernel: what it sends on for a segment
//! that it got.
//!
//! Used by tests, the fuzzer and `ftp-nat inspect`. [`pass`] runs the same [`driver`] as the
//! datapath, over vectors in place of a packet.

mod medium;
mod recorder;
mod segment;

pub use self::recorder::{Call, Recorder, Spoken};
pub use self::segment::{Limits, Segment};

use self::medium::Vectors;
use crate::abi::{Lines, Session, direction_mut};
use crate::gate::Gate;
use crate::stream::driver::{self, Verdict};

/// Sends `segment` through the gateway at time `now`: gives what leaves it, if anything does.
///
/// `session` must be one that saw the connection's start ([`crate::stream::segment::start`]), or it takes the
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
    let mut medium = Vectors::new(session, lines, gate, is_replies, segment, now, limits);
    let verdict = match driver::drive(&mut medium) {
        Verdict::Outside => driver::number_outside(&mut medium),
        verdict => verdict,
    };
    (verdict == Verdict::Send).then(|| medium.into_segment())
}

/// The acknowledgement number that the sender of a direction gets when its receiver sends `ack`.
pub fn acknowledge(session: &mut Session, is_replies: bool, ack: u32) -> u32 {
    crate::stream::segment::acknowledge(direction_mut(session, is_replies as u8), ack)
}
