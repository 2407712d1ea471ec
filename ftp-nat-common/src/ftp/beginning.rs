//! How a client of FTP begins.

/// Telnet's commands, from "end of subnegotiation" to "interpret as command" (RFC 854).
const TELNET: core::ops::RangeInclusive<u8> = 240..=255;
/// Those that an option follows: WILL, WONT, DO and DONT.
const WITH_OPTION: core::ops::RangeInclusive<u8> = 251..=254;

/// Whether a client of FTP sends a byte that is no letter in front of its first command: blanks, telnet's
/// commands and their options, UTF-8's byte order mark. `before`: the byte in front of it; 0: none.
#[inline(always)]
pub(super) const fn may_precede_command(byte: u8, before: u8) -> bool {
    let is_option = before >= *WITH_OPTION.start() && before <= *WITH_OPTION.end();
    let is_mark = byte == 0xef || matches!((before, byte), (0xef, 0xbb) | (0xbb, 0xbf));
    matches!(byte, b' ' | b'\t' | b'\r') || byte >= *TELNET.start() || is_option || is_mark
}
