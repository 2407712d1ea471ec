//! What was changed in a direction of a control connection.
//!
//! An edit replaces a piece of a line. All edits of a direction together map the stream that the
//! sender sent to the stream that the receiver gets, and back: retransmissions are rewritten to
//! the same bytes, and where a piece changed its length, sequence numbers, acknowledgements and
//! SACK blocks behind it move. A piece's byte `k` is sent as the new text's byte `min(k, new
//! length)`, so the map holds even when a retransmission cuts the piece elsewhere.

use crate::edit::text::{TEXT_MAX, Text};
use crate::masked;
use crate::wire::seq::distance;
use bytemuck::{Pod, Zeroable};

/// How many edits are remembered a direction, a power of two. Older ones were acknowledged long
/// since: a client waits for each reply, and a window holds few lines that announce something.
pub const REMEMBERED: usize = 4;

/// One replaced piece.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Edit {
    /// The piece's first sequence number, as the sender counts.
    pub start: u32,
    /// By how much earlier edits moved it.
    pub before: i32,
    /// The piece's length as the sender sent it.
    pub old_len: u16,
    /// Its new length.
    pub new_len: u16,
    /// Where the new text starts in `text`.
    pub from: u32,
    /// The new text's room; a longer text goes on with blanks.
    pub text: [u8; TEXT_MAX],
}

impl Edit {
    /// By how much it moves what follows.
    #[inline(always)]
    pub fn growth(&self) -> i32 {
        (self.new_len as i32).wrapping_sub(self.old_len as i32)
    }

    /// The part of this edit that lies in the sender's `seq..seq + len`: the first old byte as an
    /// offset into the piece, and the one behind the last; equal where there is none.
    #[inline(always)]
    pub fn overlap(&self, seq: u32, len: u32) -> (u32, u32) {
        let first = distance(seq, self.start).max(0);
        let last = distance(seq.wrapping_add(len), self.start).min(self.old_len as i32);
        if first < last {
            (first as u32, last as u32)
        } else {
            (0, 0)
        }
    }

    /// Where byte `at` of the old piece stands in the new one.
    #[inline(always)]
    pub fn sent(&self, at: u32) -> u32 {
        if at >= self.old_len as u32 {
            self.new_len as u32
        } else {
            at.min(self.new_len as u32)
        }
    }
}

/// A part of a new text that takes the place of as many bytes of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Where it goes, from the segment's first byte on.
    pub at: u32,
    /// How many bytes; 0: none here.
    pub len: u32,
    /// Where they start in [`Edit::text`].
    pub from: u32,
    /// By how much the whole piece grows.
    pub growth: i32,
}

/// A direction's latest edits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Edits {
    /// How many there ever were.
    pub count: u32,
    /// How many of them changed their piece's length.
    pub adjusted: u32,
    /// By how much all of them move what follows.
    pub growth: i32,
    /// Zero.
    pub pad: u32,
    /// The latest: number `n` stands at place `n % REMEMBERED`.
    pub latest: [Edit; REMEMBERED],
}

impl Edits {
    /// Remembers one more: `old_len` bytes from `start` become `text`.
    #[inline(always)]
    pub fn push(&mut self, start: u32, old_len: u16, text: &Text) {
        let edit = masked::at_mut(&mut self.latest, self.count as usize);
        edit.start = start;
        edit.before = self.growth;
        edit.old_len = old_len;
        edit.new_len = text.len() as u16;
        edit.from = text.from;
        edit.text = text.bytes;
        let growth = edit.growth();
        self.count = self.count.wrapping_add(1);
        self.growth = self.growth.wrapping_add(growth);
        if growth != 0 {
            self.adjusted = self.adjusted.wrapping_add(1);
        }
    }

    /// Remembers one more: `len` bytes from `start` become the text's first bytes, and blanks behind
    /// its room.
    #[inline(always)]
    pub fn push_filled(&mut self, start: u32, len: u16, text: &Text) {
        let edit = masked::at_mut(&mut self.latest, self.count as usize);
        edit.start = start;
        edit.before = self.growth;
        edit.old_len = len;
        edit.new_len = len;
        edit.from = 0;
        edit.text = text.bytes;
        self.count = self.count.wrapping_add(1);
    }

    /// The edit that is `age` edits old (0: the latest), if it is remembered.
    #[inline(always)]
    pub fn recent(&self, age: u32) -> Option<&Edit> {
        if age >= self.count || age >= REMEMBERED as u32 {
            return None;
        }
        let place = self.count.wrapping_sub(1).wrapping_sub(age);
        Some(masked::at(&self.latest, place as usize))
    }

    /// The receiver's number for the sender's `seq`.
    #[inline(never)]
    pub fn sent(&self, seq: u32) -> u32 {
        if self.adjusted == 0 {
            return seq;
        }
        let mut before = self.growth;
        let mut age = 0;
        while age < REMEMBERED as u32 {
            let Some(edit) = self.recent(age) else { break };
            let at = distance(seq, edit.start);
            if at >= edit.old_len as i32 {
                break;
            }
            before = edit.before;
            if at > 0 {
                let moved = edit.sent(at as u32).wrapping_sub(at as u32);
                return seq.wrapping_add_signed(before).wrapping_add(moved);
            }
            age = age.wrapping_add(1);
        }
        seq.wrapping_add_signed(before)
    }

    /// What the receiver gets at its number `seq`: a byte of a new text, or else the sender's byte
    /// at the number given.
    #[inline(never)]
    pub fn source(&self, seq: u32) -> (Option<u8>, u32) {
        let mut before = self.growth;
        let mut age = 0;
        while age < REMEMBERED as u32 {
            let Some(edit) = self.recent(age) else { break };
            let at = distance(seq, edit.start.wrapping_add_signed(edit.before));
            if at >= edit.new_len as i32 {
                break;
            }
            before = edit.before;
            if at >= 0 {
                let place = edit.from.wrapping_add(at as u32);
                let byte = if place as usize >= TEXT_MAX {
                    b' '
                } else {
                    *masked::at(&edit.text, place as usize)
                };
                return (Some(byte), edit.start);
            }
            age = age.wrapping_add(1);
        }
        (None, seq.wrapping_add_signed(before.wrapping_neg()))
    }

    /// What the edit that is `age` edits old changes of the sender's `len` bytes from `seq` on; `len`
    /// becomes what is left for older edits.
    ///
    /// [`Edits::source`] piece by piece, for pieces that keep their length.
    #[inline(never)]
    pub fn patch(&self, age: u32, seq: u32, len: &mut u32) -> Patch {
        let Some(edit) = self.recent(age) else {
            *len = 0;
            return Patch::default();
        };
        let (first, last) = edit.overlap(seq, *len);
        let before = distance(edit.start, seq).max(0) as u32;
        *len = before.min(*len);
        Patch {
            at: edit.start.wrapping_add(first).wrapping_sub(seq),
            len: last.wrapping_sub(first),
            from: edit.from.wrapping_add(first),
            growth: edit.growth(),
        }
    }

    /// Whether any remembered edit lies in the sender's `seq..seq + len`.
    #[inline(never)]
    pub fn touch(&self, seq: u32, len: u32) -> bool {
        let mut age = 0;
        while age < REMEMBERED as u32 {
            let Some(edit) = self.recent(age) else { break };
            let (first, last) = edit.overlap(seq, len);
            if first != last {
                return true;
            }
            age = age.wrapping_add(1);
        }
        false
    }

    /// The sender's number for the receiver's `seq`, an acknowledgement or the edge of a SACK
    /// block. Where a piece grew, its last byte stands for all that it grew by: a number in there
    /// is that byte's, or the next one where `up` says so.
    #[inline(never)]
    pub fn original(&self, seq: u32, up: bool) -> u32 {
        if self.adjusted == 0 {
            return seq;
        }
        let mut before = self.growth;
        let mut age = 0;
        while age < REMEMBERED as u32 {
            let Some(edit) = self.recent(age) else { break };
            let at = distance(seq, edit.start.wrapping_add_signed(edit.before));
            if at >= edit.new_len as i32 {
                break;
            }
            before = edit.before;
            if at > 0 {
                // The piece is never empty: some byte of it was sent.
                let last = (edit.old_len as u32).wrapping_sub(1);
                let most = last.wrapping_add(up as u32);
                return edit.start.wrapping_add((at as u32).min(most));
            }
            age = age.wrapping_add(1);
        }
        seq.wrapping_add_signed(before.wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(pieces: &[(u32, u16, &str)]) -> Edits {
        let mut edits = Edits::zeroed();
        for (start, old_len, new) in pieces {
            let mut text = Text::zeroed();
            text.clear();
            new.bytes().for_each(|byte| text.push(byte));
            edits.push(*start, *old_len, &text);
        }
        edits
    }

    #[test]
    fn adjusting_and_back_is_the_identity_outside_the_pieces() {
        let base = u32::MAX - 40;
        let edits = edits(&[
            (base.wrapping_add(10), 5, "12345678"),
            (base.wrapping_add(30), 6, "12"),
            (base.wrapping_add(60), 4, "abcd"),
            (base.wrapping_add(90), 3, "abcde"),
        ]);
        for at in 0..200 {
            // Six bytes became two: four of them are nowhere.
            if (32..36).contains(&at) {
                continue;
            }
            let seq = base.wrapping_add(at);
            assert_eq!(edits.original(edits.sent(seq), false), seq, "{at}");
            assert_eq!(edits.original(edits.sent(seq), true), seq, "{at}");
        }
    }

    #[test]
    fn numbers_never_go_backwards() {
        let edits = edits(&[(100, 5, "12345678"), (130, 6, "12"), (140, 2, "xyz")]);
        let mut last = (0, 0, 0);
        for seq in 80..200 {
            let next = (
                edits.sent(seq),
                edits.original(seq, false),
                edits.original(seq, true),
            );
            assert!(
                last.0 <= next.0 && last.1 <= next.1 && last.2 <= next.2,
                "{seq}"
            );
            last = next;
        }
    }

    #[test]
    fn the_stream_behind_a_piece_moves_by_its_growth() {
        let edits = edits(&[(100, 5, "12345678"), (130, 6, "12")]);
        assert_eq!(edits.sent(100), 100);
        assert_eq!(edits.sent(105), 108);
        assert_eq!(edits.sent(130), 133);
        assert_eq!(edits.sent(136), 135);
        assert_eq!(edits.original(108, false), 105);
        // Of 100..105 the first four bytes are the first four of 100..108.
        assert_eq!(edits.original(104, false), 104);
        assert_eq!(edits.original(105, false), 104);
        assert_eq!(edits.original(107, false), 104);
        assert_eq!(edits.original(107, true), 105);
        assert_eq!(edits.original(134, true), 131);
        assert_eq!(edits.original(135, false), 136);
    }

    #[test]
    fn patches_are_what_the_receiver_gets() {
        // In order, in front of the other (a verb that is spoilt after its end was), and over it.
        for pieces in [
            &[(100, 5, "12345"), (130, 4, "abcd"), (140, 1, "X")][..],
            &[(100, 5, "12345"), (104, 1, "X"), (100, 4, "XXXX")],
            &[
                (98, 30, "123456789012345678901234567890"),
                (110, 5, "abcde"),
            ],
        ] {
            let edits = edits(pieces);
            for (seq, len) in [(90, 60), (100, 5), (102, 2), (104, 30), (139, 1), (95, 5)] {
                let mut patched: Vec<_> = (0..len).map(|at| (None, seq + at)).collect();
                let mut left = len;
                for age in 0..REMEMBERED as u32 {
                    let patch = edits.patch(age, seq, &mut left);
                    for at in 0..patch.len {
                        let edit = edits.recent(age).unwrap();
                        let byte = edit.text[(patch.from + at) as usize];
                        patched[(patch.at + at) as usize].0 = Some(byte);
                    }
                }
                for (at, (byte, seq)) in patched.into_iter().enumerate() {
                    let source = edits.source(seq);
                    assert_eq!(source.0, byte, "{pieces:?} {seq} {at}");
                }
            }
        }
    }

    #[test]
    fn forgotten_edits_still_count() {
        let pieces: Vec<_> = (0..9).map(|n| (n * 10, 1, "ab")).collect();
        let edits = edits(&pieces);
        assert_eq!(edits.growth, 9);
        assert_eq!(edits.sent(1000), 1009);
        // Before the oldest that is remembered, number 5: five earlier ones moved it.
        assert_eq!(edits.sent(45), 50);
        assert_eq!(edits.recent(4), None);
    }
}
