//! The gateway's reading of a control connection outside the kernel: what it sends on for a segment
//! that it got.
//!
//! Used by tests, the fuzzer and `ftp-nat inspect`. [`pass`] runs the same [`driver`] as the
//! datapath, over vectors in place of a packet.

mod medium;
mod recorder;

pub use self::recorder::{Happening, Recorder};

use self::medium::Vectors;
use crate::abi::{Lines, Session, direction_mut};
use crate::gate::Gate;
use crate::stream::driver::{self, Verdict};
use crate::stream::segment;
use crate::wire::tcp::flag;
use std::vec::Vec;

/// A segment of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its sequence number.
    pub seq: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether it ends the stream.
    pub fin: bool,
    /// Whether it starts the stream.
    pub syn: bool,
    /// Whether it resets the connection.
    pub rst: bool,
    /// Its acknowledgement number, if that counts.
    pub ack: Option<u32>,
}

impl Segment {
    /// Its TCP flags.
    fn flags(&self) -> u8 {
        let mut flags = 0;
        for (is_set, flag) in [
            (self.fin, flag::FIN),
            (self.syn, flag::SYN),
            (self.rst, flag::RST),
            (self.ack.is_some(), flag::ACK),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        flags
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
    let mut medium = Vectors::new(session, lines, gate, is_replies, segment, now, limits);
    match driver::drive(&mut medium) {
        Verdict::Send => Some(medium.into_segment()),
        Verdict::Drop => None,
    }
}

/// The acknowledgement number that the sender of a direction gets when its receiver sends `ack`.
pub fn acknowledge(session: &mut Session, is_replies: bool, ack: u32) -> u32 {
    segment::acknowledge(direction_mut(session, is_replies as u8), ack)
}
