//! Which command a line is, and what its answer may hold.

use super::line;

/// Whether a name is one of these.
macro_rules! is_any {
    ($name:expr, $($text:literal)*) => {
        $($name == const { $crate::ftp::command::named($text) })||*
    };
}
pub(super) use is_any;

/// A command's name as a number: its first four letters in upper case, the first one highest, a
/// zero behind three. 0: longer, shorter, or no name.
#[inline(always)]
pub const fn name(head: u64) -> u32 {
    let (verb, behind) = line::verb(head);
    let third = (verb >> 8) as u8;
    let fourth = verb as u8;
    if !is_name_byte(third) {
        0
    } else if !is_name_byte(fourth) {
        verb & 0xffff_ff00
    } else if is_name_byte(behind) {
        0
    } else {
        verb
    }
}

/// Whether a byte goes on with a name; servers part words at any other.
#[inline(always)]
pub(super) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'@'
}

/// A name of three or four letters as [`name`] gives it.
pub const fn named(text: &[u8]) -> u32 {
    (line::head_of(text) >> 32) as u32
}

/// `P@SW`: some broadband routers make this of PASV, and some servers take it for that.
pub const PASW: u32 = named(b"P@SW");
/// `CPSV`: PASV for a transfer between two servers by TLS.
pub const CPSV: u32 = named(b"CPSV");
/// Reinitialize (RFC 959 section 4.1.1).
pub const REIN: u32 = named(b"REIN");
/// Long passive mode (RFC 1639).
pub const LPSV: u32 = named(b"LPSV");
/// Long port (RFC 1639).
pub const LPRT: u32 = named(b"LPRT");

/// Whether the command of this [`name`] begins a transfer.
#[inline(always)]
pub(super) fn is_transfer(name: u32) -> bool {
    is_any!(name, b"APPE" b"LIST" b"MLSD" b"NLST" b"RETR" b"STOR" b"STOU")
}

/// What a command's answer may hold.
pub mod answer {
    /// Anything: the command is not known.
    pub const UNKNOWN: u8 = 0;
    /// The server's own words, and perhaps the command's argument.
    pub const WORDS: u8 = 1;
    /// Names of files, each in a line of its own, or other texts that somebody else has written.
    pub const NAMES: u8 = 2;
    /// The address of a data connection.
    pub const ADDRESS: u8 = 3;
}

/// What the answer of the command of this [`name`] may hold.
///
/// Not inlined: the verifier then forgets which name it was.
#[inline(never)]
pub fn answer_of(name: u32) -> u8 {
    match name {
        line::PASV | line::EPSV | PASW | CPSV => answer::ADDRESS,
        _ if prints_names(name) => answer::NAMES,
        _ if is_plain(name) => answer::WORDS,
        _ => answer::UNKNOWN,
    }
}

/// Whether the answer of the command of this name is [`answer::NAMES`]: listings, help, and the name of
/// a folder (257), whoever has made it.
#[inline(always)]
fn prints_names(name: u32) -> bool {
    is_any!(name, b"HELP" b"LANG" b"MKD" b"MLST" b"PWD" b"SITE" b"STAT" b"XMKD" b"XPWD")
}

/// Whether the answer of the command of this name is [`answer::WORDS`].
#[inline(always)]
fn is_plain(name: u32) -> bool {
    // RFC 775, RFC 959, RFC 1639, RFC 2228, RFC 2389, RFC 2428, RFC 2640, RFC 3659, RFC 7151, and
    // what clients send beside those.
    is_any!(name,
        b"ABOR" b"ACCT" b"ADAT" b"ALLO" b"APPE" b"AUTH" b"AVBL" b"CCC" b"CDUP" b"CLNT" b"CONF"
        b"CSID" b"CWD" b"DELE" b"ENC" b"EPRT" b"FEAT" b"HOST" b"LIST" b"LPRT" b"LPSV"
        b"MDTM" b"MFCT" b"MFF" b"MFMT" b"MIC" b"MLSD" b"MODE" b"NLST" b"NOOP" b"OPTS"
        b"PASS" b"PBSZ" b"PORT" b"PRET" b"PROT" b"QUIT" b"REIN" b"REST" b"RETR" b"RMD" b"RNFR"
        b"RNTO" b"SIZE" b"SMNT" b"SSCN" b"STOR" b"STOU" b"STRU" b"SYST" b"TYPE" b"USER" b"XCUP" b"XCWD"
        b"XRMD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(line: &[u8]) -> u8 {
        answer_of(name(line::head_of(&line[..line.len().min(8)])))
    }

    #[test]
    fn commands_are_told_by_their_names_alone() {
        for (line, answer) in [
            (&b"PASV"[..], answer::ADDRESS),
            (b"pasv\r", answer::ADDRESS),
            (b"P@SW\r", answer::ADDRESS),
            (b"EPSV 1", answer::ADDRESS),
            (b"PASV\tx", answer::ADDRESS),
            (b"PASVX", answer::UNKNOWN),
            (b"STAT .", answer::NAMES),
            (b"SITE HELP", answer::NAMES),
            (b"CWD x", answer::WORDS),
            (b"PWD\r", answer::NAMES),
            (b"xmkd x", answer::NAMES),
            (b"cwd\r", answer::WORDS),
            (b"USER a", answer::WORDS),
            (b"XYZ", answer::UNKNOWN),
            (b"GET / HTTP/1.1", answer::UNKNOWN),
            (b"PW", answer::UNKNOWN),
            (b"\r", answer::UNKNOWN),
        ] {
            assert_eq!(answer_to(line), answer, "{}", line.escape_ascii());
        }
    }
}
