//! Bytes of an outside client's lines by which a server may read something else than the gateway
//! does. They are replaced by others, so that no number moves.
//!
//! - NUL: some servers end a line there, some make a line's end of it (RFC 959 has none in a line),
//!   and so a name with a line's end in it comes to be.
//! - A carriage return without a line feed: some servers take it out, some end the line there. What
//!   stands behind it is replaced.
//! - A PORT, EPRT or LPRT within a line longer than [`SHORT`]: a server that cuts long lines may
//!   begin a new one there.

use super::parser::{EDITS_A_SEGMENT, Inspection, has_byte};
use crate::abi::direction_flag::{AFTER_CR, WITHIN};
use crate::abi::{Session, event};
use crate::counter::Counter;
use crate::ftp::command;
use crate::ftp::line;
use crate::gate::{Gate, Opening};

/// No server cuts lines shorter than this.
pub const SHORT: u16 = 64;
/// [`WITHIN`]'s two bits: a verb was read, then so many separators; the third one is replaced.
const WITHIN_MASK: u8 = 3 * WITHIN;

impl Inspection {
    /// Whether byte `at` of an outside client's line must be replaced by [`Inspection::instead`].
    ///
    /// Not inlined: the verifier then forgets which byte it was.
    #[inline(never)]
    pub(super) fn spoils(&mut self, byte: u8, at: u16) -> bool {
        if at < 5 && self.hides_verb(byte, at) {
            return true;
        }
        let is_bare = self.last == b'\r' && byte != b'\r';
        self.instead = b'X';
        let is_odd = is_bare || byte == 0;
        let heard = if is_odd { b'X' } else { byte };
        // It follows every byte of a long line, whatever becomes of it.
        (at >= SHORT && self.hides_port(heard, at)) || is_odd
    }

    /// The name of the command whose line ends, as [`command::name`] gives it.
    #[inline(always)]
    pub(super) fn name(&self) -> u32 {
        if self.is_guarded != 0 && self.line_len > SHORT {
            (self.head >> 32) as u32
        } else {
            command::name(self.head)
        }
    }

    /// Whether the byte is the third separator behind a PORT, EPRT or LPRT within an over-long line.
    ///
    /// Of such a line's head, the upper half keeps the command's name, and the lower one has the
    /// last four bytes.
    #[inline(always)]
    fn hides_port(&mut self, byte: u8, at: u16) -> bool {
        if at == SHORT {
            self.head = u64::from(command::name(self.head)) << 32;
        }
        let last = self.head as u32;
        let next = (last << 8) | u32::from(byte.to_ascii_uppercase());
        self.head = ((self.head >> 32) << 32) | u64::from(next);
        let within = self.kept & WITHIN_MASK;
        let is_verb = matches!(last, line::PORT | line::EPRT | command::LPRT);
        if is_verb && !byte.is_ascii_alphanumeric() {
            self.kept = (self.kept & !WITHIN_MASK) | WITHIN;
            return false;
        }
        if within == 0 || byte.is_ascii_hexdigit() || matches!(byte, b' ' | b'\t' | b'.' | b':') {
            return false;
        }
        self.kept &= !WITHIN_MASK;
        if byte.is_ascii_alphanumeric() {
            return false;
        }
        if within == WITHIN_MASK {
            return true;
        }
        self.kept |= within.wrapping_add(WITHIN);
        false
    }

    /// Whether eight bytes of a client's line hold nothing that [`Inspection::spoils`] waits for.
    #[inline(always)]
    pub(super) fn may_take(&self, word: u64) -> bool {
        self.line_len < SHORT - 8
            && self.kept == 0
            && self.last != b'\r'
            && !has_byte(word, b'\r')
            && !has_byte(word, 0)
    }

    /// What the direction keeps for the next segment: bits of
    /// [`READER`](crate::abi::direction_flag::READER).
    #[inline(always)]
    pub const fn kept_flags(&self) -> u8 {
        if self.last == b'\r' {
            self.kept | AFTER_CR
        } else {
            self.kept
        }
    }

    /// Replaces the last byte.
    #[inline(never)]
    pub(super) fn replace(&mut self, session: &mut Session, gate: &mut impl Gate) {
        gate.tell(
            session,
            event::DENIED,
            Counter::DeniedHidden,
            &Opening::default(),
        );
        self.text.clear();
        self.text.push(self.instead);
        let seq = self.seq.wrapping_sub(1);
        session.commands.edits.push(seq, 1, &self.text);
        self.edits = self.edits.wrapping_add(1);
        if self.edits >= EDITS_A_SEGMENT {
            self.stop = 1;
        }
    }
}
