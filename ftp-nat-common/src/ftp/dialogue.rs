//! Lines that end: which command asks for what, and which reply answers it.

use super::command::{self, answer};
use super::doubt::license;
use super::parser::{Inspection, LONG, NOTHING, due, form_of, is_waiting};
use crate::abi::{Session, asked_flag, begin, event, line_end, role};
use crate::counter::Counter;
use crate::ftp::line;
use crate::ftp::tls;
use crate::gate::{Gate, Opening};
use crate::masked;
use crate::wire::addr::Port;
use crate::wire::seq::distance;

impl Inspection {
    #[inline(never)]
    pub(super) fn end_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if self.is_replies == 0 {
            self.end_announcement(session, gate);
        }
        if self.line_len == 0 || (self.line_len == 1 && self.head == line::head_of(b"\r")) {
            return;
        }
        if self.is_replies != 0 {
            let is_greeting = session.answered.begin == begin::OPEN;
            self.end_reply_line(session, gate);
            self.note_line_end(session, is_greeting);
        } else {
            self.end_command_line(session, gate);
        }
    }

    /// How the server's line ended. A bare line feed in its greeting says that it ends lines so; later
    /// it may be part of a name that the server prints.
    #[inline(always)]
    fn note_line_end(&self, session: &mut Session, is_greeting: bool) {
        let is_bare = self.last != b'\r';
        let answered = &mut session.answered;
        if is_bare && is_greeting {
            answered.line_ends |= line_end::REPLIES;
        }
        answered.line_ends &= !line_end::BARE;
        if is_bare && answered.line_ends & line_end::REPLIES == 0 {
            answered.line_ends |= line_end::BARE;
        }
    }

    /// The end of a PORT, EPRT or their like of which nothing was found.
    #[inline(always)]
    fn end_announcement(&mut self, session: &mut Session, gate: &mut impl Gate) {
        // A verb alone says nothing, however it is read.
        let is_bare = self.line_len == 5 && line::verb(self.head).1 == b'\r';
        if self.candidate == NOTHING || (is_bare && self.candidate != LONG) {
            return;
        }
        let is_refused = session.role == role::PUBLISH
            || (self.candidate == LONG && command::name(self.head) == command::LPRT);
        if is_refused {
            self.refuse_unread(session, gate);
        } else {
            gate.tell(
                session,
                event::PASSED,
                Counter::PassedNoAddress,
                &Opening::default(),
            );
        }
    }

    #[inline(always)]
    fn end_command_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let name = self.name();
        let holds = command::answer_of(name);
        let replies = session.answered.replies;
        let in_transfer = session.answered.in_transfer;
        let asked = &mut session.asked;
        if holds != answer::UNKNOWN {
            // No TLS handshake has such lines.
            asked.flags &= !asked_flag::HELLO;
        }
        if asked.begin == begin::OPEN {
            asked.begin = if holds == answer::UNKNOWN {
                begin::OTHER
            } else {
                begin::FTP
            };
        }
        let is_alone = asked.commands == replies;
        asked.commands = asked.commands.wrapping_add(1);
        if self.last == b'\r' {
            asked.flags |= asked_flag::CRLF;
        }
        let is_bare = self.is_bare_command(session);
        let asked = &mut session.asked;
        // EPSV ALL (RFC 2428 section 4) promises; it asks for no port.
        let is_promise = line::starts_like(self.head, line::head_of(b"EPSV AL"), 7);
        if holds == answer::ADDRESS && !is_promise {
            let number = asked.passive.wrapping_add(1);
            *masked::at_mut(&mut asked.passive_at, number as usize) = asked.commands;
            asked.passive = number;
            asked.flags |= asked_flag::DATA_PORT;
            asked.flags &= !asked_flag::BARE;
            if is_bare {
                asked.flags |= asked_flag::BARE;
            }
            asked.replies_ended = session.replies.seen;
        }
        match self.unlicensed {
            0 => {}
            license::FIRST_LINE => asked.first_line = asked.passive,
            _ => asked.unlicensed = asked.passive,
        }
        self.unlicensed = 0;
        if name == line::AUTH {
            asked.auth = asked.auth.wrapping_add(1);
            asked.flags &= !asked_flag::AUTH_TLS;
            // The verb and the first four bytes behind it.
            if matches!(&(self.head as u32).to_be_bytes(), b" TLS" | b" SSL") {
                asked.flags |= asked_flag::AUTH_TLS;
            }
        } else if name == command::REIN {
            asked.flags &= !asked_flag::DATA_PORT;
        }
        if is_bare || matches!(holds, answer::NAMES | answer::UNKNOWN) {
            asked.doubtful = asked.commands;
            asked.flags &= !(asked_flag::ALONE | asked_flag::BARE_DOUBT);
            if is_alone {
                asked.flags |= asked_flag::ALONE;
                asked.beside_transfer = 0;
            } else {
                // Whatever was swallowed then leaves the count of replies behind until a PASV is answered.
                asked.beside_transfer |= in_transfer;
            }
            if matches!(holds, answer::WORDS | answer::ADDRESS) {
                asked.flags |= asked_flag::BARE_DOUBT;
            }
        }
        self.tell_command(session, gate, name);
    }

    /// Whether an outside client's line ends with a bare line feed, which its server perhaps takes for a
    /// part of the line.
    #[inline(always)]
    pub(super) fn is_bare_command(&self, session: &Session) -> bool {
        session.role == role::PUBLISH
            && self.last != b'\r'
            && session.answered.line_ends & line_end::COMMANDS == 0
    }

    #[inline(always)]
    fn end_reply_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        self.heal(session, gate);
        let (code, behind) = line::reply_code(self.head);
        let multiline = session.answered.multiline;
        session.answered.multiline_at = session.asked.commands;
        if multiline != 0 {
            // Some servers end with the code alone (RFC 3659 section 7.2).
            if code != multiline || behind == b'-' || behind.is_ascii_digit() {
                return;
            }
        } else if code != 0 && behind == b'-' {
            session.answered.multiline = code;
            // The rest of such a reply may lack its end.
            if code == AUTH_ACCEPTED && session.asked.auth != session.answered.auth {
                self.end_reply(session, gate, code);
                self.answer_auth(session, gate, code);
            }
            return;
        } else if code == 0 || behind.is_ascii_digit() {
            return;
        }
        if form_of(code) != NOTHING && session.role == role::PUBLISH {
            self.miss_address(session, gate);
        }
        self.end_reply(session, gate, code);
        if code < 200 {
            return;
        }
        if code < 400 && session.asked.commands > 0 && session.asked.flags & asked_flag::CRLF == 0 {
            session.answered.line_ends |= line_end::COMMANDS;
        }
        if PROTECTED.contains(&code) {
            gate.count(Counter::PassedEncrypted);
        }
        self.answer_auth(session, gate, code);
        if multiline == 0 && code < 300 {
            self.settle(session);
        }
    }

    /// A final 227 or 229 in which nothing was announced: why it passes as it is.
    #[inline(always)]
    fn miss_address(&mut self, session: &mut Session, gate: &mut impl Gate) {
        if session.answered.announced != 0 {
            return;
        }
        let reason = if !is_waiting(session) {
            Counter::PassedUnasked
        } else if self.let_go != 0 {
            Counter::PassedUnread
        } else {
            Counter::PassedNoAddress
        };
        gate.tell(session, event::PASSED, reason, &Opening::default());
    }

    /// The code of the reply of several lines that the current line stands in; 0: none.
    #[inline(always)]
    pub(super) fn multiline(&self, session: &Session) -> u16 {
        if self.is_over(session) {
            0
        } else {
            session.answered.multiline
        }
    }

    /// Whether the client took the reply of several lines as ended, although its last line was not
    /// one that ends it: it sent a further command, and everything before this line has reached it.
    #[inline(always)]
    fn is_over(&self, session: &Session) -> bool {
        session.asked.commands != session.answered.multiline_at
            && distance(session.replies.acked, self.line_seq) >= 0
    }

    /// Ends a reply of several lines that the client has taken as ended.
    #[inline(always)]
    pub(super) fn heal(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let multiline = session.answered.multiline;
        if multiline != 0 && self.is_over(session) {
            self.end_reply(session, gate, multiline);
        }
    }

    /// A reply has ended.
    #[inline(never)]
    fn end_reply(&mut self, session: &mut Session, gate: &mut impl Gate, code: u16) {
        session.answered.multiline = 0;
        session.answered.opened_port = Port(0);
        session.answered.announced = 0;
        if session.answered.begin == begin::OPEN {
            // The greeting (RFC 959 section 5.4) answers nothing.
            if code == 120 {
                return;
            }
            session.answered.begin = if matches!(code, 220 | 230) {
                begin::FTP
            } else {
                begin::OTHER
            };
            if code == 220 || session.asked.commands == 0 {
                return;
            }
        }
        session.answered.in_transfer = u8::from(code < 200);
        if code >= 200 {
            answer(session, code);
            self.tell_reply(session, gate, code);
        }
    }

    #[inline(always)]
    fn answer_auth(&mut self, session: &mut Session, gate: &mut impl Gate, code: u16) {
        if session.asked.auth == session.answered.auth {
            return;
        }
        let is_tls = session.asked.flags & asked_flag::AUTH_TLS != 0;
        if code == AUTH_ACCEPTED || (is_tls && matches!(code, 200 | 334)) {
            session.answered.auth = session.asked.auth;
            self.begin_tls(session, gate);
        } else if code >= 400 {
            session.answered.auth = session.asked.auth;
        }
    }

    /// The server begins with TLS, as the client did: the rest of the segment is no text.
    #[inline(always)]
    pub(super) fn greet_tls(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let is_first = self.seq == session.replies.isn.wrapping_add(3);
        let is_hello = session.asked.flags & asked_flag::HELLO != 0;
        if is_first && is_hello && session.answered.begin == begin::OPEN {
            self.begin_tls(session, gate);
            self.head = 0;
            self.line_len = tls::LOST;
        }
    }

    /// From here on both sides speak TLS.
    #[inline(always)]
    pub(super) fn begin_tls(&mut self, session: &mut Session, gate: &mut impl Gate) {
        session.answered.encrypted = session.answered.encrypted.wrapping_add(1);
        self.blind = 1;
        gate.tell(
            session,
            event::ENCRYPTED,
            Counter::SessionEncrypted,
            &Opening::default(),
        );
    }
}

/// The code that has TLS begin (RFC 4217 section 4). Some servers say 200 (VxWorks) or 334 (drafts of
/// that RFC) to AUTH TLS, and clients go on as if it were this one.
const AUTH_ACCEPTED: u16 = 234;
/// The codes of replies that hold another one, protected (RFC 2228 section 5.1).
const PROTECTED: core::ops::RangeInclusive<u16> = 631..=633;

/// A final reply: what it means for the PASV that waits.
#[inline(always)]
fn answer(session: &mut Session, code: u16) {
    let commands = session.asked.commands;
    let mut replies = session.answered.replies.wrapping_add(1);
    // There are servers that answer once too often.
    if distance(replies, commands) > 0 {
        replies = commands;
    }
    if is_waiting(session) {
        let next = due(session);
        let at = *masked::at(&session.asked.passive_at, next as usize);
        if form_of(code) != NOTHING {
            session.answered.passive = next;
            // So many commands were answered, whatever was counted.
            replies = at;
        } else if distance(replies, at) >= 0 {
            // Perhaps its answer: a refusal, or whatever else brings no address. That of an earlier
            // command does not make a pipelined PASV forgotten.
            session.answered.refused = next;
            session.answered.refused_at = commands;
        }
    }
    session.answered.replies = replies;
}
