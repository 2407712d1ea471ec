//! Understanding a control connection, a byte at a time.
//!
//! [`Inspection`] takes the bytes of one segment (behind the held start of a line, if there is
//! one), knows each line by its first bytes, finds the announcement in it, asks the [`Gate`] to
//! open what was announced, and notes the edit that rewrites it. It never looks at a packet: what
//! is done with the segment follows from the edits and from [`crate::stream::segment::finish`].
//!
//! What may open something (the gate of the gate): a 227 or 229 at a true line start, as the
//! answer to a PASV or EPSV that waits for one, outside any other multi-line reply; a PORT or
//! EPRT that names the client's own address.

use crate::abi::{LINE_MAX, Session, direction_flag, role};
use crate::counter::Counter;
use crate::edit::text::{TEXT_MAX, Text};
use crate::ftp::extended::Extended;
use crate::ftp::host_port::SixNumbers;
use crate::ftp::line;
use crate::ftp::tls;
use crate::gate::Gate;
use crate::masked;
use crate::wire::addr::Port;
use bytemuck::{Pod, Zeroable};

/// Nothing that matters is in this line.
pub(super) const NOTHING: u8 = 0;
/// It may hold `h1,h2,h3,h4,p1,p2`.
pub(super) const SIX: u8 = 1;
/// It may hold `|proto|addr|port|`.
pub(super) const EXTENDED: u8 = 2;

/// What a byte may ask for.
pub(super) mod todo {
    /// An announcement was found.
    pub(in crate::ftp) const FOUND: u16 = 1;
    /// It was let through, and has to be written anew.
    pub(in crate::ftp) const WRITE: u16 = 64;
    /// Its new text has to find its place in the line.
    pub(in crate::ftp) const INSERT: u16 = 128;
    /// The line ends.
    pub(in crate::ftp) const LINE_END: u16 = 2;
    /// The line begins with a code that announces an address.
    pub(in crate::ftp) const ANNOUNCING_CODE: u16 = 4;
    /// The line is too long to go on looking.
    pub(in crate::ftp) const TOO_LONG: u16 = 8;
    /// The line begins with a verb that announces an address, but was let go.
    pub(in crate::ftp) const UNREAD_VERB: u16 = 16;
    /// A TLS handshake begins.
    pub(in crate::ftp) const HELLO: u16 = 32;
    /// Telnet's escape stands where it hides a verb.
    pub(in crate::ftp) const TELNET: u16 = 256;
}

/// How many edits one segment may get: they must all be remembered until it is rewritten.
pub(super) const EDITS_A_SEGMENT: u16 = 3;

/// The state while one segment is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Inspection {
    pub(super) six: SixNumbers,
    pub(super) extended: Extended,
    pub(super) text: Text,
    /// The current line's head ([`mod@line`]).
    pub head: u64,
    /// The sender's sequence number of the next byte.
    pub seq: u32,
    /// The sequence number of the current line's first byte.
    pub line_seq: u32,
    /// Bytes of the current line so far; saturates.
    pub line_len: u16,
    /// What the line may hold.
    pub(super) candidate: u8,
    /// 1: the line goes through as it is.
    pub(super) let_go: u8,
    /// 1: these are the server's replies.
    pub(super) is_replies: u8,
    /// 1: no further byte may be read, the rest of the segment is not sent on.
    pub stop: u8,
    /// 1: what follows is TLS.
    pub(super) blind: u8,
    /// 1: the last byte, in front of a command, was telnet's IAC.
    pub(super) after_iac: u8,
    /// What the last byte asks for: [`mod@todo`].
    pub(super) todo: u16,
    /// Where in its line the argument of a PORT or EPRT begins; 0: not yet.
    pub(super) argument: u16,
    /// The public port that the announcement got.
    pub(super) public: Port,
    pub(super) edits: u16,
    /// The current line's bytes, as far as it was read here and was not let go.
    pub line: [u8; LINE_MAX],
}

impl Inspection {
    /// Starts at `seq`, with what the direction has seen before it. A held line is read anew.
    ///
    /// The line's bytes stay, they are written before they are read.
    #[inline(always)]
    pub fn begin(&mut self, session: &Session, is_replies: bool, seq: u32) {
        self.six = SixNumbers::zeroed();
        self.extended = Extended::zeroed();
        self.text = Text::zeroed();
        self.candidate = NOTHING;
        self.stop = 0;
        self.blind = 0;
        self.todo = 0;
        self.argument = 0;
        self.public = Port(0);
        self.edits = 0;
        let direction = if is_replies {
            &session.replies
        } else {
            &session.commands
        };
        self.is_replies = is_replies as u8;
        self.seq = seq;
        self.line_seq = seq;
        self.line_len = direction.line_len;
        self.head = direction.head;
        self.after_iac = u8::from(direction.flags & direction_flag::AFTER_IAC != 0);
        let let_go = direction.flags & direction_flag::LET_GO;
        if self.line_len == 0 {
            self.begin_line(session);
        }
        self.let_go = let_go;
    }

    #[inline(never)]
    fn begin_line(&mut self, session: &Session) {
        self.head = 0;
        self.line_len = 0;
        self.line_seq = self.seq;
        self.let_go = 0;
        self.six = SixNumbers::zeroed();
        self.extended = Extended::zeroed();
        self.candidate = NOTHING;
        self.argument = 0;
        // Every line of a multi-line 227 may hold the address.
        if self.is_replies != 0 && is_waiting(session) {
            self.candidate = form_of(session.answered.multiline);
        }
    }

    /// Takes the next byte. True: [`Inspection::act`] comes before the next one.
    ///
    /// Reading and acting are apart because a byte is read in a loop, which the kernel's verifier
    /// follows again and again.
    #[inline(always)]
    pub fn feed(&mut self, session: &mut Session, byte: u8) -> bool {
        let at = self.line_len;
        self.seq = self.seq.wrapping_add(1);
        if self.blind != 0 {
            return false;
        }
        if byte == b'\n' {
            self.todo = todo::LINE_END;
            self.look(byte, at);
            return true;
        }
        if self.is_replies == 0 && at < 5 && self.hides_verb(session, byte, at) {
            self.todo = todo::TELNET;
        }
        if at == 0 && self.is_replies == 0 && (self.todo != 0 || !begins_command(byte)) {
            self.line_seq = self.seq;
            return self.todo != 0;
        }
        self.head = line::add_to_head(self.head, byte, at);
        self.line_len = at.saturating_add(1);
        if self.let_go == 0 {
            self.keep(byte, at);
            self.look(byte, at);
        }
        if self.is_replies != 0 {
            self.look_at_code(at);
        } else {
            self.look_at_verb(at);
        }
        self.todo != 0
    }

    /// Keeps a byte of the line, if it is not too long for that.
    #[inline(always)]
    fn keep(&mut self, byte: u8, at: u16) {
        if (at as usize) < LINE_MAX {
            *masked::at_mut(&mut self.line, at as usize) = byte;
        } else if self.candidate != NOTHING {
            self.candidate = NOTHING;
            self.todo |= todo::TOO_LONG;
        }
    }

    /// Lets the finder see a byte.
    #[inline(always)]
    fn look(&mut self, byte: u8, at: u16) {
        if self.candidate != NOTHING && self.argument == 0 && byte != b' ' && byte != b'\t' {
            self.argument = at;
        }
        let found = match self.candidate {
            SIX => self.six.feed(byte, at),
            EXTENDED => self.extended.feed(byte, at),
            _ => false,
        };
        if found {
            self.todo |= todo::FOUND;
        }
    }

    #[inline(always)]
    fn look_at_code(&mut self, at: u16) {
        if at != 3 || self.let_go != 0 || self.candidate != NOTHING {
            return;
        }
        let (code, behind) = line::reply_code(self.head);
        if form_of(code) != NOTHING && matches!(behind, b' ' | b'-') {
            self.todo |= todo::ANNOUNCING_CODE;
        }
    }

    #[inline(always)]
    fn look_at_verb(&mut self, at: u16) {
        if at == 1 && self.head == tls::HELLO {
            self.todo |= todo::HELLO;
        }
        if at == 4 {
            let form = form_of_command(self.head);
            if self.let_go == 0 {
                self.candidate = form;
            } else if form != NOTHING {
                self.todo |= todo::UNREAD_VERB;
            }
        }
    }

    /// Takes the next eight bytes at once, as they lie in memory, if there is nothing to them but
    /// that they are kept: no line's end, and nothing that a finder waits for. False: they must be
    /// fed one by one.
    #[inline(always)]
    pub fn skim(&mut self, word: u64) -> bool {
        let at = self.line_len;
        let is_idle = match self.candidate {
            NOTHING => true,
            SIX => self.argument != 0 && self.six.is_idle() && !has_digit(word),
            _ => false,
        };
        // In front of a line's ninth byte its head is not known yet.
        if !is_idle || at < 8 || self.blind != 0 || has_line_end(word) {
            return false;
        }
        let is_long = at as usize > LINE_MAX - 8;
        if is_long && ((at as usize) < LINE_MAX || self.candidate != NOTHING) {
            return false;
        }
        if self.let_go == 0 && !is_long {
            for (index, byte) in word.to_ne_bytes().into_iter().enumerate() {
                *masked::at_mut(&mut self.line, (at as usize).wrapping_add(index)) = byte;
            }
        }
        self.seq = self.seq.wrapping_add(8);
        self.line_len = at.saturating_add(8);
        true
    }

    /// Whether the last byte asks for [`Inspection::announce`].
    #[inline(always)]
    pub const fn must_announce(&self) -> bool {
        self.todo & todo::FOUND != 0
    }

    /// Whether that asks for [`Inspection::write`].
    #[inline(always)]
    pub const fn must_write(&self) -> bool {
        self.todo & todo::WRITE != 0
    }

    /// Whether that asks for [`Inspection::insert`].
    #[inline(always)]
    pub const fn must_insert(&self) -> bool {
        self.todo & todo::INSERT != 0
    }

    /// Does what the last byte asks for.
    ///
    /// The kernel runs the four steps one by one: each is a function of its own to the verifier.
    pub fn act(&mut self, session: &mut Session, gate: &mut impl Gate) {
        self.announce(session, gate);
        self.write(session, gate);
        self.insert(session, gate);
        self.conclude(session, gate);
    }

    /// The last step: what ends a line, or becomes of it.
    #[inline(always)]
    pub fn conclude(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let todo = self.todo;
        self.todo = 0;
        if self.let_go != 0 {
            self.candidate = NOTHING;
        }
        if todo & todo::TELNET != 0 {
            self.unhide_verb(session);
        }
        if todo & todo::LINE_END != 0 {
            self.after_iac = 0;
            self.end_line(session, gate);
            self.begin_line(session);
            if self.edits >= EDITS_A_SEGMENT {
                self.stop = 1;
            }
        }
        if todo & todo::ANNOUNCING_CODE != 0 {
            self.expect_address(session, gate);
        }
        if todo & todo::TOO_LONG != 0 {
            gate.count(Counter::PassedTooLong);
            self.refuse_unread(session, gate);
        }
        if todo & todo::UNREAD_VERB != 0 {
            self.spoil_unread(session, gate);
        }
        if todo & todo::HELLO != 0 {
            self.greet_tls(session, gate);
        }
    }

    /// Whether the line under way must be held until more of it is known.
    #[inline(always)]
    pub fn must_hold(&self, session: &Session) -> bool {
        let len = self.line_len;
        if len == 0 || len as usize >= LINE_MAX || self.let_go != 0 {
            return false;
        }
        if self.candidate != NOTHING {
            return true;
        }
        if self.is_replies != 0 {
            return len < 4
                && session.role == role::PUBLISH
                && session.answered.multiline == 0
                && is_waiting(session)
                && (line::starts_like(self.head, line::head_of(b"227"), len.min(3))
                    || line::starts_like(self.head, line::head_of(b"229"), len.min(3)));
        }
        len < 5
            && (line::starts_like(self.head, line::head_of(b"PORT"), len.min(4))
                || line::starts_like(self.head, line::head_of(b"EPRT"), len.min(4)))
    }
}

/// The form of address that a reply of this code announces.
#[inline(always)]
pub(super) const fn form_of(code: u16) -> u8 {
    match code {
        227 => SIX,
        229 => EXTENDED,
        _ => NOTHING,
    }
}

/// The form of address that a command of this head announces.
#[inline(always)]
pub(super) const fn form_of_command(head: u64) -> u8 {
    let (verb, behind) = line::verb(head);
    // Servers part words at any blank, not only at those of RFC 959.
    if behind.is_ascii_alphanumeric() {
        return NOTHING;
    }
    match verb {
        line::PORT => SIX,
        line::EPRT => EXTENDED,
        _ => NOTHING,
    }
}

/// Whether a command's line can begin so. What stands before it is no part of it: telnet commands
/// in front of ABOR (RFC 959 section 4.1.3), blanks that some servers skip.
#[inline(always)]
const fn begins_command(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == tls::HELLO.to_be_bytes()[0]
}

/// Whether a PASV or EPSV waits for its answer.
#[inline(always)]
pub(super) const fn is_waiting(session: &Session) -> bool {
    session.role == role::PUBLISH && session.asked.passive != session.answered.passive
}

/// The lowest bit of each byte.
const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
/// The highest bit of each byte.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Whether one of eight bytes is a line feed.
#[inline(always)]
const fn has_line_end(word: u64) -> bool {
    let feeds = word ^ u64::from_ne_bytes([b'\n'; 8]);
    feeds.wrapping_sub(LOW) & !feeds & HIGH != 0
}

/// Whether one of eight bytes may be a digit: a few that are none count as well.
#[inline(always)]
const fn has_digit(word: u64) -> bool {
    // 0x30 to 0x3f: digits and `:;<=>?`.
    let row = word & u64::from_ne_bytes([0xf0; 8]) ^ u64::from_ne_bytes([0x30; 8]);
    row.wrapping_sub(LOW) & !row & HIGH != 0
}

const _: () = assert!(TEXT_MAX.is_power_of_two() && LINE_MAX.is_power_of_two());
