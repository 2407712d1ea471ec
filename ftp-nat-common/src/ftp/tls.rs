//! Which parts of a control connection are encrypted (RFC 4217, RFC 8446).
//!
//! It goes over to TLS with a 234 that answers AUTH, or with a handshake as the very first bytes of
//! both sides (implicit TLS, port 990). The server's packets count that: a client alone could say
//! so, and have the server read what the gateway does not. Each direction comes back by itself, at
//! the first plain text behind whole TLS records (CCC, RFC 4217 section 12.3), and notes how many
//! changes to TLS it left behind.
//!
//! Records are counted through from the first one on, however segments cut them (`Step`): then the
//! first byte behind one says whether another follows. Where some segment was missed, only text that
//! fills the end of a segment, whole lines of it, is taken for clear text.

use crate::abi::{Direction, Session, direction_flag, event};
use crate::abi::{direction, direction_mut};
use crate::counter::Counter;
use crate::ftp::line;
use crate::gate::{Gate, Opening};
use crate::wire::seq::distance;
use bytemuck::{Pod, Zeroable};

/// The first byte of a TLS handshake record.
pub const HANDSHAKE: u8 = 0x16;
/// The first byte of a TLS record of application data, which hides handshake messages of TLS 1.3 too.
const APPLICATION_DATA: u8 = 0x17;
/// The first bytes of a TLS handshake record, as a line's head.
pub const HELLO: u64 = line::head_of(&[HANDSHAKE, 0x03]);
/// Whether a line's head begins with [`HELLO`].
#[inline(always)]
pub(super) const fn is_hello(head: u64) -> bool {
    line::starts_like(head, HELLO, 2)
}

/// The types of TLS records (RFC 8446 section 5.1, RFC 6520), from "change cipher spec" to "heartbeat".
const RECORDS: core::ops::RangeInclusive<u8> = 0x14..=0x18;
/// Bytes of a record's header.
const HEADER: u8 = 5;

/// How often the connection has gone over to TLS.
#[inline(always)]
const fn changes(session: &Session) -> u32 {
    session.answered.encrypted
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
        if seq != direction.seen {
            direction.line_len = LOST;
        }
        direction.seen = seq.wrapping_add(len);
        direction.held_len = 0;
        direction.flags &= !(direction_flag::LET_GO | direction_flag::READER);
    }
    is_new
}

/// [`Direction::line_len`] of an encrypted direction in which some segment was missed. A line that was
/// under way when TLS began is one, too.
pub const LOST: u16 = 1;

/// How far the record under way was read: what an encrypted direction keeps in [`Direction::head`] from
/// one segment to the next. All zeros between two records.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
struct Step {
    /// Bytes that are missing of it, its header not counted.
    rest: u16,
    /// Bytes of its header so far, below [`HEADER`].
    header: u8,
    /// The header's last byte.
    last: u8,
    /// Its type, once the header has begun.
    kind: u8,
    pad: [u8; 3],
}

/// Notes that a direction is clear text again, from where `judge` has found it in the segment that
/// starts at `seq`.
#[inline(always)]
pub fn clear(
    session: &mut Session,
    gate: &mut impl Gate,
    is_replies: bool,
    seq: u32,
    judge: &PlainText,
) {
    let changes = changes(session);
    let direction = direction_mut(session, is_replies as u8);
    direction.cleared = changes;
    direction.seen = seq.wrapping_add(judge.start);
    direction.line_len = 0;
    direction.head = 0;
    if is_replies {
        return;
    }
    // What was asked before was answered behind the encryption.
    session.asked.doubtful = 0;
    session.asked.withheld_since = 0;
    // Told once: the client speaks first.
    gate.tell(
        session,
        event::CLEARED,
        Counter::SessionCleared,
        &Opening::default(),
    );
}

/// Judges whether a segment of an encrypted direction is plain text, a byte at a time, perhaps
/// behind TLS records: lines that begin as a command or a reply does. No record begins so. Where it
/// is not known where records begin, the middle of one hardly ever has no control character, a code or
/// verb in front and a line's end behind.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PlainText {
    /// The text's first eight bytes.
    head: u64,
    /// Bytes of text so far; saturates.
    len: u16,
    last: u8,
    /// 1: some byte is in no text.
    binary: u8,
    /// Bytes of records in front of the text.
    start: u32,
    /// 1: it is known where records begin.
    in_step: u8,
    /// 1: a handshake record has begun in the segment.
    handshake: u8,
    /// How many records of application data have begun in it; saturates.
    data: u16,
    pad: [u8; 4],
    step: Step,
}

impl PlainText {
    /// Goes on behind what was read of an encrypted direction.
    #[inline(always)]
    pub fn resume(direction: &Direction) -> Self {
        let mut judge = Self::zeroed();
        if direction.line_len == 0 {
            judge.in_step = 1;
            judge.step = bytemuck::cast(direction.head);
        }
        judge
    }

    /// Keeps for the next segment how far the record under way was read.
    #[inline(always)]
    pub fn keep(&self, direction: &mut Direction) {
        direction.head = bytemuck::cast(self.step);
        direction.line_len = if self.in_step != 0 { 0 } else { LOST };
    }

    /// Takes the next byte; false: further bytes need not be read.
    #[inline(always)]
    pub fn feed(&mut self, byte: u8) -> bool {
        if self.step.rest > 0 {
            self.step.rest = self.step.rest.wrapping_sub(1);
            self.start = self.start.wrapping_add(1);
            return true;
        }
        if self.step.header > 0 || (self.len == 0 && RECORDS.contains(&byte)) {
            return self.feed_header(byte);
        }
        self.head = line::add_to_head(self.head, byte, self.len);
        self.len = self.len.saturating_add(1);
        self.last = byte;
        let is_text = byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\r' | b'\n');
        // A TLS record or a letter or digit: the first byte mostly tells.
        if !is_text || (self.len == 1 && !byte.is_ascii_alphanumeric()) {
            self.binary = 1;
            self.in_step = 0;
        }
        self.binary | self.in_step == 0
    }

    /// Takes a byte of a record's header: type, version 3.x, length.
    #[inline(always)]
    fn feed_header(&mut self, byte: u8) -> bool {
        self.start = self.start.wrapping_add(1);
        self.step.header = self.step.header.wrapping_add(1);
        if self.step.header == 1 {
            self.step.kind = byte;
        }
        let is_record = match self.step.header {
            2 => byte == 3,
            3 => byte <= 4,
            _ => true,
        };
        if !is_record {
            self.binary = 1;
            self.in_step = 0;
            return false;
        }
        if self.step.header == HEADER {
            self.step.header = 0;
            self.step.rest = u16::from_be_bytes([self.step.last, byte]);
            match self.step.kind {
                HANDSHAKE => self.handshake = 1,
                APPLICATION_DATA => self.data = self.data.saturating_add(1),
                _ => {}
            }
        }
        self.step.last = byte;
        true
    }

    /// Whether a handshake record has begun in the segment.
    #[inline(always)]
    pub const fn has_handshake(&self) -> bool {
        self.handshake != 0
    }

    /// How many records of application data have begun in the segment.
    #[inline(always)]
    pub const fn data_records(&self) -> u16 {
        self.data
    }

    /// Whether the segment's end was plain text of that direction.
    #[inline(always)]
    pub fn is_plain(&self, is_replies: bool) -> bool {
        if self.len == 0 || self.binary != 0 {
            return false;
        }
        if self.in_step != 0 {
            let first = (self.head >> 56) as u8;
            return first.is_ascii_digit() == is_replies;
        }
        if self.last != b'\n' {
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
    fn plain_text_may_stand_behind_whole_records() {
        let alert = b"\x15\x03\x03\x00\x02\x01\x00";
        let data = b"\x17\x03\x03\x00\x05\x16\x03\n\r\n";
        for front in [alert.to_vec(), [&data[..], alert].concat()] {
            let mut judge = PlainText::zeroed();
            let text = [&front[..], b"227 ok (1,2,3,4,5,6)\r\n"].concat();
            assert!(text.iter().all(|byte| judge.feed(*byte)));
            assert!(judge.is_plain(true) && !judge.is_plain(false));
            assert_eq!(judge.start as usize, front.len());
            // A record that is not whole.
            let text = [&front[..front.len() - 1], b"227 ok\r\n"].concat();
            assert!(!is_plain(&text, true));
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
