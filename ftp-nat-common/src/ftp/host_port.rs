//! Finding `h1,h2,h3,h4,p1,p2` in a line, a byte at a time (RFC 959 section 4.1.2).
//!
//! Servers put anything in front of it: words in any language, digits, a parenthesis, `=`, or
//! nothing; some put blanks behind the commas. The first run of exactly six numbers, all below
//! 256 and with commas between them, is the announcement.

use crate::masked;
use crate::wire::addr::{Addr, Port};
use bytemuck::{Pod, Zeroable};

/// Between numbers: nothing of a tuple is open.
const IDLE: u8 = 0;
/// In a number's digits.
const NUMBER: u8 = 1;
/// Behind a number, in blanks: a comma may follow.
const AFTER_NUMBER: u8 = 2;
/// Behind a comma: a number must follow.
const AFTER_COMMA: u8 = 3;
/// Found.
const FOUND: u8 = 4;

/// The finder's state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SixNumbers {
    /// The numbers so far.
    fields: [u8; 8],
    /// The number under way.
    current: u16,
    /// Where the first number starts in the line.
    pub start: u16,
    /// Where the last number ends, exclusive.
    pub end: u16,
    digits: u8,
    /// Commas so far.
    count: u8,
    state: u8,
    /// 1: some number of this run is above 255, or there are more than six.
    spoilt: u8,
    pad: [u8; 6],
}

impl SixNumbers {
    /// Takes the byte at place `at` of the line; true once the tuple is whole, which the byte
    /// behind it tells.
    // Not inlined, here and in the other readers: the verifier then forgets which way a byte took.
    #[inline(never)]
    pub fn feed(&mut self, byte: u8, at: u16) -> bool {
        let is_digit = byte.is_ascii_digit();
        let is_blank = byte == b' ' || byte == b'\t';
        match self.state {
            FOUND => {}
            NUMBER if is_digit => self.digit(byte, at),
            AFTER_COMMA if is_digit => self.number(byte, at),
            NUMBER | AFTER_NUMBER if byte == b',' => self.comma(),
            NUMBER | AFTER_NUMBER if is_blank => self.state = AFTER_NUMBER,
            AFTER_COMMA if is_blank => {}
            state => {
                // The run of numbers ends here.
                let whole = state == NUMBER || state == AFTER_NUMBER;
                if whole && self.count == 5 && self.spoilt == 0 {
                    self.fields[5] = self.current as u8;
                    self.state = FOUND;
                    return true;
                }
                self.state = IDLE;
                if is_digit {
                    self.count = 0;
                    self.spoilt = 0;
                    self.start = at;
                    self.number(byte, at);
                }
            }
        }
        false
    }

    /// Whether it waits for a digit: no other byte means anything to it now.
    #[inline(always)]
    pub const fn is_idle(&self) -> bool {
        self.state == IDLE
    }

    /// A number's first digit.
    #[inline(always)]
    fn number(&mut self, byte: u8, at: u16) {
        self.state = NUMBER;
        self.digits = 0;
        self.current = 0;
        self.digit(byte, at);
    }

    #[inline(always)]
    fn digit(&mut self, byte: u8, at: u16) {
        self.digits = self.digits.saturating_add(1);
        self.current = self
            .current
            .wrapping_mul(10)
            .wrapping_add(byte.wrapping_sub(b'0') as u16);
        if self.digits > 3 || self.current > 255 {
            self.spoilt = 1;
        }
        self.end = at.wrapping_add(1);
    }

    #[inline(always)]
    fn comma(&mut self) {
        self.state = AFTER_COMMA;
        if self.count >= 5 {
            // A seventh number: not an address.
            self.spoilt = 1;
            return;
        }
        *masked::at_mut(&mut self.fields, self.count as usize) = self.current as u8;
        self.count = self.count.wrapping_add(1);
    }

    /// The announced address.
    #[inline(always)]
    pub fn addr(&self) -> Addr {
        Addr::from_octets([
            self.fields[0],
            self.fields[1],
            self.fields[2],
            self.fields[3],
        ])
    }

    /// The announced port.
    #[inline(always)]
    pub fn port(&self) -> Port {
        Port(u16::from_ne_bytes([self.fields[4], self.fields[5]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(line: &str) -> Option<(String, u16, usize, usize)> {
        let mut finder = SixNumbers::zeroed();
        for (at, byte) in line.bytes().chain(*b"\r\n").enumerate() {
            if finder.feed(byte, at as u16) {
                return Some((
                    finder.addr().to_string(),
                    finder.port().number(),
                    finder.start.into(),
                    finder.end.into(),
                ));
            }
        }
        None
    }

    #[test]
    fn every_form_in_the_field_is_found() {
        for line in [
            "227 Entering Passive Mode (10,0,0,5,195,80).",
            "227 Entering Passive Mode (10,0,0,5,195,80)",
            "227 Entering passive mode (10,0,0,5,195,80).",
            "227 PASV ok (10,0,0,5,195,80)",
            "227 =10,0,0,5,195,80",
            "227 10,0,0,5,195,80",
            "227 Entering Passive Mode 10,0,0,5,195,80",
            "227 Data transfer will passively listen to 10,0,0,5,195,80",
            "227 Mode (10, 0, 0, 5, 195, 80)",
            "227 Mode ( 10 ,0 ,0 ,5 ,195 ,80 )",
            "227 Mode 2 of 3, v1.2 (10,0,0,5,195,80)",
            "227 1,2,3 then (10,0,0,5,195,80)",
            "227 256,1,1,1,1,1 (10,0,0,5,195,80)",
            "227 Passiver Modus f\u{fc}r Sie (10,0,0,5,195,80)",
            "227 (010,000,000,005,195,080)",
            "227 Passive on 10,0,0,5,195,80 2 minutes",
            "227 1,2,3,4,5,6,7 (10,0,0,5,195,80)",
            "227 1234 10,0,0,5,195,80",
        ] {
            let found = find(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.0.as_str(), found.1), ("10.0.0.5", 50_000), "{line}");
            let text = &line[found.2..found.3];
            assert!(
                text.starts_with(['1', '0']) && text.ends_with('0'),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_not_found() {
        for line in [
            "227 Logout.",
            "227 (10,0,0,5,195)",
            "227 (10,0,0,5,195,80,1)",
            "227 (10,0,0,256,195,80)",
            "227 (10,0,0,5,195,1000)",
            "227 (10,0,0,5,,195,80)",
            "227 (10 0 0 5 195 80)",
            "227 123456",
            "227 (10.0.0.5,195,80)",
            "227 (256, 1, 2, 3, 4, 5, 6)",
            "227 (1000 , 1, 2, 3, 4, 5, 6)",
            "227 (1, 2, 3, 4, 5, 6, 256)",
            "227 (10,0,0,5,195,80,)",
        ] {
            assert_eq!(find(line), None, "{line}");
        }
    }
}
