//! How a client of FTP begins.

use crate::wire::telnet;

/// Whether a client of FTP sends a byte that is no letter in front of its first command: blanks, telnet's
/// commands and their options, UTF-8's byte order mark. `before`: the byte in front of it; 0: none.
#[inline(always)]
pub(super) const fn may_precede_command(byte: u8, before: u8) -> bool {
    let is_option =
        before >= *telnet::OPTION_COMMANDS.start() && before <= *telnet::OPTION_COMMANDS.end();
    let is_mark = byte == 0xef || matches!((before, byte), (0xef, 0xbb) | (0xbb, 0xbf));
    matches!(byte, b' ' | b'\t' | b'\r')
        || byte >= *telnet::COMMANDS.start()
        || is_option
        || is_mark
}
