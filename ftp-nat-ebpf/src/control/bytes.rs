//! Copies by words: bytes would be copied one by one, over the stack.

use crate::state::scratch::{Control, Piece, WINDOW};
use core::mem::offset_of;
use ftp_nat_common::abi::LINE_MAX;
use ftp_nat_common::edit::edits::Edit;
use ftp_nat_common::edit::text::TEXT_MAX;
use ftp_nat_common::ftp::parser::Inspection;

const _: () = assert!(offset_of!(Inspection, said.line) % 8 == 0);
const _: () = assert!(offset_of!(Control, inspection) % 8 == 0);
const _: () = assert!(offset_of!(Control, kept) % 8 == 0 && offset_of!(Control, window) % 8 == 0);
const _: () = assert!(offset_of!(Edit, text) % 4 == 0);

/// Eight bytes of a window from place `at` on, a multiple of eight.
#[inline(always)]
pub(super) fn word(window: &[u8; WINDOW], at: u32) -> u64 {
    let place = at as usize & (WINDOW - 8);
    // SAFETY: eight bytes from there on are in the window, which is aligned for words.
    unsafe { *window.as_ptr().add(place).cast::<u64>() }
}

/// Copies a line; both lie in maps, aligned for words.
#[inline(always)]
pub(super) fn copy_line(to: &mut [u8; LINE_MAX], from: &[u8; LINE_MAX]) {
    let mut at = 0;
    while at < LINE_MAX {
        // SAFETY: words of both. Volatile, or it becomes one copy of 512 bytes, over the stack.
        unsafe {
            let word = from.as_ptr().add(at).cast::<u64>();
            let there = to.as_mut_ptr().add(at).cast::<u64>();
            there.write_volatile(word.read_volatile());
        }
        at += 8;
    }
}

/// Makes a piece one of zeros, with this text.
#[inline(always)]
pub(super) fn clear(piece: &mut Piece, text: &[u8; TEXT_MAX]) {
    piece.words = [0; TEXT_MAX / 2];
    let mut at = 0;
    while at < TEXT_MAX / 4 {
        // SAFETY: the text of an edit, aligned for words, see above. Volatile keeps the copy a word
        // at a time.
        piece.text[at] = unsafe { text.as_ptr().cast::<u32>().add(at).read_volatile() };
        at += 1;
    }
}

/// Words that hold the longest text, wherever it starts in its first one.
const LONGEST_TEXT: usize = TEXT_MAX / 4 + 1;

/// The sum of a piece's words.
#[inline(always)]
pub(super) fn sum(piece: &Piece) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at < LONGEST_TEXT {
        sum += u64::from(piece.words[at]);
        at += 1;
    }
    sum
}
