//! Lines that end: which command asks for what, and which reply answers it.

use super::parser::{Inspection, NOTHING, form_of, is_waiting};
use crate::abi::{Session, event, role};
use crate::counter::Counter;
use crate::ftp::line;
use crate::gate::{Gate, Opening};
use crate::masked;
use crate::wire::addr::Port;
use crate::wire::seq::distance;

impl Inspection {
    #[inline(never)]
    pub(super) fn end_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        // A verb alone says nothing, however it is read.
        let is_bare = self.line_len == 5 && line::verb(self.head).1 == b'\r';
        if self.candidate != NOTHING && self.is_replies == 0 && !is_bare {
            if session.role == role::PUBLISH {
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
            let number = asked.passive.wrapping_add(1);
            *masked::at_mut(&mut asked.passive_at, number as usize) = asked.commands;
            asked.passive = number;
        } else if verb == line::AUTH {
            asked.auth = asked.auth.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn end_reply_line(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let (code, behind) = line::reply_code(self.head);
        let multiline = session.answered.multiline;
        if multiline != 0 {
            if code != multiline || behind != b' ' {
                return;
            }
        } else if code != 0 && behind == b'-' {
            session.answered.multiline = code;
            return;
        } else if code == 0 || !matches!(behind, b' ' | b'\t' | b'\r' | 0) {
            return;
        }
        // A final line.
        let found = self.let_go != 0 || session.answered.opened_port.0 != 0;
        session.answered.multiline = 0;
        session.answered.opened_port = Port(0);
        if code < 200 {
            return;
        }
        if session.answered.greeted == 0 {
            session.answered.greeted = 1;
            if code == 220 || session.asked.commands == 0 {
                return;
            }
        }
        self.answer(session, gate, code, found);
        self.answer_auth(session, gate, code);
    }

    /// A final reply: what it means for the PASV that waits. `found`: it announced something.
    #[inline(always)]
    fn answer(&mut self, session: &mut Session, gate: &mut impl Gate, code: u16, found: bool) {
        let commands = session.asked.commands;
        let mut replies = session.answered.replies.wrapping_add(1);
        // There are servers that answer once too often.
        if distance(replies, commands) > 0 {
            replies = commands;
        }
        if is_waiting(session) {
            let oldest = session.answered.passive.wrapping_add(1);
            let at = *masked::at(&session.asked.passive_at, oldest as usize);
            let is_due = distance(replies, at) >= 0;
            if form_of(code) != NOTHING {
                if !found {
                    gate.tell(
                        session,
                        event::PASSED,
                        Counter::PassedNoAddress,
                        &Opening::default(),
                    );
                }
                if is_due {
                    session.answered.passive = oldest;
                } else {
                    // Some command was never answered: nothing older than this waits any more.
                    session.answered.passive = session.asked.passive;
                    replies = commands;
                }
            } else if code >= 400 && is_due {
                // A refusal; but that of an earlier command does not make a pipelined PASV
                // forgotten.
                session.answered.passive = oldest;
            }
        }
        session.answered.replies = replies;
    }

    #[inline(always)]
    fn answer_auth(&mut self, session: &mut Session, gate: &mut impl Gate, code: u16) {
        if session.asked.auth == session.answered.auth {
            return;
        }
        if code == 234 {
            session.answered.auth = session.asked.auth;
            session.answered.encrypted = session.answered.encrypted.wrapping_add(1);
            self.blind = 1;
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

    /// TLS without AUTH: the rest of the segment is no text.
    #[inline(always)]
    pub(super) fn greet_tls(&mut self, session: &mut Session, gate: &mut impl Gate) {
        session.asked.hellos = session.asked.hellos.wrapping_add(1);
        gate.tell(
            session,
            event::ENCRYPTED,
            Counter::SessionEncrypted,
            &Opening::default(),
        );
        self.blind = 1;
        self.head = 0;
        self.line_len = 0;
    }
}
