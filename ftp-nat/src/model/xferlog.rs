//! xferlog, the log format of wu-ftpd that vsftpd, ProFTPD and Pure-FTPd write too (xferlog(5)): one line
//! a file.

use jiff::Timestamp;

use super::transfer::{Action, Outcome, Transfer};

/// The line of a file's transfer; none for what the format has no line for: listings, changes, refused
/// transfers, and transfers whose file is not known. `client` is the address of the FTP client.
///
/// Fields are parted by blanks, so blanks in names become underscores, as with wu-ftpd and ProFTPD; so
/// does every byte that is not printable ASCII or UTF-8. Times are in UTC, as vsftpd's are.
pub fn line(transfer: &Transfer, client: &str, time: Timestamp) -> Option<String> {
    let direction = match transfer.action {
        Action::Retrieved => 'o',
        Action::Stored => 'i',
        _ => return None,
    };
    let path = transfer.full_path()?;
    let outcome = Outcome::of(transfer.code);
    if outcome == Outcome::Failed && transfer.bytes.unwrap_or(0) == 0 {
        return None;
    }
    let status = if outcome == Outcome::Completed {
        'c'
    } else {
        'i'
    };
    let user = transfer.user.as_deref();
    let is_anonymous = user.is_some_and(|user| matches!(user, b"anonymous" | b"ftp"));
    Some(format!(
        "{} {} {client} {} {} b _ {direction} {} {} ftp 0 * {status}\n",
        time.strftime("%a %b %e %H:%M:%S %Y"),
        // Whole seconds, at least one, as others write.
        (transfer.seconds.round() as u64).max(1),
        transfer.bytes.unwrap_or(0),
        field(&path),
        if is_anonymous { 'a' } else { 'r' },
        user.map_or_else(|| "?".to_owned(), field),
    ))
}

/// A name as a field.
fn field(name: &[u8]) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    String::from_utf8_lossy(name)
        .chars()
        .map(|char| {
            let is_plain = !char.is_whitespace() && !crate::output::text::is_unprintable(char);
            if is_plain && char != char::REPLACEMENT_CHARACTER {
                char
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::transfer::Name;
    use super::*;
    use ftp_nat_common::wire::addr::Addr;

    fn transfer(action: Action, path: &[u8], code: u16) -> Transfer {
        let name = |name: &[u8]| Some(Name::from(name));
        Transfer {
            action,
            command: None,
            user: name(b"alice"),
            path: name(path),
            is_cut: false,
            from: None,
            directory: name(b"/pub"),
            bytes: Some(1234),
            seconds: 2.4,
            is_encrypted: false,
            code: Some(code),
            client: Addr::default(),
            server: None,
        }
    }

    #[test]
    fn a_file_is_a_line_of_eighteen_fields() {
        let time = Timestamp::from_second(1_767_225_600).unwrap();
        let of = |transfer: &Transfer| line(transfer, "192.0.2.9", time);
        let mut transfer_of = transfer(Action::Retrieved, b"a b\n\xff\x1bc", 226);
        assert_eq!(
            of(&transfer_of).unwrap(),
            "Thu Jan  1 00:00:00 2026 2 192.0.2.9 1234 /pub/a_b___c b _ o r alice ftp 0 * c\n"
        );
        transfer_of.user = Some(b"anonymous".as_slice().into());
        transfer_of.code = Some(426);
        transfer_of.action = Action::Stored;
        assert_eq!(
            of(&transfer_of).unwrap(),
            "Thu Jan  1 00:00:00 2026 2 192.0.2.9 1234 /pub/a_b___c b _ i a anonymous ftp 0 * i\n"
        );
        transfer_of.bytes = None;
        assert_eq!(of(&transfer_of), None, "refused");
        assert_eq!(of(&transfer(Action::Listed, b"x", 226)), None);
        assert_eq!(of(&transfer(Action::Deleted, b"x", 250)), None);
        let fields = of(&transfer(Action::Stored, "\u{202e} ä".as_bytes(), 226)).unwrap();
        assert_eq!(fields.split_whitespace().count(), 18, "{fields}");
        assert!(fields.contains(" /pub/__ä "), "{fields}");
    }
}
