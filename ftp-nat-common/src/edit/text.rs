//! Writing announcements: `10,0,0,5,195,80` and `|2|2001:db8::1|50000|`.

use crate::masked;
use crate::wire::addr::{Addr, Port};
use bytemuck::{Pod, Zeroable};

/// Room of a [`Text`], a power of two.
pub const TEXT_MAX: usize = 64;
/// Room in front of the text for [`Text::push_front`]: the longest announcement, with an IPv6
/// address of 39 characters, takes the other 49 bytes.
pub const FRONT: u32 = 15;

/// A short text that can grow at both ends.
///
/// It lives in map memory and its writers are not inlined: the verifier then forgets how many
/// digits a number had, instead of following every combination of lengths.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Text {
    /// The text's bytes are `bytes[from..to]`.
    pub bytes: [u8; TEXT_MAX],
    /// Start.
    pub from: u32,
    /// End.
    pub to: u32,
    /// Groups of an IPv6 address that are zero, a bit each; then where those begin that `::` stands
    /// for, and in the second byte where they end. Kept here for the same reason.
    zeros: u32,
    /// Zero.
    pad: u32,
}

impl Text {
    /// Makes it empty, with blanks in front.
    #[inline(always)]
    pub fn clear(&mut self) {
        let mut at = 0_usize;
        while at < FRONT as usize {
            *masked::at_mut(&mut self.bytes, at) = b' ';
            at = at.wrapping_add(1);
        }
        self.from = FRONT;
        self.to = FRONT;
    }

    /// Its length in bytes.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.to.wrapping_sub(self.from)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One byte more at the end.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        *masked::at_mut(&mut self.bytes, self.to as usize) = byte;
        self.to = self.to.wrapping_add(1);
    }

    /// One byte more in front: at most [`FRONT`] of them, blanks included.
    #[inline(always)]
    pub fn push_front(&mut self, byte: u8) {
        self.from = self.from.wrapping_sub(1);
        *masked::at_mut(&mut self.bytes, self.from as usize) = byte;
    }

    /// So many blanks more in front.
    #[inline(always)]
    pub fn push_blanks(&mut self, blanks: u32) {
        self.from = self.from.wrapping_sub(blanks);
    }

    /// A digit, 0 to 9.
    #[inline(always)]
    fn push_digit(&mut self, digit: u16) {
        self.push(b'0'.wrapping_add(digit as u8));
    }

    /// A number in decimal digits.
    #[inline(never)]
    pub fn push_decimal(&mut self, number: u16) {
        if number >= 10_000 {
            self.push_digit(number / 10_000);
        }
        if number >= 1_000 {
            self.push_digit(number / 1_000 % 10);
        }
        if number >= 100 {
            self.push_digit(number / 100 % 10);
        }
        if number >= 10 {
            self.push_digit(number / 10 % 10);
        }
        self.push_digit(number % 10);
    }

    /// A number in lower-case hexadecimal digits.
    #[inline(never)]
    pub fn push_hex(&mut self, number: u16) {
        if number >= 0x1000 {
            self.push(hex_digit(number >> 12));
        }
        if number >= 0x100 {
            self.push(hex_digit(number >> 8));
        }
        if number >= 0x10 {
            self.push(hex_digit(number >> 4));
        }
        self.push(hex_digit(number));
    }

    /// Four octets and the separators between them.
    #[inline(always)]
    fn push_octets(&mut self, octets: [u8; 4], separator: u8) {
        self.push_decimal(octets[0] as u16);
        self.push(separator);
        self.push_decimal(octets[1] as u16);
        self.push(separator);
        self.push_decimal(octets[2] as u16);
        self.push(separator);
        self.push_decimal(octets[3] as u16);
    }

    /// `h1,h2,h3,h4,p1,p2` (RFC 959 section 4.1.2, HOST-PORT). No field is ever padded with
    /// zeros: clients hand octets to inet_aton, which reads those as octal.
    #[inline(always)]
    pub fn push_six(&mut self, addr: &Addr, port: Port) {
        self.push_octets(addr.v4().to_ne_bytes(), b',');
        self.push(b',');
        self.push_decimal(port.number() >> 8);
        self.push(b',');
        self.push_decimal(port.number() & 0xff);
    }

    /// `|||port|` (RFC 2428 section 3) with any delimiter.
    #[inline(always)]
    pub fn push_extended_port(&mut self, delimiter: u8, port: Port) {
        self.push(delimiter);
        self.push(delimiter);
        self.push(delimiter);
        self.push_decimal(port.number());
        self.push(delimiter);
    }

    /// Group `place` of an IPv6 address, with what stands in front of it (RFC 5952, as inet_ntop
    /// writes it: there are servers that compare the text with that of the client's address).
    #[inline(never)]
    fn push_group(&mut self, addr: &Addr, place: u32) {
        let (start, end) = (self.zeros & 0xff, self.zeros >> 8);
        if place >= start && place < end {
            if place == start {
                self.push(b':');
            }
            if place == 7 {
                self.push(b':');
            }
            return;
        }
        if place > 0 {
            self.push(b':');
        }
        self.push_hex(group(addr, place));
    }

    /// `|1|10.0.0.5|port|` or `|2|2001:db8::1|port|` (RFC 2428 section 2) with any delimiter.
    #[inline(always)]
    pub fn push_extended(&mut self, delimiter: u8, addr: &Addr, port: Port) {
        self.push(delimiter);
        self.push(if addr.is_v4() { b'1' } else { b'2' });
        self.push(delimiter);
        if addr.is_v4() {
            self.push_octets(addr.v4().to_ne_bytes(), b'.');
        } else {
            self.find_zeros(addr);
            self.shorten_zeros();
            let mut place = 0_u32;
            while place < 8 {
                self.push_group(addr, place);
                place = place.wrapping_add(1);
            }
        }
        self.push(delimiter);
        self.push_decimal(port.number());
        self.push(delimiter);
    }

    /// The bytes, for user space.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(self.from as usize..self.to as usize)
            .unwrap_or_default()
    }
}

/// Group `place` of an IPv6 address.
#[inline(always)]
const fn group(addr: &Addr, place: u32) -> u16 {
    let octets = masked::at(&addr.0, (place >> 1) as usize).to_ne_bytes();
    if place & 1 == 0 {
        u16::from_be_bytes([octets[0], octets[1]])
    } else {
        u16::from_be_bytes([octets[2], octets[3]])
    }
}

impl Text {
    /// Which groups of the address are zero.
    #[inline(always)]
    fn find_zeros(&mut self, addr: &Addr) {
        let mut zeros = 0_u32;
        let mut place = 0_u32;
        while place < 8 {
            // 1 for zero and 0 for all else, without a branch.
            zeros |= (u32::from(group(addr, place)).wrapping_sub(1) >> 31) << place;
            place = place.wrapping_add(1);
        }
        self.zeros = zeros;
    }

    /// The first of the longest runs of two or more groups of zeros; 0 where there is none.
    #[inline(never)]
    fn shorten_zeros(&mut self) {
        let zeros = self.zeros;
        // Bit n: a run of `len` groups begins at n.
        let mut starts = zeros;
        let mut len = 1_u32;
        while len < 8 && starts & (zeros >> len) != 0 {
            starts &= zeros >> len;
            len = len.wrapping_add(1);
        }
        self.zeros = if len == 1 {
            0
        } else {
            // The number of the lowest bit that is set, without a branch.
            let lowest = starts & starts.wrapping_neg();
            let start = lowest.wrapping_sub(1).count_ones();
            start | start.wrapping_add(len) << 8
        };
    }
}

/// The digit of the lowest four bits. From a table: a branch for each digit would double the ways that
/// the verifier follows through what comes after.
#[inline(always)]
const fn hex_digit(number: u16) -> u8 {
    *masked::at(b"0123456789abcdef", number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Text)) -> String {
        let mut text = Text::zeroed();
        text.clear();
        write(&mut text);
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn numbers_have_no_leading_zeros() {
        for number in 0..=u16::MAX {
            assert_eq!(
                written(|text| text.push_decimal(number)),
                number.to_string()
            );
            assert_eq!(written(|text| text.push_hex(number)), format!("{number:x}"));
        }
    }

    #[test]
    fn announcements_read_as_the_rfcs_want_them() {
        let v4 = Addr::from_octets([203, 0, 113, 10]);
        let v6 = Addr::from("2001:db8::1".parse::<core::net::IpAddr>().unwrap());
        let port = Port::new(50_188);
        assert_eq!(
            written(|text| text.push_six(&v4, port)),
            "203,0,113,10,196,12"
        );
        assert_eq!(
            written(|text| text.push_extended_port(b'|', port)),
            "|||50188|"
        );
        assert_eq!(
            written(|text| text.push_extended(b'!', &v4, port)),
            "!1!203.0.113.10!50188!"
        );
        assert_eq!(
            written(|text| text.push_extended(b'|', &v6, port)),
            "|2|2001:db8::1|50188|"
        );
    }

    #[test]
    fn an_ipv6_address_is_written_as_others_write_it() {
        for ip in [
            "::",
            "::1",
            "1::",
            "1::1",
            "2001:db8::",
            "2001:db8::5",
            "2001:db8:0:1::",
            "fe80::1:0:0:1",
            "1:0:0:2::3",
            "1:0:2:0:3:0:4:0",
            "0:1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:0",
            "1:2:3:4:5:6::",
            "::3:4:5:6:7:8",
            "1::4:5:0:0:8",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let addr = Addr::from(ip.parse::<core::net::IpAddr>().unwrap());
            let text = written(|text| text.push_extended(b'|', &addr, Port::new(1)));
            assert_eq!(text, format!("|2|{}|1|", addr.to_ip()));
            assert_eq!(addr.to_ip().to_string(), ip);
        }
    }

    #[test]
    fn the_longest_announcement_fits_with_all_its_front() {
        let longest = Addr([u32::MAX; 4]);
        let text = written(|text| text.push_extended(b'|', &longest, Port::new(65_535)));
        assert_eq!(text, "|2|ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff|65535|");
        assert_eq!(text.len() + FRONT as usize, TEXT_MAX);
    }

    #[test]
    fn text_grows_in_front() {
        let text = written(|text| {
            text.push_decimal(7);
            text.push_front(b'(');
            text.push_blanks(14);
        });
        assert_eq!(text, "              (7");
    }
}
