//! A segment outside the kernel.

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
    /// The window that it advertises, as it stands in the header.
    pub window: u16,
    /// Its timestamp (RFC 7323 section 3.2); 0: it has none.
    pub timestamp: u32,
}

impl Segment {
    /// Its TCP flags.
    pub(super) fn flags(&self) -> u8 {
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
    /// How long an unfinished line is held, in the unit of the time that [`super::pass`] is told.
    pub timeout: u64,
    /// The longest payload that may leave: a longer one is cut, and the sender repeats the rest.
    pub payload: usize,
}
