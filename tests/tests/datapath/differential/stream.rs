//! One direction of a conversation, as its sender sends it.

use ftp_nat_common::{abi::Direction, wire::seq::distance};

use super::random::Random;

/// The longest segment: with all its options it fits through any interface.
const MOST: usize = 1400;
/// How far back repetitions go.
const BACK: usize = 400;

pub(super) struct Stream {
    /// The first byte's sequence number.
    base: u32,
    bytes: Vec<u8>,
    /// Where the next segment starts.
    next: usize,
}

/// A segment without its headers.
pub(super) struct Piece {
    pub(super) seq: u32,
    pub(super) bytes: Vec<u8>,
}

impl Stream {
    pub(super) fn new(isn: u32) -> Self {
        Self {
            base: isn.wrapping_add(1),
            bytes: Vec::new(),
            next: 0,
        }
    }

    /// How much there is that was never sent.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.next
    }

    pub(super) fn say(&mut self, text: &[u8]) {
        self.bytes.extend(text);
    }

    /// The next segment: what is due, mostly.
    pub(super) fn piece(&mut self, random: &mut Random) -> Piece {
        let kind = random.below(100);
        let start = match kind {
            0..=79 => self.next,
            80..=94 => self.next - random.below(self.next.min(BACK) + 1),
            _ => (self.next + random.below(60)).min(self.bytes.len()),
        };
        let rest = (self.bytes.len() - start).min(MOST);
        let len = match random.below(10) {
            0..=4 => rest,
            5 => rest.min(1),
            6 => rest.min(random.between(1, 8)),
            _ => random.between(rest.min(1), rest),
        };
        let end = start + len;
        // What was left out comes later.
        if kind < 95 {
            self.next = self.next.max(end);
        }
        Piece {
            seq: self.base.wrapping_add(start as u32),
            bytes: self.bytes[start..end].to_vec(),
        }
    }

    /// Goes back to what has not left the gateway yet, as a sender does that hears nothing.
    pub(super) fn go_back(&mut self, direction: &Direction) {
        let seen = distance(direction.seen, self.base);
        if seen >= 0 && (seen as usize) < self.next {
            self.next = seen as usize;
        }
    }

    /// A number that its receiver may acknowledge.
    pub(super) fn acknowledged(&self, random: &mut Random, direction: &Direction) -> u32 {
        if random.chance(2) {
            return random.number() as u32;
        }
        let seen = distance(direction.seen, self.base).clamp(0, self.bytes.len() as i32) as usize;
        let back = if random.chance(60) {
            0
        } else {
            random.below(seen.min(BACK) + 1)
        };
        let seq = self.base.wrapping_add((seen - back) as u32);
        direction.edits.sent(seq)
    }
}
