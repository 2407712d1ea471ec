//! Understanding a control connection, a byte at a time.
//!
//! [`Inspection`] takes the bytes of one segment (behind the held start of a line, if there is
//! one), knows each line by its first bytes, finds the announcement in it, asks the [`Gate`] to
//! open what was announced, and notes the edit that rewrites it. It never looks at a packet: what
//! is done with the segment follows from the edits and from [`crate::stream::segment::finish`].
//!
//! What may open something: a 227 or 229 at a true line start, as the answer to a PASV or EPSV
//! that waits for one, outside any other multi-line reply; a PORT or EPRT that names the client's
//! own address; both only on a connection that began as FTP.

use super::command;
use crate::abi::{
    Direction, LINE_MAX, Said, Session, asked_flag, begin, direction_flag, event, role,
};
use crate::counter::Counter;
use crate::edit::text::{TEXT_MAX, Text};
use crate::ftp::beginning;
use crate::ftp::extended::Extended;
use crate::ftp::host_port::SixNumbers;
use crate::ftp::line;
use crate::ftp::tls;
use crate::gate::{Gate, Opening};
use crate::masked;
use crate::wire::addr::Port;
use crate::wire::seq::distance;
use bytemuck::{Pod, Zeroable};

/// Nothing that matters is in this line.
pub(super) const NOTHING: u8 = 0;
/// It may hold `h1,h2,h3,h4,p1,p2`.
pub(super) const SIX: u8 = 1;
/// It may hold `|proto|addr|port|`.
pub(super) const EXTENDED: u8 = 2;
/// It is LPRT or LPSV (RFC 1639), which are refused: nobody is known to need them, and every client
/// that has them has PORT and PASV too.
pub(super) const LONG: u8 = 3;

/// What a byte may ask for.
pub(super) mod todo {
    /// An announcement was found.
    pub(in crate::ftp) const FOUND: u16 = 1;
    /// It was let through, and has to be written anew.
    pub(in crate::ftp) const WRITE: u16 = 64;
    /// It was let through as it is.
    pub(in crate::ftp) const LEAVE: u16 = 2048;
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
    /// The server begins with TLS.
    pub(in crate::ftp) const HELLO: u16 = 32;
    /// The byte is replaced by [`super::Inspection::instead`].
    pub(in crate::ftp) const REPLACE: u16 = 256;
    /// The announcement is not let through: the reply must say so.
    pub(in crate::ftp) const REFUSE: u16 = 512;
    /// The command's verb is known, and a policy may deny it.
    pub(in crate::ftp) const VERB: u16 = 1024;
}

/// Values of [`Inspection::withheld`].
pub(super) mod withheld {
    /// The line goes on as far as it is there.
    pub(in crate::ftp) const NOTHING: u8 = 0;
    /// What this segment has of it is cut off, or the line feed alone if something was done about it; its
    /// sender repeats that.
    pub(in crate::ftp) const CUT: u8 = 1;
    /// Its line feed is cut off, and the rest is held as an unfinished line is: it may have to be changed.
    pub(in crate::ftp) const HELD: u8 = 2;
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
    /// Bits of [`direction_flag::READER`]: what the last bytes of a client's line were.
    pub(super) kept: u8,
    /// What the last byte asks for: [`mod@todo`].
    pub(super) todo: u16,
    /// Where in its line the argument of a PORT or EPRT begins; 0: not yet.
    pub(super) argument: u16,
    /// The public port that the announcement got.
    pub(super) public: Port,
    pub(super) edits: u16,
    /// What takes the place of the last byte, where [`todo::REPLACE`] says so.
    pub(super) instead: u8,
    /// [`super::doubt::license`]: what may answer the PASV that ends here; [`super::doubt::license::NONE`] at
    /// another command: those that wait lose theirs, and in the server's lines: this one is perhaps no
    /// reply's start.
    pub(super) unlicensed: u8,
    /// What of the line is kept back: [`mod@withheld`].
    pub(super) withheld: u8,
    /// 1: these are an outside client's lines, or those of one whose commands a policy denies.
    pub(super) is_guarded: u8,
    /// The byte before the next one.
    pub(super) last: u8,
    /// 1: the latest edit is a hidden greeting's, of this segment.
    pub(super) hidden: u8,
    /// 1: the start of the line under way should have been kept, but there was no room.
    pub lacks_start: u8,
    /// 1: what was found last was let through just now.
    pub(super) opened: u8,
    pad: [u8; 4],
    /// Where reading began in this segment.
    pub(super) first_seq: u32,
    /// The current line's bytes, as far as it was read here, behind the head of what is told of it.
    pub said: Said,
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
        self.instead = 0;
        self.unlicensed = 0;
        self.withheld = withheld::NOTHING;
        let is_guarded = session.role == role::PUBLISH || session.deny != 0;
        self.is_guarded = u8::from(!is_replies && is_guarded);
        self.first_seq = seq;
        self.hidden = 0;
        self.lacks_start = 0;
        let direction = if is_replies {
            &session.replies
        } else {
            &session.commands
        };
        self.is_replies = is_replies as u8;
        self.seq = seq;
        self.line_seq = seq;
        self.resume(direction);
        let let_go = direction.flags & direction_flag::LET_GO;
        if self.line_len == 0 {
            self.begin_line(session);
        }
        self.let_go = let_go;
    }

    /// Goes on in the line that the direction's segments have begun, if they have.
    #[inline(always)]
    fn resume(&mut self, direction: &Direction) {
        self.line_len = direction.line_len;
        self.head = direction.head;
        let kept = direction.flags & direction_flag::READER;
        self.kept = kept & !direction_flag::AFTER_CR;
        self.last = if kept == self.kept { 0 } else { b'\r' };
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
        self.unlicensed = 0;
        self.lacks_start = 0;
        // Every line of a multi-line 227 may hold the address.
        if self.is_replies != 0 && is_waiting(session) {
            self.candidate = form_of(self.multiline(session));
        }
    }

    /// Takes the next byte. [`Inspection::act`] comes before the next one if [`Inspection::must_act`].
    ///
    /// Reading and acting are apart because a byte is read in a loop, which the kernel's verifier
    /// follows again and again.
    #[inline(always)]
    pub fn feed(&mut self, session: &mut Session, byte: u8) {
        let at = self.line_len;
        self.seq = self.seq.wrapping_add(1);
        if self.blind != 0 {
            return;
        }
        if byte == b'\n' {
            self.todo = todo::LINE_END;
            self.look(byte, at);
            return;
        }
        let mut byte = byte;
        if self.is_replies == 0 {
            let before = self.last;
            if self.is_guarded != 0 && !may_be_tls(session) && self.spoils(byte, at) {
                self.todo = todo::REPLACE;
                self.last = byte;
                byte = self.instead;
            } else {
                self.last = byte;
            }
            if at == 0 && !byte.is_ascii_alphabetic() && !begins_tls(session, self.seq, byte) {
                // What stands before a command is no part of it: telnet commands in front of ABOR
                // (RFC 959 section 4.1.3), blanks that some servers skip.
                self.line_seq = self.seq;
                if session.asked.begin == begin::OPEN
                    && !beginning::may_precede_command(byte, before)
                {
                    session.asked.begin = begin::OTHER;
                }
                return;
            }
        } else {
            self.last = byte;
        }
        self.head = line::add_to_head(self.head, byte, at);
        self.line_len = at.saturating_add(1);
        self.keep(byte, at);
        if self.let_go == 0 {
            self.look(byte, at);
        }
        if self.is_replies != 0 {
            self.look_at_code(at);
        } else {
            self.look_at_verb(session, byte, at);
        }
    }

    /// Keeps a byte of the line, if it is not too long for that.
    #[inline(always)]
    fn keep(&mut self, byte: u8, at: u16) {
        if (at as usize) < LINE_MAX {
            *masked::at_mut(&mut self.said.line, at as usize) = byte;
        } else if self.candidate != NOTHING {
            self.candidate = NOTHING;
            self.todo |= todo::TOO_LONG;
        }
    }

    /// Lets the finder see a byte.
    #[inline(always)]
    fn look(&mut self, byte: u8, at: u16) {
        let is_blank = byte == b' ' || byte == b'\t';
        if self.is_replies == 0 && self.candidate != NOTHING && self.argument == 0 && !is_blank {
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
        if at == 1 && self.head == tls::HELLO {
            self.todo |= todo::HELLO;
        }
        if at != 3 || self.let_go != 0 || self.candidate != NOTHING {
            return;
        }
        if announces(self.head) {
            self.todo |= todo::ANNOUNCING_CODE;
        }
    }

    #[inline(always)]
    fn look_at_verb(&mut self, session: &mut Session, byte: u8, at: u16) {
        if at == 1 && self.head == tls::HELLO && self.seq == session.commands.isn.wrapping_add(3) {
            session.asked.flags |= asked_flag::HELLO;
        }
        // Of a line that was let go only what comes next can be replaced: behind three letters that is the
        // fourth byte.
        let is_short = at == 3 && self.let_go != 0 && !command::is_name_byte(byte);
        if session.deny != 0 && (at == 4 || is_short) {
            self.todo |= todo::VERB;
        }
        if at == 4 {
            let form = form_of_command(self.head);
            if self.let_go == 0 {
                self.candidate = form;
                // A delimiter may stand right behind the verb.
                self.look(byte, at);
            } else if form != NOTHING {
                self.todo |= todo::UNREAD_VERB;
            }
        }
    }

    /// Takes up to `count` bytes at once, 1 to 8: they are the lowest ones of `word`, the first of them
    /// lowest. Gives how many it has taken; 0: the next one must be fed by itself, for there is more to it
    /// than that it is kept and seen by the finder. Afterwards it is as if they had been fed one by one, and
    /// [`Inspection::act`] comes before the next one if [`Inspection::must_act`].
    ///
    /// Not inlined: what it keeps on the stack is not there any more while the inspection acts.
    #[inline(never)]
    pub fn take(&mut self, word: u64, count: u32) -> u32 {
        let at = self.line_len;
        let is_reply = self.is_replies != 0;
        let finder = if self.let_go == 0 {
            self.candidate
        } else {
            NOTHING
        };
        let is_kept = at as usize <= LINE_MAX - 8;
        let is_within = is_kept || (at as usize >= LINE_MAX && finder == NOTHING);
        // In front of a command's sixth byte its verb is not known yet.
        if self.blind != 0 || (!is_reply && at < 5) || !is_within {
            return 0;
        }
        let mask = u64::MAX >> 64_u32.wrapping_sub(count.wrapping_mul(8));
        let word = word & mask;
        let mut taken = bytes_before(word, b'\n').min(count);
        if !is_reply {
            let has_argument = finder == NOTHING || self.argument != 0;
            let may = self.is_guarded == 0 || self.may_take(word | FILLING & !mask);
            if !has_argument || !may {
                return 0;
            }
        }
        let head = line::head_of_word(word);
        if is_reply && at < 4 {
            // Its code is in the first four bytes.
            if at != 0 || finder != NOTHING || taken < 4 || tls::is_hello(head) {
                return 0;
            }
            if self.let_go == 0 && announces(head) {
                self.todo |= todo::ANNOUNCING_CODE;
                taken = 4;
            }
        }
        if taken < 2 {
            return 0;
        }
        if is_kept {
            for (index, byte) in word.to_le_bytes().into_iter().enumerate() {
                *masked::at_mut(&mut self.said.line, (at as usize).wrapping_add(index)) = byte;
            }
        }
        if finder == SIX && (!self.six.is_idle() || has_digit(word)) {
            taken = self.find(word, taken, |it, byte, at| it.six.feed(byte, at));
        } else if finder == EXTENDED {
            taken = self.find(word, taken, |it, byte, at| it.extended.feed(byte, at));
        }
        let mask = u64::MAX >> 64_u32.wrapping_sub(taken.wrapping_mul(8));
        if at < 8 {
            let head = line::head_of_word(word & mask);
            self.head |= head >> u32::from(at).wrapping_mul(8);
        }
        self.seq = self.seq.wrapping_add(taken);
        self.line_len = at.saturating_add(taken as u16);
        self.last = (word >> taken.wrapping_sub(1).wrapping_mul(8)) as u8;
        taken
    }

    /// Lets the finder see the first `count` bytes of `word`; gives how many it has seen: not those behind what
    /// it found.
    #[inline(always)]
    fn find(&mut self, word: u64, count: u32, feed: impl Fn(&mut Self, u8, u16) -> bool) -> u32 {
        let at = self.line_len;
        for (index, byte) in (0_u32..).zip(word.to_le_bytes()) {
            if index >= count {
                break;
            }
            if feed(self, byte, at.wrapping_add(index as u16)) {
                self.todo |= todo::FOUND;
                return index.wrapping_add(1);
            }
        }
        count
    }

    /// Whether what was read last asks for [`Inspection::act`].
    #[inline(always)]
    pub const fn must_act(&self) -> bool {
        self.todo != 0
    }

    /// Whether the last byte asks for [`Inspection::announce`].
    #[inline(always)]
    pub const fn must_announce(&self) -> bool {
        self.todo & todo::FOUND != 0
    }

    /// Whether that asks for [`Inspection::write`].
    #[inline(always)]
    pub const fn must_write(&self) -> bool {
        self.todo & (todo::WRITE | todo::LEAVE) != 0
    }

    /// Whether that asks for [`Inspection::insert`].
    #[inline(always)]
    pub const fn must_insert(&self) -> bool {
        self.todo & todo::INSERT != 0
    }

    /// Does what the last byte asks for.
    ///
    /// The kernel runs the five steps one by one: each is a function of its own to the verifier.
    pub fn act(&mut self, session: &mut Session, gate: &mut impl Gate) {
        self.announce(session, gate);
        self.write(session, gate);
        self.insert(session, gate);
        self.judge(session, gate);
        self.conclude(session, gate);
    }

    /// The step before the last: what is refused, as an announcement, a reply or a command.
    #[inline(always)]
    pub fn judge(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let todo = self.todo;
        if todo & todo::REFUSE != 0 {
            self.refuse_reply(session, gate);
        }
        if self.let_go != 0 {
            self.candidate = NOTHING;
        }
        // The verb comes first, as edits stand in the order of their bytes.
        if todo & todo::VERB != 0
            || (todo & todo::LINE_END != 0 && self.is_short_and_judged(session))
        {
            self.judge_verb(session, gate);
        }
        if self.todo & todo::REPLACE != 0 {
            // Not held any longer: what a line held was edited by would be forgotten with it, and noted
            // again.
            if self.candidate != NOTHING {
                self.refuse_unread(session, gate);
                self.let_go = 1;
                self.candidate = NOTHING;
            } else if session.deny != 0 && self.line_len > 0 && self.line_len < 5 {
                self.let_go = 1;
            }
            self.replace(session, gate);
        }
    }

    /// The last step: what ends a line, or becomes of it.
    #[inline(always)]
    pub fn conclude(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let todo = self.todo;
        self.todo = 0;
        if todo & todo::LINE_END != 0 {
            if self.is_hidden(session) {
                self.hide_greeting(session, gate);
            }
            if self.is_replies == 0 && self.must_withhold(session, gate) {
                // What was done about a line is done once: then what was read of it stays read.
                if !self.is_acted_on(session) {
                    self.cut(session);
                    return;
                }
                // One that may have to be refused is not sent on before its end was judged.
                self.withheld = if self.candidate == NOTHING {
                    withheld::CUT
                } else {
                    withheld::HELD
                };
            }
            if self.withheld != withheld::NOTHING {
                self.seq = self.seq.wrapping_sub(1);
                self.stop = 1;
                return;
            }
            self.kept = 0;
            self.end_line(session, gate);
            if self.is_replies == 0 && self.line_len > 0 {
                self.open_default(session, gate);
            }
            self.begin_line(session);
            self.last = 0;
            if self.edits >= EDITS_A_SEGMENT {
                self.stop = 1;
            }
        }
        if todo & todo::ANNOUNCING_CODE != 0 {
            self.expect_address(session, gate);
        }
        if todo & todo::TOO_LONG != 0 {
            self.give_up(session, gate);
        }
        if todo & todo::UNREAD_VERB != 0 {
            self.spoil_unread(session, gate);
        }
        if todo & todo::HELLO != 0 {
            self.greet_tls(session, gate);
        }
    }

    /// Cuts the segment in front of what it has of the client's line under way; its sender repeats that.
    ///
    /// The line feed alone is not enough: ProFTPD 1.3.8 waits for ever for one that comes behind its
    /// carriage return in a segment of its own.
    #[inline(never)]
    pub(super) fn cut(&mut self, session: &Session) {
        self.stop = 1;
        self.withheld = withheld::CUT;
        self.seq = self.line_seq;
        self.kept = 0;
        self.last = 0;
        self.head = 0;
        self.line_len = 0;
        if self.line_seq == self.first_seq {
            // As the segments before it have left it.
            self.resume(&session.commands);
        }
    }

    /// Whether something of what the segment has of the client's line was edited, or announced, or its start was
    /// held: the sender may have been told that it arrived, and does not repeat it then.
    #[inline(always)]
    fn is_acted_on(&self, session: &Session) -> bool {
        let commands = &session.commands;
        if commands.held_len != 0 && self.line_seq == self.first_seq {
            return true;
        }
        let begins_here = self.line_seq != self.first_seq || commands.line_len == 0;
        let is_edited = match commands.edits.recent(0) {
            Some(edit) => distance(edit.start, self.line_seq) >= 0,
            None => false,
        };
        is_edited || (begins_here && self.let_go != 0)
    }

    /// Whether the line that ends is a command whose verb was not judged yet, because nothing stood
    /// behind it.
    #[inline(always)]
    const fn is_short_and_judged(&self, session: &Session) -> bool {
        self.is_replies == 0 && session.deny != 0 && self.line_len > 0 && self.line_len <= 4
    }

    /// The line is too long to be kept: what it announces stays unread.
    #[inline(always)]
    fn give_up(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if self.is_replies == 0 && session.role == role::PUBLISH {
            self.refuse_unread(session, gate);
            return;
        }
        if self.is_replies != 0 {
            session.answered.announced = 1;
        }
        let none = Opening::default();
        gate.tell(session, event::PASSED, Counter::PassedTooLong, &none);
    }

    /// The stream ends within the line: a 227 or 229 passes as it is.
    #[inline(always)]
    pub fn miss_end(&mut self, session: &Session, gate: &mut impl Gate) {
        if self.is_replies != 0
            && self.line_len > 0
            && self.let_go == 0
            && self.candidate != NOTHING
        {
            let none = Opening::default();
            gate.tell(session, event::PASSED, Counter::PassedUnread, &none);
        }
    }

    /// Whether the line under way must be held until more of it is known.
    #[inline(always)]
    pub fn must_hold(&self, session: &Session) -> bool {
        let len = self.line_len;
        if len == 0
            || len as usize >= LINE_MAX
            || self.let_go != 0
            || self.withheld == withheld::CUT
        {
            return false;
        }
        if self.candidate != NOTHING {
            return true;
        }
        if self.is_hidden(session) || (self.is_replies == 0 && session.deny != 0 && len < 5) {
            return true;
        }
        if self.is_replies != 0 {
            return len < 4
                && session.role == role::PUBLISH
                && self.multiline(session) == 0
                && is_waiting(session)
                && (line::starts_like(self.head, line::head_of(b"227"), len.min(3))
                    || line::starts_like(self.head, line::head_of(b"229"), len.min(3)));
        }
        len < 5
            && (line::starts_like(self.head, line::head_of(b"PORT"), len.min(4))
                || line::starts_like(self.head, line::head_of(b"EPRT"), len.min(4))
                || line::starts_like(self.head, line::head_of(b"LPRT"), len.min(4))
                || line::starts_like(self.head, line::head_of(b"LPSV"), len.min(4)))
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

/// Whether a reply of this head announces an address, as far as its code says.
#[inline(always)]
const fn announces(head: u64) -> bool {
    let (code, behind) = line::reply_code(head);
    form_of(code) != NOTHING && !behind.is_ascii_digit()
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
        command::LPRT | command::LPSV => LONG,
        _ => NOTHING,
    }
}

/// Whether the byte in front of `seq` begins TLS: as the client's first one, or nowhere before AUTH.
#[inline(always)]
const fn begins_tls(session: &Session, seq: u32, byte: u8) -> bool {
    byte == tls::HANDSHAKE && seq == session.commands.isn.wrapping_add(2)
}

/// Whether the client began as TLS does, and the server has said nothing yet that tells.
#[inline(always)]
const fn may_be_tls(session: &Session) -> bool {
    session.asked.flags & asked_flag::HELLO != 0 && session.answered.begin == begin::OPEN
}

/// The number of the PASV or EPSV that waits longest for its answer; one more than there are, if
/// none waits.
#[inline(always)]
pub(super) fn first_waiting(session: &Session) -> u32 {
    let answered = &session.answered;
    let is_refused = distance(answered.refused, answered.passive) > 0
        && session.asked.commands != answered.refused_at;
    let last = if is_refused {
        answered.refused
    } else {
        answered.passive
    };
    last.wrapping_add(1)
}

/// The number of the PASV or EPSV that a 227 or 229 answers now, if one waits: those that were
/// perhaps refused come last.
#[inline(always)]
pub(super) fn due(session: &Session) -> u32 {
    let first = first_waiting(session);
    let refused = session.answered.refused;
    if distance(refused, first) >= 0 && refused != session.asked.passive {
        refused.wrapping_add(1)
    } else {
        first
    }
}

/// Whether a PASV or EPSV waits for its answer.
#[inline(always)]
pub(super) fn is_waiting(session: &Session) -> bool {
    session.role == role::PUBLISH && session.asked.passive.wrapping_add(1) != first_waiting(session)
}

/// Whether both sides of the connection began as those of FTP do. A client whose first line is under
/// way does, if it announces something.
#[inline(always)]
pub(super) const fn is_ftp(session: &Session) -> bool {
    session.asked.begin != begin::OTHER && session.answered.begin == begin::FTP
}

/// What stands for bytes that are not there: a letter.
const FILLING: u64 = u64::from_ne_bytes([b'X'; 8]);
/// The lowest bit of each byte.
const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
/// The highest bit of each byte.
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The highest bit of each of eight bytes that is this one; behind the first of them also of some others.
#[inline(always)]
const fn equal_to(word: u64, byte: u8) -> u64 {
    let zeros = word ^ u64::from_ne_bytes([byte; 8]);
    zeros.wrapping_sub(LOW) & !zeros & HIGH
}

/// Whether one of eight bytes is this one.
#[inline(always)]
pub(super) const fn has_byte(word: u64, byte: u8) -> bool {
    equal_to(word, byte) != 0
}

/// How many bytes lie below the lowest one that is this one; 8: none is.
#[inline(always)]
const fn bytes_before(word: u64, byte: u8) -> u32 {
    let equal = equal_to(word, byte);
    let first = equal & equal.wrapping_neg();
    // One bit in each byte below it, which the product sums up in its highest byte.
    let below = (first >> 7).wrapping_sub(1) & LOW;
    (below.wrapping_mul(LOW) >> 56) as u32
}

/// Whether one of eight bytes may be a digit: a few that are none count as well.
#[inline(always)]
const fn has_digit(word: u64) -> bool {
    // 0x30 to 0x3f: digits and `:;<=>?`.
    let row = word & u64::from_ne_bytes([0xf0; 8]) ^ u64::from_ne_bytes([0x30; 8]);
    row.wrapping_sub(LOW) & !row & HIGH != 0
}

const _: () = assert!(TEXT_MAX.is_power_of_two() && LINE_MAX.is_power_of_two());
