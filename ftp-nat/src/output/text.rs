//! Ends, sessions and times as tables and JSON write them.

use std::net::IpAddr;

use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// An address; none for none.
pub fn ip(addr: Addr) -> Option<IpAddr> {
    (!addr.is_none()).then(|| addr.to_ip())
}

/// An address, for JSON; none for none.
pub fn address(addr: Addr) -> Option<String> {
    ip(addr).map(|ip| ip.to_string())
}

/// An end's port, for JSON; none where it is not known.
pub fn port(end: &Endpoint) -> Option<u16> {
    let number = end.port.number();
    (number != 0).then_some(number)
}

/// An end, for people.
pub fn end_text(end: &Endpoint) -> String {
    match (end.addr.is_none(), port(end)) {
        (true, _) => "-".into(),
        (false, None) => end.addr.to_string(),
        (false, Some(_)) => end.to_string(),
    }
}

/// A session's number, as the log, the tables and JSON write it.
pub fn session_name(number: u32) -> String {
    format!("{number:08x}")
}

/// A text that a stranger has written, so that it can neither control a terminal nor break a line, and
/// can be told from every other one: UTF-8 as it is, all else and backslashes as Rust escapes them.
pub fn printable(text: &[u8]) -> String {
    let mut out = String::new();
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' | '\t' | '\n' | '\r' => out.extend(char.escape_default()),
                _ if is_unprintable(char) => out.extend(char.escape_unicode()),
                _ => out.push(char),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a character may do something to a terminal or to the order of the text around it: controls,
/// line and paragraph separators, and the marks of Unicode's bidirectional algorithm (UAX 9).
pub fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Seconds to a tenth: more is noise.
pub fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
