//! One direction of an inspected session: its stream as it was sent, line by line, and what would
//! arrive of it.

use ftp_nat_common::wire::seq::distance;

/// A line may grow to this before it is shown as it is: no control connection's does.
const LONGEST: usize = 8192;

/// A direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// The number of the next byte that was not seen yet; none: nothing was seen.
    next: Option<u32>,
    /// The next number behind the gateway.
    next_out: Option<u32>,
    /// The line under way as it was sent, and as it would arrive.
    pub line: Vec<u8>,
    /// What arrived of it.
    pub out: Vec<u8>,
    /// The line's start may be missing.
    pub is_fragment: bool,
    /// Segments that the line under way came in.
    pub segments: u32,
}

impl Stream {
    /// Starts behind the SYN of this number.
    pub fn start(&mut self, isn: u32) {
        *self = Self {
            next: Some(isn.wrapping_add(1)),
            ..Self::default()
        };
    }

    /// Whether the direction's start was seen, or anything of it.
    pub const fn is_started(&self) -> bool {
        self.next.is_some()
    }

    /// Whether something is missing before `seq`.
    pub fn is_ahead(&self, seq: u32) -> bool {
        self.next.is_some_and(|next| distance(seq, next) > 0)
    }

    /// Goes on at `seq`, whatever is missing before it.
    pub fn skip_to(&mut self, seq: u32) {
        let missed = self.next.is_none_or(|next| distance(seq, next) > 0);
        if missed {
            self.next = Some(seq);
            self.line.clear();
            self.out.clear();
            self.is_fragment = true;
        }
    }

    /// Takes what is new of the sender's bytes; whether there was anything.
    pub fn take(&mut self, seq: u32, payload: &[u8]) -> bool {
        let next = *self.next.get_or_insert(seq);
        let known = distance(next, seq).max(0) as usize;
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else {
            return false;
        };
        self.next = Some(next.wrapping_add(new.len() as u32));
        let room = LONGEST.saturating_sub(self.line.len());
        self.line.extend(&new[..new.len().min(room)]);
        true
    }

    /// Takes what would arrive.
    pub fn arrive(&mut self, seq: u32, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let next = *self.next_out.get_or_insert(seq);
        // Behind a gap.
        let next = if distance(seq, next) > 0 { seq } else { next };
        let known = distance(next, seq).max(0) as usize;
        let Some(new) = payload.get(known..) else {
            return;
        };
        self.next_out = Some(next.wrapping_add(new.len() as u32));
        let room = LONGEST.saturating_sub(self.out.len());
        self.out.extend(&new[..new.len().min(room)]);
    }

    /// Takes the line off: as it was sent, as it would arrive, whether its start is missing, and
    /// in how many segments it came.
    pub fn end_line(&mut self) -> (Vec<u8>, Vec<u8>, bool, u32) {
        let taken = (
            std::mem::take(&mut self.line),
            std::mem::take(&mut self.out),
            self.is_fragment,
            self.segments,
        );
        self.is_fragment = false;
        self.segments = 0;
        taken
    }
}
