//! What is told of a conversation: commands that ask for a transfer, a change or a login, and the final
//! replies to them. Of PASS and ACCT only that they came is told, never what stands behind the verb.

use super::command::is_any;
use super::parser::Inspection;
use crate::abi::{LINE_MAX, Session, event, remark};
use crate::counter::Counter;
use crate::gate::Gate;
use crate::wire::seq::distance;

/// How a command is told.
pub mod told {
    /// Not at all.
    pub const NOT: u8 = 0;
    /// Without what stands behind its verb.
    pub const VERB: u8 = 1;
    /// With its line.
    pub const LINE: u8 = 2;
}

/// How the command of this [`name`](super::command::name) is told ([`mod@told`]).
///
/// Not inlined: the verifier then forgets which name it was.
#[inline(never)]
pub fn told_as(name: u32) -> u8 {
    match name {
        _ if is_any!(name, b"ACCT" b"CDUP" b"PASS" b"REIN" b"XCUP") => told::VERB,
        _ if is_any!(name,
            b"APPE" b"CWD" b"DELE" b"LIST" b"MKD" b"MLSD" b"NLST" b"RETR" b"RMD" b"RNFR" b"RNTO"
            b"STOR" b"STOU" b"USER" b"XCWD" b"XMKD" b"XRMD") =>
        {
            told::LINE
        }
        _ => told::NOT,
    }
}

/// Whether a reply of this code may answer something that was asked while a transfer goes on (STAT, NOOP, PWD): it is
/// none of those that end a transfer which has its data connection (RFC 959 section 5.4).
#[inline(always)]
pub const fn may_come_meanwhile(code: u16) -> bool {
    matches!(code, 200 | 202 | 211..=215 | 257 | 450 | 500..=504 | 530)
}

/// Windows of time in which commands are counted have so many milliseconds, as a power of two.
pub const WINDOW: u32 = 6;
/// How many commands of a session are told in a window: four thousand a second, more than a client that
/// fetches the smallest files one by one.
pub const MOST: u32 = 256;

impl Inspection {
    /// A command of this name has ended, number [`crate::abi::Asked::commands`]: tells it, if such
    /// commands are told.
    #[inline(never)]
    pub(super) fn tell_command(&mut self, session: &mut Session, gate: &mut impl Gate, name: u32) {
        let number = session.asked.commands;
        let bit = 1_u64 << (number & 63);
        if session.asked.told & bit != 0 {
            session.asked.told &= !bit;
        }
        let told_as = told_as(name);
        if told_as == told::NOT || !gate.tells_commands() {
            return;
        }
        let window = (gate.now() >> WINDOW) as u32;
        let asked = &mut session.asked;
        if asked.told_window != window {
            asked.told_window = window;
            asked.told_count = 0;
        }
        if asked.told_count >= MOST {
            gate.count(Counter::CommandsUntold);
            return;
        }
        asked.told_count = asked.told_count.wrapping_add(1);
        asked.told |= bit;
        let is_read = self.lacks_start == 0;
        let len = u32::from(self.line_len);
        let len = match told_as {
            told::LINE if is_read => len.min(LINE_MAX as u32),
            _ => 0,
        };
        self.said.what = event::COMMAND;
        let is_cut = told_as == told::LINE && len != u32::from(self.line_len);
        self.said.remark = if is_cut { remark::CUT } else { remark::NONE };
        self.said.code = 0;
        self.said.number = number;
        self.said.name = name;
        gate.tell_said(&mut self.said, len);
    }

    /// A final reply has ended, to command number [`crate::abi::Answered::replies`]: tells it, if that
    /// was told.
    ///
    /// While a transfer goes on, servers answer STAT and NOOP before it: such a reply is counted for the
    /// transfer, and the transfer's own one comes next.
    #[inline(always)]
    pub(super) fn tell_reply(&mut self, session: &mut Session, gate: &mut impl Gate, code: u16) {
        let number = session.answered.replies;
        let is_told = session.asked.told & (1_u64 << (number & 63)) != 0;
        if !(is_told || session.answered.told_next == number) || !gate.tells_commands() {
            return;
        }
        let is_early = may_come_meanwhile(code) && distance(session.asked.commands, number) > 0;
        if is_early {
            session.answered.told_next = number.wrapping_add(1);
        }
        self.said.what = event::REPLY;
        self.said.remark = if is_early {
            remark::EARLY
        } else {
            remark::NONE
        };
        self.said.code = code;
        self.said.number = number;
        self.said.name = 0;
        gate.tell_said(&mut self.said, 0);
    }

    /// Whether the client's line under way is told, as far as is known yet: then its start is kept
    /// between segments.
    #[inline(always)]
    pub fn is_told(&self, gate: &mut impl Gate) -> bool {
        self.is_replies == 0
            && self.line_len > 0
            && told_as(self.name()) == told::LINE
            && gate.tells_commands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::command::named;

    #[test]
    fn what_ends_a_transfer_does_not_come_meanwhile() {
        for (codes, may) in [
            (
                &[
                    226, 250, 421, 425, 426, 451, 452, 550, 551, 552, 553, 110, 150, 230, 331, 350,
                ][..],
                false,
            ),
            (
                &[
                    200, 211, 212, 213, 214, 215, 257, 450, 500, 501, 502, 503, 504, 530,
                ],
                true,
            ),
        ] {
            for code in codes {
                assert_eq!(may_come_meanwhile(*code), may, "{code}");
            }
        }
    }

    #[test]
    fn of_a_password_only_the_verb_is_told() {
        for (verb, how) in [
            (&b"PASS"[..], told::VERB),
            (b"ACCT", told::VERB),
            (b"USER", told::LINE),
            (b"RETR", told::LINE),
            (b"MKD", told::LINE),
            (b"PASV", told::NOT),
            (b"SITE", told::NOT),
            (b"NOOP", told::NOT),
            (b"ADAT", told::NOT),
        ] {
            assert_eq!(told_as(named(verb)), how, "{}", verb.escape_ascii());
        }
        assert_eq!(told_as(0), told::NOT);
    }
}
