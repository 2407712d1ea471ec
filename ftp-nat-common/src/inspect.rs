//! Understanding a control connection, a byte at a time.
//!
//! [`Inspection`] takes the bytes of one segment (behind the held start of a line, if there is
//! one), knows each line by its first bytes, finds the announcement in it, asks the [`Gate`] to
//! open what was announced, and notes the edit that rewrites it. It never looks at a packet: what
//! is done with the segment follows from the edits and from [`crate::segment::finish`].
//!
//! What may open something (the gate of the gate): a 227 or 229 at a true line start, as the
//! answer to a PASV or EPSV that waits for one, outside any other multi-line reply; a PORT or
//! EPRT that names the client's own address.

use crate::abi::{Direction, LINE_MAX, Session, direction_flag, event, kind, role};
use crate::addr::{Addr, Port};
use crate::counter::Counter;
use crate::extended::Extended;
use crate::line;
use crate::text::{FRONT, TEXT_MAX, Text};
use crate::tuple::SixNumbers;
use bytemuck::{Pod, Zeroable};

/// What the protocol asks of whoever runs it: the datapath, or a test.
pub trait Gate {
    /// Lets the announced data connection in or out; gives the port under which the outside
    /// reaches it, or why it may not be.
    fn open(&mut self, session: &Session, opening: &Opening) -> Result<Port, Counter>;
    /// Takes back what `open` gave: the same reply announced another port after it.
    fn close(&mut self, session: &Session, opening: &Opening, public: Port);
    /// Whether an inside address may be announced where the client's own is not known.
    fn is_inside(&mut self, addr: &Addr) -> bool;
    /// Counts a happening.
    fn count(&mut self, counter: Counter);
    /// Counts a happening and tells the operator: `what` of [`event`], about an announcement.
    fn tell(&mut self, session: &Session, what: u8, counter: Counter, opening: &Opening);
}

/// An announced data connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The announced address; none where the text gives none.
    pub addr: Addr,
    /// The announced port.
    pub port: Port,
    /// [`kind::PASSIVE`] or [`kind::ACTIVE`].
    pub kind: u8,
}

/// Nothing that matters is in this line.
const NOTHING: u8 = 0;
/// It may hold `h1,h2,h3,h4,p1,p2`.
const SIX: u8 = 1;
/// It may hold `|proto|addr|port|`.
const EXTENDED: u8 = 2;

/// How many edits one segment may get: they must all be remembered until it is rewritten.
const EDITS_A_SEGMENT: u32 = 3;

/// The state while one segment is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Inspection {
    six: SixNumbers,
    extended: Extended,
    text: Text,
    /// The current line's head ([`mod@line`]).
    pub head: u64,
    /// The sender's sequence number of the next byte.
    pub seq: u32,
    /// The sequence number of the current line's first byte.
    pub line_seq: u32,
    /// Bytes of the current line so far; saturates.
    pub line_len: u16,
    /// What the line may hold.
    candidate: u8,
    /// 1: the line goes through as it is.
    let_go: u8,
    /// 1: these are the server's replies.
    is_replies: u8,
    /// 1: no further byte may be read, the rest of the segment is not sent on.
    pub stop: u8,
    pad: [u8; 2],
    edits: u32,
    pad2: u32,
}

impl Inspection {
    /// Starts behind what the direction has seen. With `held` the line starts anew.
    #[inline(always)]
    pub fn begin(&mut self, session: &Session, is_replies: bool, seq: u32) {
        *self = Self::zeroed();
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
        // Every line of a multi-line 227 may hold the address.
        if self.is_replies != 0 && is_waiting(session) {
            self.candidate = form_of(session.answered.multiline);
        }
    }

    /// Takes the next byte.
    #[inline(always)]
    pub fn feed(&mut self, session: &mut Session, gate: &mut impl Gate, byte: u8) {
        let at = self.line_len;
        self.seq = self.seq.wrapping_add(1);
        if byte == b'\n' {
            self.look(session, gate, byte, at);
            self.end_line(session, gate);
            self.begin_line(session);
            if self.edits >= EDITS_A_SEGMENT {
                self.stop = 1;
            }
            return;
        }
        if at == 0 && self.is_replies == 0 && byte >= 0xf0 {
            // A telnet command in front of ABOR (RFC 959 section 4.1.3) is no part of the line.
            self.line_seq = self.seq;
            return;
        }
        self.head = line::add_to_head(self.head, byte, at);
        self.line_len = at.saturating_add(1);
        if self.let_go != 0 {
            return;
        }
        let direction = direction_mut(session, self.is_replies);
        if (at as usize) < LINE_MAX {
            direction.line[at as usize & (LINE_MAX - 1)] = byte;
        } else if self.candidate != NOTHING {
            self.candidate = NOTHING;
            gate.count(Counter::PassedTooLong);
        }
        self.look(session, gate, byte, at);
        if self.is_replies != 0 && at == 3 && self.candidate == NOTHING {
            self.classify_reply(session, gate);
        }
        if self.is_replies == 0 && at == 4 {
            self.classify_command();
        }
    }

    #[inline(never)]
    fn classify_reply(&mut self, session: &Session, gate: &mut impl Gate) {
        if session.role != role::PUBLISH || session.answered.multiline != 0 {
            return;
        }
        let (code, behind) = line::reply_code(self.head);
        let form = form_of(code);
        if form == NOTHING || (behind != b' ' && behind != b'-') {
            return;
        }
        if is_waiting(session) {
            self.candidate = form;
        } else {
            gate.tell(
                session,
                event::PASSED,
                Counter::PassedUnasked,
                &Opening::default(),
            );
        }
    }

    #[inline(always)]
    fn classify_command(&mut self) {
        self.candidate = match line::verb(self.head) {
            (line::PORT, b' ') => SIX,
            (line::EPRT, b' ') => EXTENDED,
            _ => NOTHING,
        };
    }

    /// Lets the finder see the byte, and acts on what it finds.
    #[inline(always)]
    fn look(&mut self, session: &mut Session, gate: &mut impl Gate, byte: u8, at: u16) {
        if self.candidate == NOTHING {
            return;
        }
        let found = match self.candidate {
            SIX => self.six.feed(byte, at),
            EXTENDED => self.extended.feed(byte, at),
            _ => false,
        };
        if !found {
            return;
        }
        let opening = if self.candidate == SIX {
            Opening {
                addr: self.six.addr(),
                port: self.six.port(),
                kind: kind::PASSIVE,
            }
        } else {
            Opening {
                addr: self.extended.addr(),
                port: self.extended.port(),
                kind: kind::PASSIVE,
            }
        };
        if opening.port.number() == 0 {
            // No port is no announcement: the line's end counts it.
            return;
        }
        self.act(session, gate, opening);
        // Acted on: neither must the rest be held, nor does the line's end miss an address.
        self.candidate = NOTHING;
        self.let_go = 1;
    }

    /// Acts on an announcement.
    #[inline(never)]
    fn act(&mut self, session: &mut Session, gate: &mut impl Gate, mut opening: Opening) {
        if self.is_replies != 0 {
            self.act_on_reply(session, gate, &opening);
        } else {
            opening.kind = kind::ACTIVE;
            self.act_on_command(session, gate, &opening);
        }
    }

    #[inline(always)]
    fn act_on_reply(&mut self, session: &mut Session, gate: &mut impl Gate, opening: &Opening) {
        let number = opening.port.number();
        let first = session.passive_first.max(1024);
        let last = if session.passive_last == 0 {
            u16::MAX
        } else {
            session.passive_last
        };
        if number < first || number > last {
            gate.tell(session, event::DENIED, Counter::DeniedPort, opening);
            return;
        }
        if session.answered.opened_port != opening.port {
            if session.answered.opened_port.0 != 0 {
                // One command opens one connection: the reply's last word counts.
                let earlier = Opening {
                    port: session.answered.opened_port,
                    ..*opening
                };
                gate.close(session, &earlier, session.answered.opened_public);
                session.answered.opened_port = Port(0);
            }
            match gate.open(session, opening) {
                Ok(public) => {
                    session.answered.opened_port = opening.port;
                    session.answered.opened_public = public;
                }
                Err(reason) => {
                    gate.tell(session, event::DENIED, reason, opening);
                    return;
                }
            }
        }
        let public = session.answered.opened_public;
        self.rewrite(session, gate, opening, public);
    }

    #[inline(never)]
    fn act_on_command(&mut self, session: &mut Session, gate: &mut impl Gate, opening: &Opening) {
        let own = if session.role == role::PUBLISH {
            opening.addr == session.outside.addr
        } else if session.inside.addr.is_none() {
            gate.is_inside(&opening.addr)
        } else {
            opening.addr == session.inside.addr
        };
        let reason = if !own {
            Counter::DeniedBounce
        } else if opening.port.number() < 1024 {
            Counter::DeniedPort
        } else {
            match gate.open(session, opening) {
                Ok(public) => {
                    if session.role == role::MASQUERADE {
                        self.rewrite(session, gate, opening, public);
                    } else {
                        gate.count(Counter::Unchanged);
                    }
                    return;
                }
                Err(reason) => reason,
            }
        };
        gate.tell(session, event::DENIED, reason, opening);
        // The server must not act on it, and the client must hear of it: an unknown verb of the
        // same length brings a 500 and moves no sequence number.
        self.text.clear();
        self.text.push(b'X');
        self.text.push(b'X');
        self.text.push(b'X');
        self.text.push(b'X');
        let line_seq = self.line_seq;
        session.commands.edits.push(line_seq, 4, &self.text);
        self.edits += 1;
    }

    /// Notes the edit that makes the announcement say `public`.
    #[inline(never)]
    fn rewrite(
        &mut self,
        session: &mut Session,
        gate: &mut impl Gate,
        opening: &Opening,
        public: Port,
    ) {
        let advertise = session.advertise;
        let is_six = self.candidate == SIX;
        let (start, end) = if is_six {
            (self.six.start, self.six.end)
        } else {
            (self.extended.start, self.extended.end)
        };
        self.text.clear();
        let mut same = public == opening.port;
        if is_six {
            if !advertise.is_v4() {
                gate.tell(session, event::PASSED, Counter::PassedNoAddress, opening);
                return;
            }
            same &= advertise == opening.addr;
            self.text.push_six(&advertise, public);
        } else if self.extended.protocol == 0 {
            self.text
                .push_extended_port(self.extended.delimiter, public);
        } else {
            same &= advertise == opening.addr;
            self.text
                .push_extended(self.extended.delimiter, &advertise, public);
        }
        let old_len = end.wrapping_sub(start) as u32;
        if same && old_len == self.text.len() {
            gate.count(Counter::Unchanged);
            return;
        }
        let counter = match (is_six, self.is_replies != 0) {
            (true, true) => Counter::Rewrote227,
            (true, false) => Counter::RewrotePort,
            (false, true) => Counter::Rewrote229,
            (false, false) => Counter::RewroteEprt,
        };
        gate.tell(
            session,
            event::REWRITTEN,
            counter,
            &Opening {
                port: public,
                ..*opening
            },
        );
        let start = if self.is_replies != 0 {
            self.level(session, start, old_len)
        } else {
            start
        };
        let old_len = end.wrapping_sub(start);
        let length = if old_len as u32 == self.text.len() {
            Counter::EditEqual
        } else {
            Counter::EditAdjusted
        };
        gate.count(length);
        let seq = self.line_seq.wrapping_add(start as u32);
        direction_mut(session, self.is_replies)
            .edits
            .push(seq, old_len, &self.text);
        self.edits += 1;
    }

    /// Makes room for a longer text by shortening the words in front of it, or fills up a shorter
    /// one with blanks, so that no sequence number moves. Gives where the piece starts now; it
    /// stays where it was if there is no room.
    ///
    /// The byte right in front of the announcement (a parenthesis, mostly) stays there: every
    /// client accepts blanks and shorter words before it, but nothing unusual behind it.
    #[inline(never)]
    fn level(&mut self, session: &Session, start: u16, old_len: u32) -> u16 {
        let line = &direction(session, self.is_replies).line;
        let (code, _) = line::reply_code(self.head);
        let keep: u32 = if code != 0 { 4 } else { 0 };
        let start = start as u32;
        if start <= keep {
            return start as u16;
        }
        let byte = |at: u32| line[at as usize & (LINE_MAX - 1)];
        let new_len = self.text.len();
        let lead = start - 1;
        if new_len <= old_len {
            let blanks = old_len - new_len;
            if blanks + 1 > FRONT {
                return start as u16;
            }
            self.text.push_front(byte(lead));
            self.push_blanks(blanks);
            return lead as u16;
        }
        let growth = new_len - old_len;
        if growth > lead.saturating_sub(keep) {
            return start as u16;
        }
        // Never half a character: strict UTF-8 readers would refuse the line.
        let mut cut = lead - growth;
        let mut blanks = 0;
        while blanks < 3 && cut > keep && byte(cut) & 0xc0 == 0x80 {
            cut -= 1;
            blanks += 1;
        }
        self.text.push_front(byte(lead));
        self.push_blanks(blanks);
        cut as u16
    }

    #[inline(always)]
    fn push_blanks(&mut self, blanks: u32) {
        let mut at = 0;
        while at < FRONT {
            if at < blanks {
                self.text.push_front(b' ');
            }
            at += 1;
        }
    }

    #[inline(never)]
    fn end_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if self.candidate != NOTHING && self.is_replies == 0 {
            gate.tell(
                session,
                event::PASSED,
                Counter::PassedNoAddress,
                &Opening::default(),
            );
        }
        if self.line_len == 0 || (self.line_len == 1 && self.head == line::head_of(b"\r")) {
            return;
        }
        if self.is_replies != 0 {
            self.end_reply_line(session, gate);
        } else {
            self.end_command_line(session);
        }
    }

    #[inline(always)]
    fn end_command_line(&mut self, session: &mut Session) {
        let asked = &mut session.asked;
        asked.commands = asked.commands.wrapping_add(1);
        let (verb, behind) = line::verb(self.head);
        if behind != 0 && behind != b' ' && behind != b'\r' {
            return;
        }
        // EPSV ALL (RFC 2428 section 4) promises; it asks for no port.
        let is_all = line::starts_like(self.head, line::head_of(b"EPSV AL"), 7);
        if verb == line::PASV || (verb == line::EPSV && !is_all) {
            asked.passive_at = asked.commands;
            asked.passive = asked.passive.wrapping_add(1);
        } else if verb == line::AUTH {
            asked.auth = asked.auth.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn end_reply_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let (code, behind) = line::reply_code(self.head);
        let multiline = session.answered.multiline;
        if multiline != 0 {
            if code != multiline || behind == b'-' {
                return;
            }
        } else if code == 0 {
            return;
        } else if behind == b'-' {
            session.answered.multiline = code;
            return;
        }
        // A final line.
        let found = self.let_go != 0;
        session.answered.multiline = 0;
        session.answered.opened_port = Port(0);
        if code < 200 {
            return;
        }
        if session.answered.greeted == 0 {
            session.answered.greeted = 1;
            return;
        }
        session.answered.replies = session.answered.replies.wrapping_add(1);
        let waiting = is_waiting(session);
        if waiting && form_of(code) != NOTHING {
            if !found && self.candidate != NOTHING {
                gate.tell(
                    session,
                    event::PASSED,
                    Counter::PassedNoAddress,
                    &Opening::default(),
                );
            }
            session.answered.passive = session.asked.passive;
        }
        // A refusal answers the oldest command that waits; replies that nobody asked for must not
        // make a pipelined PASV forgotten.
        let is_due = session
            .answered
            .replies
            .wrapping_sub(session.asked.passive_at)
            .cast_signed()
            >= 0;
        if waiting && code >= 400 && is_due {
            session.answered.passive = session.asked.passive;
        }
        if session.asked.auth != session.answered.auth {
            if code == 234 {
                session.answered.encrypted = 1;
                session.answered.auth = session.asked.auth;
                gate.tell(
                    session,
                    event::ENCRYPTED,
                    Counter::SessionEncrypted,
                    &Opening::default(),
                );
            } else if code >= 400 {
                session.answered.auth = session.asked.auth;
            }
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
const fn form_of(code: u16) -> u8 {
    match code {
        227 => SIX,
        229 => EXTENDED,
        _ => NOTHING,
    }
}

/// Whether a PASV or EPSV waits for its answer.
#[inline(always)]
const fn is_waiting(session: &Session) -> bool {
    session.role == role::PUBLISH && session.asked.passive != session.answered.passive
}

/// One direction of a session.
#[inline(always)]
pub const fn direction(session: &Session, is_replies: u8) -> &Direction {
    if is_replies != 0 {
        &session.replies
    } else {
        &session.commands
    }
}

/// One direction of a session.
#[inline(always)]
pub const fn direction_mut(session: &mut Session, is_replies: u8) -> &mut Direction {
    if is_replies != 0 {
        &mut session.replies
    } else {
        &mut session.commands
    }
}

const _: () = assert!(TEXT_MAX.is_power_of_two() && LINE_MAX.is_power_of_two());
