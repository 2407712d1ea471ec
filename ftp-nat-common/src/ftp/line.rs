//! What the first bytes of a line say (RFC 959 sections 4.2 and 5.3).
//!
//! A line's head is its first eight bytes in upper case, the first one highest, zeros behind a
//! shorter line: so verbs and codes are compared as numbers.

/// Adds the byte at place `at` to a head.
#[inline(always)]
pub const fn add_to_head(head: u64, byte: u8, at: u16) -> u64 {
    if at >= 8 {
        return head;
    }
    head | ((byte.to_ascii_uppercase() as u64) << 56_u32.wrapping_sub((at as u32).wrapping_mul(8)))
}

/// Eight bytes as a head, the first one lowest in `word`.
#[inline(always)]
pub const fn head_of_word(word: u64) -> u64 {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let low = word & !HIGH;
    // Each sum's highest bit says of its byte whether it is `a` or above, and whether it is above `z`.
    let from_a = low.wrapping_add(u64::from_ne_bytes([0x80 - b'a'; 8]));
    let above_z = low.wrapping_add(u64::from_ne_bytes([0x7f - b'z'; 8]));
    let is_lower = from_a & !above_z & !word & HIGH;
    word.wrapping_sub(is_lower >> 2).swap_bytes()
}

/// A text of up to eight bytes as a head.
pub const fn head_of(text: &[u8]) -> u64 {
    let mut head = 0;
    let mut rest = text;
    let mut at = 0_u16;
    while let [byte, behind @ ..] = rest {
        head = add_to_head(head, *byte, at);
        at = at.saturating_add(1);
        rest = behind;
    }
    head
}

/// Whether the head starts with the first `len` bytes of `text`.
#[inline(always)]
pub const fn starts_like(head: u64, text: u64, len: u16) -> bool {
    if len == 0 {
        return true;
    }
    let shift = if len >= 8 {
        0
    } else {
        64_u32.wrapping_sub((len as u32).wrapping_mul(8))
    };
    (head ^ text) >> shift == 0
}

/// A command's verb of four letters, and the byte behind it (0 at the line's end).
#[inline(always)]
pub const fn verb(head: u64) -> (u32, u8) {
    ((head >> 32) as u32, (head >> 24) as u8)
}

/// A reply's code and the byte behind it (0 at the line's end); code 0 where there is none. RFC 959
/// has a blank or a hyphen behind it; there are servers that write a colon or the words themselves.
#[inline(always)]
pub const fn reply_code(head: u64) -> (u16, u8) {
    let [first, second, third, behind, ..] = head.to_be_bytes();
    if !(first >= b'1' && first <= b'6' && second.is_ascii_digit() && third.is_ascii_digit()) {
        return (0, 0);
    }
    (number([first, second, third]), behind)
}

/// The number that three digits are.
#[inline(always)]
const fn number(digits: [u8; 3]) -> u16 {
    let [hundreds, tens, ones] = digits;
    let number = (hundreds.wrapping_sub(b'0') as u16).wrapping_mul(10);
    let number = number.wrapping_add(tens.wrapping_sub(b'0') as u16);
    let number = number.wrapping_mul(10);
    number.wrapping_add(ones.wrapping_sub(b'0') as u16)
}

/// A verb as [`verb`] gives it.
pub const fn verb_of(text: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*text)
}

/// `PASV` (RFC 959).
pub const PASV: u32 = verb_of(b"PASV");
/// `EPSV` (RFC 2428).
pub const EPSV: u32 = verb_of(b"EPSV");
/// `PORT` (RFC 959).
pub const PORT: u32 = verb_of(b"PORT");
/// `EPRT` (RFC 2428).
pub const EPRT: u32 = verb_of(b"EPRT");
/// `AUTH` (RFC 2228, RFC 4217).
pub const AUTH: u32 = verb_of(b"AUTH");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_read_in_any_case_and_with_what_follows() {
        assert_eq!(verb(head_of(b"PASV")), (PASV, 0));
        assert_eq!(verb(head_of(b"pasv\r")), (PASV, b'\r'));
        assert_eq!(verb(head_of(b"ePsV ALL")), (EPSV, b' '));
        assert_eq!(verb(head_of(b"CCC\r")), (verb_of(b"CCC\r"), 0));
    }

    #[test]
    fn a_word_is_the_head_that_its_bytes_make() {
        for byte in 0..=u8::MAX {
            let bytes = [
                byte,
                b'z',
                byte ^ 0x80,
                b'A',
                b'{',
                byte,
                0,
                byte.wrapping_add(1),
            ];
            assert_eq!(head_of_word(u64::from_le_bytes(bytes)), head_of(&bytes));
        }
    }

    #[test]
    fn codes_are_three_digits_at_the_lines_start() {
        assert_eq!(reply_code(head_of(b"227 Ente")), (227, b' '));
        assert_eq!(reply_code(head_of(b"227-Ente")), (227, b'-'));
        assert_eq!(reply_code(head_of(b"226")), (226, 0));
        assert_eq!(reply_code(head_of(b" 227 (")), (0, 0));
        assert_eq!(reply_code(head_of(b"22")), (0, 0));
        assert_eq!(reply_code(head_of(b"ABC ")), (0, 0));
    }

    #[test]
    fn a_start_is_compared_as_far_as_it_goes() {
        let port = head_of(b"PORT ");
        assert!(starts_like(head_of(b"PO"), port, 2));
        assert!(!starts_like(head_of(b"PA"), port, 2));
        assert!(starts_like(head_of(b""), port, 0));
    }
}
