//! A reply whose connection is not let in says so: 425 (RFC 959 section 4.2.2) in place of 227 or 229.

use super::parser::Inspection;
use crate::abi::Session;
use crate::counter::Counter;
use crate::edit::text::TEXT_MAX;
use crate::ftp::line;
use crate::gate::Gate;

/// What the client hears, cut to the length of what the server said.
const WORDS: [u8; TEXT_MAX] = *b"425 No data connection: the gateway cannot open the port        ";
/// The code and the blank behind it.
const CODE: u32 = 4;

impl Inspection {
    /// Puts [`WORDS`] in the place of the line up to the announcement's end. Inside a reply of
    /// several lines the code stays, or the client would wait for its end: it finds no address.
    #[inline(never)]
    pub(super) fn refuse_reply(&mut self, session: &mut Session, gate: &mut impl Gate) {
        let (_, end) = self.piece();
        let (_, behind) = line::reply_code(self.head);
        let skip = if behind == b'-' || session.answered.multiline != 0 {
            CODE
        } else {
            0
        };
        let len = u32::from(end)
            .saturating_sub(skip)
            .min((TEXT_MAX as u32).wrapping_sub(skip));
        self.text.bytes = WORDS;
        self.text.from = skip;
        self.text.to = skip.wrapping_add(len);
        let seq = self.line_seq.wrapping_add(skip);
        session.replies.edits.push(seq, len as u16, &self.text);
        self.edits = self.edits.wrapping_add(1);
        gate.count(Counter::Refused227);
    }
}
