//! The finders against plain descriptions of what they find, and against what the gateway writes.

use bytemuck::Zeroable as _;
use ftp_nat_common::edit::text::Text;
use ftp_nat_common::ftp::extended::Extended;
use ftp_nat_common::ftp::host_port::SixNumbers;
use ftp_nat_common::wire::addr::{Addr, Port};

/// An address, a port, and where in the line they stand.
type Found = (Addr, Port, usize, usize);

/// Looks for both forms in `line`.
pub fn run(line: &[u8]) {
    let line = &line[..line.len().min(600)];
    let six = six(line);
    assert_eq!(six, plain_six(line), "{}", line.escape_ascii());
    if let Some((addr, port, start, end)) = six {
        let mut text = Text::zeroed();
        text.clear();
        text.push_six(&addr, port);
        let again = [&line[..start], text.as_bytes(), &line[end..]].concat();
        let end = start + text.as_bytes().len();
        assert_eq!(self::six(&again), Some((addr, port, start, end)));
    }
    if let Some((addr, port, start, end)) = extended(line) {
        let (found, delimiter) = &(plain_extended(&line[start..end]), line[start]);
        assert_eq!(*found, Some((addr, port)), "{}", line.escape_ascii());
        let mut text = Text::zeroed();
        text.clear();
        if addr.is_none() && line[start + 1] == *delimiter {
            text.push_extended_port(*delimiter, port);
        } else {
            text.push_extended(*delimiter, &addr, port);
        }
        // A letter or dot between the parts of an address cannot be written anew.
        if !delimiter.is_ascii_hexdigit() && !b".:".contains(delimiter) {
            let again = extended(text.as_bytes());
            assert_eq!(again.map(|it| (it.0, it.1)), Some((addr, port)));
        }
    }
}

fn six(line: &[u8]) -> Option<Found> {
    let mut finder = SixNumbers::zeroed();
    let mut bytes = line.iter().enumerate();
    bytes.find(|(at, byte)| finder.feed(**byte, *at as u16))?;
    let (start, end) = (finder.start.into(), finder.end.into());
    Some((finder.addr(), finder.port(), start, end))
}

fn extended(line: &[u8]) -> Option<Found> {
    let mut finder = Extended::zeroed();
    let mut bytes = line.iter().enumerate();
    bytes.find(|(at, byte)| finder.feed(**byte, *at as u16))?;
    let (start, end) = (finder.start.into(), finder.end.into());
    Some((finder.addr(), finder.port(), start, end))
}

/// The first run of exactly six numbers below 256 with commas, and perhaps blanks, between them,
/// that something follows.
fn plain_six(line: &[u8]) -> Option<Found> {
    let mut at = 0;
    while at < line.len() {
        if !line[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        let mut fields = Vec::new();
        let mut is_list = true;
        let mut end;
        loop {
            let digits = skip(line, at, |byte| byte.is_ascii_digit());
            fields.push(&line[at..digits]);
            end = digits;
            let blanks = skip(line, digits, is_blank);
            at = blanks;
            if line.get(blanks) != Some(&b',') {
                break;
            }
            at = skip(line, blanks + 1, is_blank);
            if !line.get(at).is_some_and(u8::is_ascii_digit) {
                is_list = false;
                break;
            }
        }
        let octets = fields.iter().map(|digits| octet(digits));
        let octets: Option<Vec<u8>> = octets.collect();
        if let Some([a, b, c, d, high, low]) = octets.as_deref()
            && is_list
            && at < line.len()
        {
            let addr = Addr::from_octets([*a, *b, *c, *d]);
            let port = Port::new(u16::from_be_bytes([*high, *low]));
            return Some((addr, port, start, end));
        }
    }
    None
}

fn octet(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).unwrap();
    (digits.len() <= 3).then(|| text.parse().ok()).flatten()
}

fn skip(line: &[u8], from: usize, is_it: impl Fn(u8) -> bool) -> usize {
    let rest = line[from..].iter();
    from + rest.take_while(|byte| is_it(**byte)).count()
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `|1|10.0.0.5|50000|` as std reads it, or `|||50000|`.
fn plain_extended(text: &[u8]) -> Option<(Addr, Port)> {
    let text = std::str::from_utf8(text).ok()?;
    let delimiter = text.chars().next()?;
    assert!(delimiter.is_ascii_graphic() && !delimiter.is_ascii_digit());
    let inner = text.strip_prefix(delimiter)?.strip_suffix(delimiter)?;
    let (inner, port) = inner.rsplit_once(delimiter)?;
    let port: u16 = (port.len() <= 5).then(|| port.parse().ok()).flatten()?;
    let (protocol, addr) = inner.split_once(delimiter)?;
    let addr = match protocol {
        "" => (addr.is_empty()).then(Addr::default)?,
        "1" => {
            // std takes no leading zeros.
            let octets: Option<Vec<u8>> = addr.split('.').map(|it| octet(it.as_bytes())).collect();
            Addr::from_octets(octets?.try_into().ok()?)
        }
        "2" => Addr::from(std::net::IpAddr::V6(addr.parse().ok()?)),
        _ => return None,
    };
    (port > 0).then(|| (addr, Port::new(port)))
}
