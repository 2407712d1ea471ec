//! Finding `<d><proto><d><addr><d><port><d>` in a line, a byte at a time (RFC 2428).
//!
//! EPRT has all of it, a 229 reply usually `(|||port|)`, and some servers write the long form
//! there too. Any character from 33 to 126 but a digit may be the delimiter.

use crate::masked;
use crate::wire::addr::{Addr, Port};
use bytemuck::{Pod, Zeroable};

/// Nothing is open.
const IDLE: u8 = 0;
/// Behind the first delimiter.
const OPEN: u8 = 1;
/// Behind the protocol's digit: the address' delimiter must follow.
const AFTER_PROTOCOL: u8 = 2;
/// Behind two delimiters: no protocol, so no address either.
const NO_ADDRESS: u8 = 3;
/// In the address.
const ADDRESS: u8 = 4;
/// In the port's digits.
const PORT: u8 = 5;
/// Found.
const FOUND: u8 = 6;

/// No `::` in the address so far.
const NO_GAP: u8 = 0xff;

/// The finder's state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Extended {
    /// The address' parts so far: octets (protocol 1) or groups (protocol 2).
    parts: [u16; 8],
    /// The number under way.
    current: u32,
    /// Where the first delimiter stands in the line.
    pub start: u16,
    /// Behind the last delimiter.
    pub end: u16,
    state: u8,
    /// The delimiter.
    pub delimiter: u8,
    /// 1: IPv4, 2: IPv6, 0: no address is given.
    pub protocol: u8,
    digits: u8,
    count: u8,
    /// How many groups stand before `::`.
    gap: u8,
    /// 1: the byte before was a colon.
    after_colon: u8,
    /// 1: some octet has a zero in front.
    pub octal: u8,
}

impl Extended {
    /// Takes the byte at place `at` of the line; true once the announcement is whole.
    #[inline(never)]
    pub fn feed(&mut self, byte: u8, at: u16) -> bool {
        let is_delimiter = byte == self.delimiter;
        let goes_on = match self.state {
            FOUND => true,
            OPEN => self.open(byte, is_delimiter),
            AFTER_PROTOCOL => {
                self.state = ADDRESS;
                self.count = 0;
                self.gap = NO_GAP;
                self.after_colon = 0;
                self.octal = 0;
                self.next_number();
                is_delimiter
            }
            NO_ADDRESS => {
                self.state = PORT;
                self.next_number();
                is_delimiter
            }
            ADDRESS if is_delimiter => {
                let whole = self.close_address();
                self.state = PORT;
                self.next_number();
                whole
            }
            ADDRESS if self.protocol == 1 => self.feed_v4(byte),
            ADDRESS => self.feed_v6(byte),
            PORT if is_delimiter && self.current > 0 => {
                self.end = at.wrapping_add(1);
                self.state = FOUND;
                return true;
            }
            PORT if byte.is_ascii_digit() => {
                self.digits = self.digits.saturating_add(1);
                self.current = self
                    .current
                    .wrapping_mul(10)
                    .wrapping_add(byte.wrapping_sub(b'0') as u32);
                self.digits <= 5 && self.current <= 0xffff
            }
            _ => false,
        };
        if !goes_on {
            self.restart(byte, at);
        }
        false
    }

    #[inline(always)]
    fn open(&mut self, byte: u8, is_delimiter: bool) -> bool {
        if is_delimiter {
            self.protocol = 0;
            self.state = NO_ADDRESS;
            return true;
        }
        self.protocol = byte.wrapping_sub(b'0');
        self.state = AFTER_PROTOCOL;
        self.protocol == 1 || self.protocol == 2
    }

    /// A byte that does not go on with what is open may itself be a first delimiter.
    #[inline(always)]
    fn restart(&mut self, byte: u8, at: u16) {
        if byte > 32 && byte < 127 && !byte.is_ascii_digit() {
            self.state = OPEN;
            self.delimiter = byte;
            self.start = at;
        } else {
            self.state = IDLE;
        }
    }

    #[inline(always)]
    fn next_number(&mut self) {
        self.current = 0;
        self.digits = 0;
    }

    #[inline(always)]
    fn feed_v4(&mut self, byte: u8) -> bool {
        if byte.is_ascii_digit() {
            if self.digits > 0 && self.current == 0 {
                self.octal = 1;
            }
            self.digits = self.digits.saturating_add(1);
            self.current = self
                .current
                .wrapping_mul(10)
                .wrapping_add(byte.wrapping_sub(b'0') as u32);
            return self.digits <= 3 && self.current <= 255;
        }
        byte == b'.' && self.digits > 0 && self.count < 3 && self.push_part()
    }

    #[inline(always)]
    fn feed_v6(&mut self, byte: u8) -> bool {
        let digit = match byte {
            b'0'..=b'9' => byte.wrapping_sub(b'0'),
            b'a'..=b'f' => byte.wrapping_sub(b'a').wrapping_add(10),
            b'A'..=b'F' => byte.wrapping_sub(b'A').wrapping_add(10),
            b':' => return self.colon(),
            b'.' => return self.dot(),
            _ => return false,
        };
        if self.after_colon != 0 && self.count == 0 && self.gap == NO_GAP {
            // One colon alone in front.
            return false;
        }
        self.after_colon = 0;
        self.digits = self.digits.saturating_add(1);
        self.current = self.current.wrapping_mul(16).wrapping_add(digit as u32);
        self.digits <= 4
    }

    /// `::ffff:a.b.c.d` is an IPv4 address (RFC 4291 section 2.5.5.2): the first octet has been read
    /// as a number of hexadecimal digits.
    #[inline(always)]
    fn dot(&mut self) -> bool {
        let is_mapped = self.gap == 0 && self.count == 1 && self.parts[0] == 0xffff;
        let (hundreds, tens, ones) = (
            self.current >> 8,
            (self.current >> 4) & 15,
            self.current & 15,
        );
        let octet = hundreds
            .wrapping_mul(100)
            .wrapping_add(tens.wrapping_mul(10))
            .wrapping_add(ones);
        let is_octet = (1..=3).contains(&self.digits) && tens < 10 && ones < 10 && octet < 256;
        if !is_mapped || !is_octet {
            return false;
        }
        if self.digits > 1 && (octet < 10 || (self.digits == 3 && octet < 100)) {
            self.octal = 1;
        }
        self.protocol = 1;
        self.count = 0;
        self.current = octet;
        self.push_part()
    }

    #[inline(always)]
    fn colon(&mut self) -> bool {
        if self.after_colon != 0 {
            // The second colon of `::`, of which there may be one.
            let first = self.gap == NO_GAP;
            self.gap = self.count;
            self.after_colon = 0;
            return first;
        }
        self.after_colon = 1;
        if self.digits == 0 {
            // Only the whole address may begin with a colon.
            return self.count == 0 && self.gap == NO_GAP;
        }
        self.count < 8 && self.push_part()
    }

    #[inline(always)]
    fn push_part(&mut self) -> bool {
        *masked::at_mut(&mut self.parts, self.count as usize) = self.current as u16;
        self.count = self.count.wrapping_add(1);
        self.next_number();
        true
    }

    /// The address' end: whether it is one.
    #[inline(always)]
    fn close_address(&mut self) -> bool {
        if self.digits > 0 {
            if self.count >= 8 {
                return false;
            }
            self.push_part();
        } else if self.protocol == 1 || self.after_colon != 0 {
            return false;
        }
        if self.protocol == 1 {
            self.count == 4
        } else if self.gap == NO_GAP {
            self.count == 8
        } else {
            self.count < 8
        }
    }

    /// The announced address; none where the text gives none.
    #[inline(always)]
    pub fn addr(&self) -> Addr {
        if self.protocol == 0 {
            return Addr::default();
        }
        if self.protocol == 1 {
            let parts = &self.parts;
            return Addr::from_octets([
                parts[0] as u8,
                parts[1] as u8,
                parts[2] as u8,
                parts[3] as u8,
            ]);
        }
        let mut addr = Addr::default();
        for (place, word) in addr.0.iter_mut().enumerate() {
            let first = (place as u32).wrapping_mul(2);
            let high = self.group(first).to_be_bytes();
            let low = self.group(first.wrapping_add(1)).to_be_bytes();
            *word = u32::from_ne_bytes([high[0], high[1], low[0], low[1]]);
        }
        addr
    }

    /// Group `place` of eight, with the zeros of `::` filled in.
    #[inline(always)]
    fn group(&self, place: u32) -> u16 {
        let count = self.count as u32;
        if place < self.gap as u32 {
            return *masked::at(&self.parts, place as usize);
        }
        // Behind the gap the groups are aligned to the end.
        let from_end = place.wrapping_add(count).wrapping_sub(8);
        if place.wrapping_add(count) >= 8 && from_end >= self.gap as u32 {
            *masked::at(&self.parts, from_end as usize)
        } else {
            0
        }
    }

    /// The announced port.
    #[inline(always)]
    pub fn port(&self) -> Port {
        Port::new(self.current as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(line: &str) -> Option<(String, u16, &str)> {
        let mut finder = Extended::zeroed();
        for (at, byte) in line.bytes().enumerate() {
            if finder.feed(byte, at as u16) {
                let addr = finder.addr();
                let addr = if addr.is_none() && finder.protocol == 0 {
                    String::new()
                } else {
                    addr.to_string()
                };
                let text = &line[finder.start.into()..finder.end.into()];
                return Some((addr, finder.port().number(), text));
            }
        }
        None
    }

    #[test]
    fn every_form_in_the_field_is_found() {
        for (line, addr, port, text) in [
            (
                "229 Entering Extended Passive Mode (|||6446|)",
                "",
                6446,
                "|||6446|",
            ),
            ("229 EPSV ok (|||65535|)", "", 65535, "|||65535|"),
            ("229 Extended passive mode... (|||1|).", "", 1, "|||1|"),
            ("229 ok |||50000|", "", 50000, "|||50000|"),
            ("229 ok (!!!50000!)", "", 50000, "!!!50000!"),
            ("229 ok (aaa50000a)", "", 50000, "aaa50000a"),
            ("229 port 5 of (((50000()", "", 50000, "(((50000("),
            (
                "229 ok (|1|10.0.0.5|50000|)",
                "10.0.0.5",
                50000,
                "|1|10.0.0.5|50000|",
            ),
            ("229 ok (|2|::1|50000|)", "::1", 50000, "|2|::1|50000|"),
            (
                "EPRT |1|132.235.1.2|6275|",
                "132.235.1.2",
                6275,
                "|1|132.235.1.2|6275|",
            ),
            (
                "EPRT |2|1080::8:800:200C:417A|5282|",
                "1080::8:800:200c:417a",
                5282,
                "|2|1080::8:800:200C:417A|5282|",
            ),
            (
                "EPRT |2|2001:db8:1:2:3:4:5:6|1|",
                "2001:db8:1:2:3:4:5:6",
                1,
                "|2|2001:db8:1:2:3:4:5:6|1|",
            ),
            ("EPRT |2|fe80::|1|", "fe80::", 1, "|2|fe80::|1|"),
            (
                "EPRT |2|::ffff:198.51.100.7|50000|",
                "198.51.100.7",
                50000,
                "|2|::ffff:198.51.100.7|50000|",
            ),
            (
                "EPRT |2|::FFFF:1.2.3.4|5|",
                "1.2.3.4",
                5,
                "|2|::FFFF:1.2.3.4|5|",
            ),
            (
                "EPRT |2|::ffff:102:304|5|",
                "1.2.3.4",
                5,
                "|2|::ffff:102:304|5|",
            ),
            ("EPRT |2|::|1|", "::", 1, "|2|::|1|"),
            (
                "EPRT |2|1:2:3:4:5:6:7::|1|",
                "1:2:3:4:5:6:7:0",
                1,
                "|2|1:2:3:4:5:6:7::|1|",
            ),
            (
                "EPRT |2|::2:3:4:5:6:7:8|1|",
                "0:2:3:4:5:6:7:8",
                1,
                "|2|::2:3:4:5:6:7:8|1|",
            ),
        ] {
            assert_eq!(find(line), Some((addr.to_string(), port, text)), "{line}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_found() {
        for line in [
            "229 Logout.",
            "229 (|||0|)",
            "229 (|||65536|)",
            "229 (|||123456|)",
            "229 (||||5|)",
            "229 (|||5",
            "EPRT |1|10.0.0|5|",
            "EPRT |1|10.0.0.256|5|",
            "EPRT |1|10.0.0.5.6|5|",
            "EPRT |1||5|",
            "EPRT |3|10.0.0.5|5|",
            "EPRT |2|1:2:3|5|",
            "EPRT |2|::ffff:1.2.3|5|",
            "EPRT |2|::ffff:1.2.3.256|5|",
            "EPRT |2|::ffff:a.2.3.4|5|",
            "EPRT |2|::ffff:1234.2.3.4|5|",
            "EPRT |2|::1.2.3.4|5|",
            "EPRT |2|ffff::1.2.3.4|5|",
            "EPRT |2|::ffff:1:1.2.3.4|5|",
            "EPRT |2|1::2::3|5|",
            "EPRT |2|:1::2|5|",
            "EPRT |2|1::2:|5|",
            "EPRT |2|:::|5|",
            "EPRT |2|12345::|5|",
            "EPRT |2|1:2:3:4:5:6:7:8:9|5|",
            "EPRT |2|1:2:3:4:5:6:7:8::|5|",
        ] {
            assert_eq!(find(line), None, "{line}");
        }
    }
}
