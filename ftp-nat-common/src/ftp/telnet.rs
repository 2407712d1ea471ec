//! Telnet's commands in a client's lines (RFC 854, RFC 959 section 4.1.3).
//!
//! Clients send IAC IP, IAC DM in front of ABOR. Elsewhere, servers take telnet's commands out or
//! leave them in, each in its own way, and so may read a PORT where the gateway saw none. An
//! outside client's lines are made plain: what follows an IAC in front of a line and is no signal
//! becomes NOP, and an IAC within a verb becomes a letter that makes it unknown.

use super::parser::Inspection;
use crate::abi::{Session, role};

/// Interpret as command.
const IAC: u8 = 255;
/// The signals: from "end of subnegotiation" to its begin; behind them an option follows.
const SIGNALS: core::ops::RangeInclusive<u8> = 240..=250;
/// No operation.
const NOP: u8 = 241;

impl Inspection {
    /// Whether byte `at` of a command's line must be replaced by [`Inspection::unhide_verb`].
    #[inline(always)]
    pub(super) fn hides_verb(&mut self, session: &Session, byte: u8, at: u16) -> bool {
        if session.role != role::PUBLISH {
            return false;
        }
        if at > 0 {
            let before = (self.head >> 64_u32.wrapping_sub((at as u32 & 7).wrapping_mul(8))) as u8;
            return byte == IAC && before.is_ascii_alphanumeric();
        }
        let after_iac = self.after_iac != 0;
        self.after_iac = u8::from(byte == IAC && !after_iac);
        after_iac && byte != IAC && (byte < *SIGNALS.start() || byte > *SIGNALS.end())
    }

    /// Whether the last byte was an IAC in front of a command.
    #[inline(always)]
    pub const fn is_after_iac(&self) -> bool {
        self.after_iac != 0
    }

    /// Replaces the last byte.
    #[inline(never)]
    pub(super) fn unhide_verb(&mut self, session: &mut Session) {
        self.text.clear();
        self.text.push(if self.line_len == 0 { NOP } else { b'X' });
        let seq = self.seq.wrapping_sub(1);
        session.commands.edits.push(seq, 1, &self.text);
        self.edits = self.edits.wrapping_add(1);
        if self.edits >= super::parser::EDITS_A_SEGMENT {
            self.stop = 1;
        }
    }
}
