//! What a policy takes out of a conversation: commands that are refused, and the greeting's words.
//!
//! A refused command is answered by the server itself: its verb becomes one of the same length that
//! no server knows, which brings a 500 and moves no sequence number. A hidden greeting keeps its
//! length too. RFC 959 section 5.4 gives the code that begins it.

use super::command::{self, named};
use super::line;
use super::parser::{EDITS_A_SEGMENT, Inspection, NOTHING};
use crate::abi::{LINE_MAX, Session, begin, event, session_flag};
use crate::counter::Counter;
use crate::edit::edits::REMEMBERED;
use crate::edit::text::TEXT_MAX;
use crate::gate::{Gate, Opening};
use crate::masked;
use crate::wire::seq::distance;

macro_rules! deniable {
    ($($variant:ident $text:literal)*) => {
        /// Commands that a policy may deny: a command's place is its bit in [`Session::deny`].
        #[repr(u8)]
        enum Deniable { $($variant,)* }

        /// Their names.
        pub const DENIABLE: &[&str] = &[$($text,)*];

        /// The bit of the command of this [`command::name`] in [`Session::deny`]; 0: it cannot be
        /// denied.
        ///
        /// Not inlined: the verifier then checks what follows once, not once for each name.
        #[inline(never)]
        pub fn bit(name: u32) -> u64 {
            match name {
                $(_ if name == const { named($text.as_bytes()) } => 1 << Deniable::$variant as u8,)*
                _ => 0,
            }
        }
    };
}

deniable! {
    Abor "ABOR" Acct "ACCT" Adat "ADAT" Allo "ALLO" Appe "APPE" Auth "AUTH" Avbl "AVBL" Ccc "CCC"
    Cdup "CDUP" Clnt "CLNT" Conf "CONF" Csid "CSID" Cwd "CWD" Dele "DELE" Enc "ENC" Eprt "EPRT"
    Epsv "EPSV" Feat "FEAT" Help "HELP" Host "HOST" Lang "LANG" List "LIST" Lprt "LPRT" Lpsv "LPSV"
    Mdtm "MDTM" Mfct "MFCT" Mff "MFF" Mfmt "MFMT" Mic "MIC" Mkd "MKD" Mlsd "MLSD" Mlst "MLST"
    Mode "MODE" Nlst "NLST" Opts "OPTS" Pass "PASS" Pasv "PASV" Pbsz "PBSZ" Port "PORT" Prot "PROT"
    Pwd "PWD" Rein "REIN" Rest "REST" Retr "RETR" Rmd "RMD" Rnfr "RNFR" Rnto "RNTO" Site "SITE"
    Size "SIZE" Smnt "SMNT" Stat "STAT" Stor "STOR" Stou "STOU" Stru "STRU" Syst "SYST" Type "TYPE"
    User "USER" Xcup "XCUP" Xcwd "XCWD" Xmkd "XMKD" Xpwd "XPWD" Xrmd "XRMD"
}

const _: () = assert!(DENIABLE.len() <= u64::BITS as usize);

/// The bit of the command of this name, in any case; None: it cannot be denied.
pub fn bit_of(text: &str) -> Option<u64> {
    let at = DENIABLE
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text))?;
    u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at))
}

/// Commands that change what a server keeps. SITE may hold any (`SITE CHMOD`).
pub const WRITING: &[&str] = &[
    "APPE", "DELE", "MFCT", "MFF", "MFMT", "MKD", "RMD", "RNFR", "RNTO", "SITE", "STOR", "STOU",
    "XMKD", "XRMD",
];
/// Commands that carry a login: not in clear text, where TLS is required.
pub const LOGIN: &[&str] = &["USER", "PASS", "ACCT"];

/// What takes the place of a refused command's name once it was refused: a command whose answer
/// holds a server's own words.
const HARMLESS: u64 = line::head_of(b"NOOP ");

/// What a hidden greeting says (RFC 959 section 5.4), as far as there is room; blanks behind.
const GREETING: [u8; TEXT_MAX] =
    *b"220 Service ready for new user.                                 ";
/// The greeting's code.
const READY: u16 = 220;
/// Where a reply line's code ends: a blank, or a hyphen where lines follow.
const BEHIND_CODE: usize = 3;

impl Inspection {
    /// The verb of a command is known. Refuses the command, if the policy denies it.
    #[inline(never)]
    pub(super) fn judge_verb(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let name = command::name(self.head);
        if session.deny & bit(name) == 0 {
            return;
        }
        if !has_room(session) {
            self.candidate = NOTHING;
            self.todo = 0;
            self.cut(session);
            return;
        }
        let is_login = matches!(name, USER | PASS | ACCT);
        let reason = if is_login && session.flags & session_flag::REQUIRE_TLS != 0 {
            Counter::DeniedClearText
        } else {
            Counter::DeniedCommand
        };
        gate.tell(session, event::DENIED, reason, &Opening::default());
        self.text.clear();
        if self.let_go != 0 {
            // The verb has been sent on: what is behind it becomes a part of it.
            self.text.push(b'X');
            let seq = self.seq.wrapping_sub(1);
            session.commands.edits.push(seq, 1, &self.text);
        } else {
            let len = if name as u8 == 0 { 3 } else { 4 };
            for _ in 0..4 {
                self.text.push(b'X');
            }
            self.text.to = self.text.from.wrapping_add(len);
            session
                .commands
                .edits
                .push(self.line_seq, len as u16, &self.text);
        }
        self.edits = self.edits.wrapping_add(1);
        self.head = HARMLESS;
        self.candidate = NOTHING;
    }

    /// Whether the line under way belongs to a greeting that is to be hidden.
    #[inline(always)]
    pub(super) const fn is_hidden(&self, session: &Session) -> bool {
        self.is_replies != 0
            && session.flags & session_flag::HIDE_GREETING != 0
            && session.answered.begin == begin::OPEN
    }

    /// A line of a hidden greeting ends. The lines that one segment brings become one, of the same
    /// length in all: `220 Service ready..`, or `220-..` while more is to come.
    #[inline(never)]
    pub(super) fn hide_greeting(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let (code, behind) = line::reply_code(self.head);
        let open = session.answered.multiline;
        if (open == 0 && code != READY) || (open != 0 && open != READY) || self.let_go != 0 {
            return;
        }
        let is_last = code == READY && behind != b'-';
        let len = self.len_without_cr();
        let edits = &mut session.replies.edits;
        if self.hidden == 0 {
            if len == 0 {
                return;
            }
            self.text.bytes = GREETING;
            self.text.from = 0;
            self.text.to = 0;
            edits.push_filled(self.line_seq, len, &self.text);
            self.hidden = 1;
            self.edits = self.edits.wrapping_add(1);
            gate.count(Counter::HidGreeting);
        }
        let end = self.line_seq.wrapping_add(u32::from(len));
        let latest = edits.count.wrapping_sub(1);
        let edit = masked::at_mut(&mut edits.latest, latest as usize);
        edit.old_len = end.wrapping_sub(edit.start) as u16;
        edit.new_len = edit.old_len;
        *masked::at_mut(&mut edit.text, BEHIND_CODE) = if is_last { b' ' } else { b'-' };
        // A code alone would end the reply.
        let is_code_alone = !is_last && edit.old_len as usize <= BEHIND_CODE;
        *masked::at_mut(&mut edit.text, 0) = if is_code_alone { b' ' } else { b'2' };
    }

    /// The current line's length without the carriage return at its end.
    #[inline(always)]
    fn len_without_cr(&self) -> u16 {
        let last = self.line_len.wrapping_sub(1);
        // In this order: where the length is compared first, the verifier does not see the mask.
        let ends_so =
            *masked::at(&self.said.line, last as usize) == b'\r' || last as usize >= LINE_MAX;
        let is_cr = self.line_len > 0 && ends_so;
        self.line_len.wrapping_sub(u16::from(is_cr))
    }
}

/// Whether one more edit of the client's stream can be remembered until the server has it: the one
/// that it would make forgotten was acknowledged.
#[inline(always)]
fn has_room(session: &Session) -> bool {
    let commands = &session.commands;
    match commands.edits.recent(const { REMEMBERED as u32 - 1 }) {
        Some(oldest) => {
            let end = oldest.start.wrapping_add(u32::from(oldest.old_len));
            distance(commands.acked, end) >= 0
        }
        None => true,
    }
}

const USER: u32 = named(b"USER");
const PASS: u32 = named(b"PASS");
const ACCT: u32 = named(b"ACCT");
const _: () = assert!((EDITS_A_SEGMENT as usize) < REMEMBERED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_bit_of_its_own() {
        let mut all = 0_u64;
        for text in DENIABLE {
            let of_name = bit(command::name(line::head_of(text.as_bytes())));
            assert_eq!(Some(of_name), bit_of(text), "{text}");
            assert_eq!(bit_of(&text.to_lowercase()), bit_of(text));
            assert_eq!(of_name.count_ones(), 1, "{text}");
            assert_eq!(all & of_name, 0, "{text}");
            all |= of_name;
        }
        for text in WRITING.iter().chain(LOGIN) {
            assert!(bit_of(text).is_some(), "{text}");
        }
        assert_eq!((bit_of("QUIT"), bit_of("STO")), (None, None));
        assert_eq!(bit(0), 0);
    }
}
