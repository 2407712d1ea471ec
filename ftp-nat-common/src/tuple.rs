//! Finding `h1,h2,h3,h4,p1,p2` in a line, a byte at a time (RFC 959 section 4.1.2).
//!
//! Servers put anything in front of it: words in any language, digits, a parenthesis, `=`, or
//! nothing; some put blanks behind the commas. The first run of exactly six numbers, all below
//! 256 and with commas between them, is the announcement.

use crate::addr::{Addr, Port};
use bytemuck::{Pod, Zeroable};

/// Between numbers: nothing of a tuple is open.
const IDLE: u8 = 0;
/// In a number's digits.
const NUMBER: u8 = 1;
/// Behind a number, in blanks: a comma may follow.
const AFTER_NUMBER: u8 = 2;
/// Behind a comma: a number must follow.
const AFTER_COMMA: u8 = 3;
/// In numbers that are not six, up to their end.
const SPOILT: u8 = 4;
/// Found.
const FOUND: u8 = 5;

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
    count: u8,
    state: u8,
    pad: [u8; 7],
}

impl SixNumbers {
    /// Takes the byte at place `at` of the line; true once the tuple is whole, which the byte
    /// behind it tells.
    #[inline(always)]
    pub fn feed(&mut self, byte: u8, at: u16) -> bool {
        if byte.is_ascii_digit() {
            self.digit(byte - b'0', at);
            return false;
        }
        match self.state {
            NUMBER if byte == b',' => self.comma(),
            NUMBER if byte == b' ' || byte == b'\t' => self.state = AFTER_NUMBER,
            NUMBER => return self.other(),
            AFTER_NUMBER if byte == b',' => self.comma(),
            AFTER_NUMBER if byte == b' ' || byte == b'\t' => {}
            AFTER_NUMBER => return self.other(),
            AFTER_COMMA if byte == b' ' || byte == b'\t' => {}
            SPOILT if byte == b',' => {}
            FOUND => {}
            _ => self.state = IDLE,
        }
        false
    }

    #[inline(always)]
    fn digit(&mut self, digit: u8, at: u16) {
        match self.state {
            NUMBER => {
                self.digits = self.digits.saturating_add(1);
                self.current = self.current.wrapping_mul(10).wrapping_add(digit as u16);
                if self.digits > 3 || self.current > 255 {
                    self.state = SPOILT;
                }
            }
            AFTER_COMMA => {
                self.digits = 1;
                self.current = digit as u16;
                self.state = NUMBER;
            }
            SPOILT | FOUND => return,
            // A number behind a blank without a comma starts anew.
            _ => {
                self.count = 0;
                self.start = at;
                self.digits = 1;
                self.current = digit as u16;
                self.state = NUMBER;
            }
        }
        self.end = at.wrapping_add(1);
    }

    #[inline(always)]
    fn comma(&mut self) {
        if self.count >= 5 {
            // A seventh number: not an address.
            self.state = SPOILT;
            return;
        }
        self.fields[self.count as usize & 7] = self.current as u8;
        self.count += 1;
        self.state = AFTER_COMMA;
    }

    #[inline(always)]
    fn other(&mut self) -> bool {
        if self.count != 5 {
            self.state = IDLE;
            return false;
        }
        self.fields[5] = self.current as u8;
        self.state = FOUND;
        true
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
        ] {
            assert_eq!(find(line), None, "{line}");
        }
    }
}
