//! A server's reply: its code, its lines, and the address in it.

use std::net::{IpAddr, SocketAddr};

use bytemuck::Zeroable as _;
use ftp_nat_common::ftp::{extended::Extended, host_port::SixNumbers};

/// So many bytes of a line are kept; the rest of it is read and forgotten.
const LINE_KEPT: usize = 2048;
/// So many lines of a reply are kept, and always the last one.
const LINES_KEPT: usize = 64;
/// A reply that is longer than this never ends.
const REPLY_LIMIT: usize = 256 << 10;

/// What a server said at once (RFC 959, section 4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The code; 0: it does not begin with one, so this is no FTP.
    pub code: u16,
    /// Its lines without their ends, fit to be printed.
    pub lines: Vec<String>,
}

impl Reply {
    /// The line that ends it, which is the only one of most.
    #[must_use]
    pub fn last(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }

    /// All of it in lower case, for looking something up.
    #[must_use]
    pub fn lowercase(&self) -> String {
        self.lines.join("\n").to_lowercase()
    }

    /// Whether the command was done: 2xx.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the server does not know the command, or does not offer it.
    #[must_use]
    pub fn is_not_offered(&self) -> bool {
        matches!(self.code, 500 | 501 | 502 | 504 | 522)
    }

    /// The data connection's address that it announces, by the gateway's own parsers: six numbers
    /// in a 227, `(|||port|)` or its long form in a 229, and each in place of the other, as some
    /// servers do. An address of none is the control connection's own.
    ///
    /// Of a reply of several lines the last one counts, or else one before it.
    #[must_use]
    pub fn announced(&self, dialled: IpAddr) -> Option<SocketAddr> {
        let in_line = |line: &String| match self.code {
            227 => six_numbers(line).or_else(|| extended(line, dialled)),
            229 => extended(line, dialled).or_else(|| six_numbers(line)),
            _ => None,
        };
        self.lines.iter().rev().find_map(in_line)
    }

    /// Six numbers anywhere in it, as servers echo a PORT.
    #[must_use]
    pub fn echoed(&self) -> Option<SocketAddr> {
        six_numbers(self.last())
    }
}

/// What stands behind a line's code, which is a number too.
fn behind_code(line: &str) -> &[u8] {
    let bytes = line.as_bytes();
    match code_of(bytes) {
        (0, _) => bytes,
        _ => &bytes[3..],
    }
}

fn six_numbers(line: &str) -> Option<SocketAddr> {
    let mut finder = SixNumbers::zeroed();
    // The line's end closes the last number.
    let mut bytes = (0..).zip(behind_code(line).iter().chain(b"\r"));
    bytes.find(|(at, byte)| finder.feed(**byte, *at))?;
    Some((finder.addr().to_ip(), finder.port().number()).into())
}

fn extended(line: &str, dialled: IpAddr) -> Option<SocketAddr> {
    let mut finder = Extended::zeroed();
    let mut bytes = (0..).zip(behind_code(line));
    bytes.find(|(at, byte)| finder.feed(**byte, *at))?;
    let address = match finder.protocol {
        0 => dialled,
        _ => finder.addr().to_ip(),
    };
    Some((address, finder.port().number()).into())
}

/// Puts a reply together from its bytes.
#[derive(Debug, Default)]
pub struct Reader {
    reply: Reply,
    line: Vec<u8>,
    bytes: usize,
}

/// What another byte did.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More must come.
    More,
    /// The reply is whole.
    Whole,
    /// It is longer than any reply.
    Endless,
}

impl Reader {
    /// Takes the next byte.
    pub fn feed(&mut self, byte: u8) -> Progress {
        self.bytes += 1;
        if self.bytes > REPLY_LIMIT {
            return Progress::Endless;
        }
        if byte != b'\n' {
            if self.line.len() < LINE_KEPT {
                self.line.push(byte);
            }
            return Progress::More;
        }
        let mut line = std::mem::take(&mut self.line);
        while line.last() == Some(&b'\r') {
            line.pop();
        }
        let is_first = self.reply.lines.is_empty();
        let (code, behind) = code_of(&line);
        let is_last = match self.reply.code {
            _ if is_first => {
                self.reply.code = code;
                behind != Some(b'-') || code == 0
            }
            wanted => code == wanted && behind != Some(b'-'),
        };
        let text = printable(&line);
        if self.reply.lines.len() >= LINES_KEPT {
            self.reply.lines.pop();
        }
        self.reply.lines.push(text);
        if is_last {
            Progress::Whole
        } else {
            Progress::More
        }
    }

    /// What there is so far.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        self.reply
    }

    /// What came without a line's end, for a message.
    #[must_use]
    pub fn unfinished(&self) -> Option<String> {
        let lines = &self.reply.lines;
        if !self.line.is_empty() {
            Some(printable(&self.line))
        } else {
            lines.last().cloned()
        }
    }
}

/// The code at a line's start, and the byte behind it.
fn code_of(line: &[u8]) -> (u16, Option<u8>) {
    match line {
        [a @ b'1'..=b'6', b, c, rest @ ..] if b.is_ascii_digit() && c.is_ascii_digit() => {
            let number = |digit: &u8| u16::from(digit - b'0');
            let behind = rest.first().copied();
            // "1234" is no code.
            if behind.is_some_and(|byte| byte.is_ascii_digit()) {
                return (0, behind);
            }
            (number(a) * 100 + number(b) * 10 + number(c), behind)
        }
        _ => (0, None),
    }
}

/// A text from the network, without what would act on a terminal.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '\t' => text.push(' '),
            // Direction marks reorder what follows them.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push('\u{fffd}');
            }
            _ if character.is_control() => text.extend(character.escape_default()),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Reply> {
        let mut reader = Reader::default();
        for (at, byte) in bytes.iter().enumerate() {
            match reader.feed(*byte) {
                Progress::More => {}
                Progress::Whole => {
                    assert_eq!(at + 1, bytes.len(), "ended early");
                    return Some(reader.into_reply());
                }
                Progress::Endless => panic!("endless"),
            }
        }
        None
    }

    #[test]
    fn replies_end_where_they_end() {
        for (bytes, code, last) in [
            (&b"220 hello\r\n"[..], 220, "220 hello"),
            (b"220 hello\n", 220, "220 hello"),
            (b"220\r\n", 220, "220"),
            (b"220-hello\r\n220 there\r\n", 220, "220 there"),
            (
                b"220-a\r\nfree text\r\n 220 no\r\n221 no\r\n220-b\r\n220 end\r\n",
                220,
                "220 end",
            ),
            (b"220-hello\r\n220\r\n", 220, "220"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", 0, "SSH-2.0-OpenSSH_9.2"),
            (b"999 no\r\n", 0, "999 no"),
            (b"2200 no\r\n", 0, "2200 no"),
            (b"\r\n", 0, ""),
            (
                b"220 \x1b[31mred\x07\xff\r\n",
                220,
                "220 \\u{1b}[31mred\\u{7}\u{fffd}",
            ),
        ] {
            let reply = read(bytes).unwrap_or_else(|| panic!("{bytes:?} has no end"));
            assert_eq!((reply.code, reply.last()), (code, last), "{bytes:?}");
        }
        assert_eq!(read(b"220-hello\r\n"), None);
        assert_eq!(read(b"220 hello"), None);
    }

    #[test]
    fn a_huge_banner_is_read_and_shortened_and_an_endless_one_is_given_up() {
        let line = format!("220-{}\r\n", "x".repeat(2500));
        let mut banner = line.repeat(100);
        banner.push_str("220 end\r\n");
        let reply = read(banner.as_bytes()).unwrap();
        assert_eq!(reply.last(), "220 end");
        assert_eq!(reply.lines.len(), LINES_KEPT);
        assert!(reply.lines.iter().all(|line| line.len() <= LINE_KEPT));

        for piece in [&b"220-and so on\r\n"[..], b"x"] {
            let mut reader = Reader::default();
            let ended = piece.iter().cycle().take(REPLY_LIMIT + 1);
            let last = ended.map(|byte| reader.feed(*byte)).last();
            assert_eq!(last, Some(Progress::Endless));
        }
    }

    #[test]
    fn announcements_are_found_in_every_form() {
        let dialled: IpAddr = "198.51.100.1".parse().unwrap();
        for (line, announced) in [
            (
                "227 Entering Passive Mode (10,0,0,5,195,80).",
                Some("10.0.0.5:50000"),
            ),
            ("227 =10,0,0,5,195,80", Some("10.0.0.5:50000")),
            ("227 0,0,0,0,195,80", Some("0.0.0.0:50000")),
            (
                "229 Entering Extended Passive Mode (|||50000|)",
                Some("198.51.100.1:50000"),
            ),
            ("229 ok (!!!50000!)", Some("198.51.100.1:50000")),
            ("229 ok (|1|10.0.0.5|50000|)", Some("10.0.0.5:50000")),
            (
                "229 ok (|2|2001:db8::5|50000|)",
                Some("[2001:db8::5]:50000"),
            ),
            ("229 (10,0,0,5,195,80)", Some("10.0.0.5:50000")),
            ("227 (|||50000|)", Some("198.51.100.1:50000")),
            (
                "227-Entering\r\n 1,2,3\r\n227 Passive Mode (10,0,0,5,195,80)",
                Some("10.0.0.5:50000"),
            ),
            (
                "227-Passive Mode (10,0,0,5,195,80)\r\n227 that was it",
                Some("10.0.0.5:50000"),
            ),
            ("227 Logout.", None),
            ("227 (10,0,0,256,195,80)", None),
            ("229 (|||0|)", None),
            ("500 (10,0,0,5,195,80)", None),
        ] {
            let reply = read(format!("{line}\r\n").as_bytes()).unwrap();
            let announced = announced.map(|text| text.parse().unwrap());
            assert_eq!(reply.announced(dialled), announced, "{line}");
        }
    }
}
