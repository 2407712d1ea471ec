//! Fitting a text of another length into its line, so that no sequence number moves.

use super::parser::Inspection;
use crate::edit::text::FRONT;
use crate::ftp::line;
use crate::masked;

/// The longest character of UTF-8, in bytes.
const CHARACTER: u32 = 4;

/// IPFilter's proxy reads a reply only if it begins with `227 Entering Passive Mod`.
const WANTED: u32 = 24;

/// Whether this is not a character's first byte in UTF-8.
#[inline(always)]
const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl Inspection {
    /// Makes room for a longer text by shortening the words in front of it, or fills up a shorter
    /// one with blanks, so that no sequence number moves. Gives where the piece starts now; it
    /// stays where it was if there is no room.
    ///
    /// The character right in front of the announcement (a parenthesis, mostly) stays there: every
    /// client accepts blanks and shorter words before it, but nothing unusual behind it. So does a
    /// blank in front of it, where there is room. Blanks behind a parenthesis move in front of it.
    #[inline(never)]
    pub(super) fn level(&mut self, start: u16, end: u16) -> u16 {
        let keep: u32 = match line::reply_code(self.head) {
            (0, _) => 0,
            (_, b' ' | b'\t' | b'-') => 4,
            _ => 3,
        };
        let new_len = self.text.len();
        if (start as u32) < keep {
            return start;
        }
        let inner = self.blanks_in_bracket(start as u32, keep);
        let start = (start as u32).wrapping_sub(inner);
        let old_len = (end as u32).wrapping_sub(start);
        let len = self.character_before(start, keep);
        let lead = start.wrapping_sub(len);
        if new_len <= old_len {
            let blanks = old_len.wrapping_sub(new_len);
            if blanks.wrapping_add(len) > FRONT {
                return start as u16;
            }
            self.push_lead(start, len);
            self.text.push_blanks(blanks);
            return lead as u16;
        }
        let growth = new_len.wrapping_sub(old_len);
        if growth > lead.saturating_sub(keep) {
            return start as u16;
        }
        let mut cut = lead.wrapping_sub(growth);
        let mut blanks = 0_u32;
        // A blank in front of the parenthesis stays, if a word is left there, but not at the cost of
        // the start that IPFilter wants.
        let is_apart = lead > keep && self.byte(lead.wrapping_sub(1)) == b' ';
        if is_apart && cut > keep && cut != WANTED && self.byte(cut.wrapping_sub(1)) != b' ' {
            cut = cut.wrapping_sub(1);
            blanks = 1;
        }
        // Never half a character: strict UTF-8 readers would refuse the line.
        while blanks < CHARACTER && cut > keep && is_continuation(self.byte(cut)) {
            cut = cut.wrapping_sub(1);
            blanks = blanks.wrapping_add(1);
        }
        self.push_lead(start, len);
        self.text.push_blanks(blanks);
        cut as u16
    }

    /// How many bytes the character in front of `start` has.
    #[inline(never)]
    fn character_before(&self, start: u32, keep: u32) -> u32 {
        let mut len = 0_u32;
        while len < CHARACTER && start.wrapping_sub(len) > keep {
            len = len.wrapping_add(1);
            if !is_continuation(self.byte(start.wrapping_sub(len))) {
                break;
            }
        }
        len
    }

    /// How many blanks there are between a parenthesis and what starts at `start`.
    #[inline(never)]
    fn blanks_in_bracket(&self, start: u32, keep: u32) -> u32 {
        let mut blanks = 0_u32;
        while blanks < 3 && start.wrapping_sub(blanks) > keep {
            match self.byte(start.wrapping_sub(blanks).wrapping_sub(1)) {
                b' ' | b'\t' => blanks = blanks.wrapping_add(1),
                b'(' => return blanks,
                _ => return 0,
            }
        }
        0
    }

    /// Byte `at` of the current line.
    #[inline(always)]
    fn byte(&self, at: u32) -> u8 {
        *masked::at(&self.said.line, at as usize)
    }

    /// Puts the line's `len` bytes before `start` in front of the text.
    #[inline(never)]
    fn push_lead(&mut self, start: u32, len: u32) {
        if len > 0 {
            self.text.push_front(self.byte(start.wrapping_sub(1)));
        }
        if len > 1 {
            self.text.push_front(self.byte(start.wrapping_sub(2)));
        }
        if len > 2 {
            self.text.push_front(self.byte(start.wrapping_sub(3)));
        }
        if len > 3 {
            self.text.push_front(self.byte(start.wrapping_sub(4)));
        }
    }
}
