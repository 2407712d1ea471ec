//! Which parts of a control connection are encrypted (RFC 4217, RFC 8446).
//!
//! It goes over to TLS with a 234 that answers AUTH, or with a TLS handshake out of nothing
//! (implicit TLS, port 990, or a 234 that was not seen). The server's packets count the one, the
//! client's the other, and either is encrypted from then on. Each direction comes back by itself,
//! at the first segment that is plain text (CCC, RFC 4217 section 12.3), which notes how many
//! changes to TLS it left behind.

use crate::abi::{Direction, Session, event};
use crate::abi::{direction, direction_mut};
use crate::counter::Counter;
use crate::ftp::line;
use crate::gate::{Gate, Opening};
use crate::wire::seq::distance;
use bytemuck::{Pod, Zeroable};

/// The first bytes of a TLS handshake record, as a line's head.
pub const HELLO: u64 = line::head_of(&[0x16, 0x03]);

/// How often the connection has gone over to TLS.
#[inline(always)]
const fn changes(session: &Session) -> u32 {
    session
        .answered
        .encrypted
        .wrapping_add(session.asked.hellos)
}

/// Whether a direction is encrypted now.
#[inline(always)]
pub const fn is_encrypted(session: &Session, is_replies: bool) -> bool {
    direction(session, is_replies as u8).cleared != changes(session)
}

/// Notes an encrypted segment of `len` bytes from `seq`, which is passed unread. Whether it may be
/// plain text again, if its bytes say so too: repetitions of what was clear text before are not.
#[inline(always)]
pub fn pass_unread(direction: &mut Direction, seq: u32, len: u32) -> bool {
    let is_new = len > 0 && distance(seq, direction.seen) >= 0;
    if distance(seq.wrapping_add(len), direction.seen) > 0 {
        direction.seen = seq.wrapping_add(len);
        direction.held_len = 0;
        direction.line_len = 0;
        direction.head = 0;
        direction.flags &= !crate::abi::direction_flag::LET_GO;
    }
    is_new
}

/// Notes that a direction is clear text again from `seq` on.
#[inline(always)]
pub fn clear(session: &mut Session, gate: &mut impl Gate, is_replies: bool, seq: u32) {
    let changes = changes(session);
    let direction = direction_mut(session, is_replies as u8);
    direction.cleared = changes;
    direction.seen = seq;
    if is_replies {
        return;
    }
    // Told once: the client speaks first.
    gate.tell(
        session,
        event::CLEARED,
        Counter::SessionCleared,
        &Opening::default(),
    );
}

/// Judges whether a segment of an encrypted direction is plain text, a byte at a time: lines that
/// begin as a command or a reply does. No TLS record begins so, and the middle of one hardly ever
/// has no control character, a code or verb in front and a line's end behind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PlainText {
    /// The first eight bytes.
    head: u64,
    /// Bytes so far; saturates.
    len: u16,
    last: u8,
    /// 1: some byte is in no text.
    binary: u8,
    pad: u32,
}

impl PlainText {
    /// Takes the next byte; false: it is no plain text, and further bytes need not be read.
    #[inline(always)]
    pub fn feed(&mut self, byte: u8) -> bool {
        self.head = line::add_to_head(self.head, byte, self.len);
        self.len = self.len.saturating_add(1);
        self.last = byte;
        let is_text = byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\r' | b'\n');
        // A TLS record or a letter or digit: the first byte mostly tells.
        if !is_text || (self.len == 1 && !byte.is_ascii_alphanumeric()) {
            self.binary = 1;
        }
        self.binary == 0
    }

    /// Whether the whole segment was plain text of that direction.
    #[inline(always)]
    pub fn is_plain(&self, is_replies: bool) -> bool {
        if self.binary != 0 || self.last != b'\n' {
            return false;
        }
        if is_replies {
            let (code, behind) = line::reply_code(self.head);
            return code != 0 && matches!(behind, b' ' | b'-');
        }
        let [first, second, third, fourth, fifth, ..] = self.head.to_be_bytes();
        let is_end = |byte: u8| matches!(byte, b' ' | b'\r' | b'\n');
        first.is_ascii_uppercase()
            && second.is_ascii_uppercase()
            && third.is_ascii_uppercase()
            && (is_end(fourth) || (fourth.is_ascii_uppercase() && is_end(fifth)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain(bytes: &[u8], is_replies: bool) -> bool {
        let mut judge = PlainText::zeroed();
        bytes.iter().all(|byte| judge.feed(*byte)) && judge.is_plain(is_replies)
    }

    #[test]
    fn commands_and_replies_are_plain_text() {
        for command in [
            "PASV\r\n",
            "pasv\n",
            "PWD\r\n",
            "EPSV 1\r\n",
            "NOOP\r\nPASV\r\n",
            "STOR gr\u{fc}n \u{1f600}\r\n",
            "CCC\r\n",
        ] {
            assert!(is_plain(command.as_bytes(), false), "{command}");
        }
        for reply in [
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            "200 ok\n",
            "220-a\r\n b\r\n220 c\r\n",
        ] {
            assert!(is_plain(reply.as_bytes(), true), "{reply}");
        }
    }

    #[test]
    fn records_and_halves_of_lines_are_not() {
        for bytes in [
            &b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\n"[..],
            b"\x17\x03\x03\x00\x06PASV\r\n",
            b"\x15\x03\x03\x00\x02\x01\x00",
            b"PAS",
            b"PASV",
            b"PASV \x01\r\n",
            b"227 x\r\n",
            b"\r\n",
            b"",
        ] {
            assert!(!is_plain(bytes, false), "{bytes:?}");
        }
        for bytes in [
            &b"PASV\r\n"[..],
            b"227\r\n",
            b"227 x",
            b"\x17\x03\x03227 \n",
        ] {
            assert!(!is_plain(bytes, true), "{bytes:?}");
        }
    }
}
