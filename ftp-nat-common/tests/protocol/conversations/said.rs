//! What is told of a conversation: commands, replies, and never a password.

use crate::conversation::Conversation;
use ftp_nat_common::abi::LINE_MAX;
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::said::MOST;
use ftp_nat_common::host::{Segment, Spoken};

/// A client that has logged in, of whose conversation everything is told from then on.
fn told() -> Conversation {
    let mut it = Conversation::publish();
    it.gate.spoken = Some(Vec::new());
    it
}

/// What was told: commands as `line`, replies as their code, each with the number of its command, from 0.
fn spoken(it: &Conversation) -> Vec<(u32, String)> {
    let spoken = it.gate.spoken.clone().unwrap_or_default();
    let first = 3;
    let show = |it: Spoken| match it {
        Spoken::Command(number, line, is_cut) => {
            let cut = if is_cut { ".." } else { "" };
            (number - first, format!("{}{cut}", line.escape_ascii()))
        }
        Spoken::Reply(number, code) => (number - first, code.to_string()),
    };
    spoken.into_iter().map(show).collect()
}

#[track_caller]
fn assert_told(it: &Conversation, wanted: &[(u32, &str)]) {
    let found = spoken(it);
    let found: Vec<_> = found
        .iter()
        .map(|(number, text)| (*number, text.as_str()))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn commands_are_told_by_their_names_with_their_lines() {
    for (said, heard) in [
        ("RETR a\r\n", Some("RETR a\\r")),
        ("retr a\r\n", Some("RETR a\\r")),
        ("RETR a\n", Some("RETR a")),
        ("STOR a b\"c\r\n", Some("STOR a b\\\"c\\r")),
        ("STOU\r\n", Some("STOU\\r")),
        ("APPE \u{e4}\r\n", Some("APPE \\xc3\\xa4\\r")),
        ("MKD x\r\n", Some("MKD x\\r")),
        ("XMKD x\r\n", Some("XMKD x\\r")),
        ("RMD x\r\n", Some("RMD x\\r")),
        ("RNFR x\r\n", Some("RNFR x\\r")),
        ("RNTO x\r\n", Some("RNTO x\\r")),
        ("DELE x\r\n", Some("DELE x\\r")),
        ("LIST -la\r\n", Some("LIST -la\\r")),
        ("NLST\r\n", Some("NLST\\r")),
        ("MLSD /\r\n", Some("MLSD /\\r")),
        ("CWD /\r\n", Some("CWD /\\r")),
        ("CDUP\r\n", Some("CDUP")),
        ("USER bob\r\n", Some("USER bob\\r")),
        ("  RETR a\r\n", Some("RETR a\\r")),
        // Never a password.
        ("PASS secret\r\n", Some("PASS")),
        ("pass secret\r\n", Some("PASS")),
        ("ACCT secret\r\n", Some("ACCT")),
        // Others are none of its business.
        ("PASSWORD secret\r\n", None),
        ("ADAT secret\r\n", None),
        ("SITE PASS secret\r\n", None),
        ("NOOP\r\n", None),
        ("RETRX a\r\n", None),
        ("SIZE a\r\n", None),
        ("PORT 198,51,100,7,195,80\r\n", None),
    ] {
        let mut it = told();
        it.client(said);
        let wanted: Vec<_> = heard.map(|line| (0, line)).into_iter().collect();
        assert_told(&it, &wanted);
        let mut silent = Conversation::publish();
        silent.client(said);
        assert_eq!(silent.gate.spoken, None);
        assert_eq!(
            silent.session.asked.told, 0,
            "nothing is done where it is off"
        );
    }
}

/// Who says something, the client (c) or the server (s), and what.
type Line<'l> = (char, &'l str);
/// The number of a command, and what is told of it.
type Told<'l> = (u32, &'l str);

#[test]
fn replies_are_told_that_answer_what_was_told() {
    let cases: &[(&[Line<'_>], &[Told<'_>])] = &[
        (
            &[
                ('c', "RETR a\r\n"),
                ('s', "150 Here it comes\r\n"),
                ('s', "226 Done\r\n"),
            ],
            &[(0, "RETR a\\r"), (0, "226")],
        ),
        (
            &[('c', "RETR a\r\n"), ('s', "125 Now\r\n226 Done\r\n")],
            &[(0, "RETR a\\r"), (0, "226")],
        ),
        (
            &[('c', "RETR a\r\n"), ('s', "550 No\r\n")],
            &[(0, "RETR a\\r"), (0, "550")],
        ),
        // A reply of several lines ends once, and what stands in it is none.
        (
            &[
                ('c', "STOR a\r\n"),
                ('s', "150-Go\r\n226 on\r\n150 go\r\n226-Do\r\n"),
                ('s', " 550 ne\r\n226 Done\r\n"),
            ],
            &[(0, "STOR a\\r"), (0, "226")],
        ),
        // In pieces.
        (
            &[
                ('c', "DELE a\r\n"),
                ('s', "25"),
                ('s', "0 Do"),
                ('s', "ne\r\n"),
            ],
            &[(0, "DELE a\\r"), (0, "250")],
        ),
        // Several commands at once, told or not, and their replies.
        (
            &[
                ('c', "TYPE I\r\nDELE a\r\nSIZE b\r\nRMD c\r\n"),
                ('s', "200 I\r\n550 No\r\n"),
                ('s', "213 1\r\n250 Done\r\n"),
            ],
            &[(1, "DELE a\\r"), (3, "RMD c\\r"), (1, "550"), (3, "250")],
        ),
        // Broken off: the transfer's end, and ABOR's.
        (
            &[
                ('c', "RETR a\r\n"),
                ('s', "150 Here it comes\r\n"),
                ('c', "ABOR\r\n"),
                ('s', "426 Broken off\r\n226 Done\r\n"),
                ('c', "MKD b\r\n"),
                ('s', "257 \"b\" made\r\n"),
            ],
            &[(0, "RETR a\\r"), (0, "426"), (2, "MKD b\\r"), (2, "257")],
        ),
        // Other commands are answered while the transfer goes on.
        (
            &[
                ('c', "RETR a\r\n"),
                ('s', "150 Here it comes\r\n"),
                ('c', "STAT\r\n"),
                ('s', "213-Status\r\n 213 bytes\r\n213 End\r\n"),
                ('c', "NOOP\r\nSTAT\r\n"),
                ('s', "200 Ok\r\n211 Busy\r\n"),
                ('s', "226 Done\r\n"),
                ('c', "DELE b\r\n"),
                ('s', "250 Done\r\n"),
            ],
            &[
                (0, "RETR a\\r"),
                (0, "213"),
                (1, "200"),
                (2, "211"),
                (3, "226"),
                (4, "DELE b\\r"),
                (4, "250"),
            ],
        ),
        // Broken off meanwhile.
        (
            &[
                ('c', "STOR a\r\n"),
                ('s', "150 Go on\r\n"),
                ('c', "NOOP\r\nABOR\r\n"),
                ('s', "200 Ok\r\n426 Broken off\r\n226 Done\r\n"),
                ('c', "DELE a\r\n"),
                ('s', "250 Done\r\n"),
            ],
            &[
                (0, "STOR a\\r"),
                (0, "200"),
                (1, "426"),
                (3, "DELE a\\r"),
                (3, "250"),
            ],
        ),
        // A login.
        (
            &[
                ('c', "USER bob\r\n"),
                ('s', "331 Who?\r\n"),
                ('c', "PASS secret\r\n"),
                ('s', "530 No\r\n"),
            ],
            &[(0, "USER bob\\r"), (0, "331"), (1, "PASS"), (1, "530")],
        ),
    ];
    for (said, wanted) in cases {
        let mut it = told();
        for (who, text) in *said {
            match who {
                'c' => it.client(text),
                _ => it.server(text),
            };
        }
        assert_told(&it, wanted);
    }
}

#[test]
fn a_line_in_pieces_is_told_whole() {
    let line = "STOR /a folder/and a file.txt\r\n";
    let wanted = "STOR /a folder/and a file.txt\\r";
    for first in 1..line.len() - 1 {
        for second in first..line.len() - 1 {
            let mut it = told();
            // Something else is held in between: its place is another one.
            it.client("TYPE I\r\n");
            it.client(&line[..first]);
            it.client(&line[first..second]);
            it.client(&line[second..]);
            assert_told(&it, &[(1, wanted)]);
        }
    }
    // Of a password nothing is kept.
    let mut it = told();
    for piece in ["PA", "SS se", "cr", "et\r\n"] {
        it.client(piece);
    }
    assert_told(&it, &[(0, "PASS")]);
    let kept = it.lines.iter().flat_map(|lines| lines.halves);
    assert!(
        kept.into_iter()
            .all(|half| !half.windows(2).any(|it| it == b"cr"))
    );
}

#[test]
fn a_retransmission_is_not_told_again() {
    let mut it = told();
    let seq = it.session.commands.seen;
    let segment = |text: &str| Segment {
        seq,
        payload: text.into(),
        ..Segment::default()
    };
    for text in ["RETR a", "RETR a\r\n", "RETR a\r\n", "RETR a\r\nDELE b\r\n"] {
        it.pass(false, &segment(text)).unwrap();
    }
    assert_told(&it, &[(0, "RETR a\\r"), (1, "DELE b\\r")]);
}

#[test]
fn a_long_name_is_cut() {
    let mut it = told();
    let name = "n".repeat(2 * LINE_MAX);
    it.client(format!("RETR {name}\r\n"));
    it.client("RETR ");
    for at in (0..name.len()).step_by(100) {
        it.client(&name[at..(at + 100).min(name.len())]);
    }
    it.client("\r\n");
    let short = format!("RETR {}..", "n".repeat(LINE_MAX - 5));
    assert_told(&it, &[(0, &short), (1, &short)]);
}

#[test]
fn nothing_is_told_of_what_is_encrypted_or_refused() {
    let mut it = told();
    it.ask("AUTH TLS", "234 Go\r\n");
    it.client_bytes(b"\x16\x03\x01\x00\x10RETR secret\r\n12");
    it.server_bytes(b"\x16\x03\x03\x00\x10226 Done\r\n123456");
    assert_told(&it, &[]);
    let mut it = told();
    it.session.deny = ftp_nat_common::ftp::policy::bit_of("DELE").unwrap();
    assert_eq!(it.client("DELE a\r\n"), "XXXX a\r\n");
    it.server("500 What?\r\n");
    assert_told(&it, &[]);
}

#[test]
fn a_flood_of_commands_is_told_up_to_its_bound() {
    let mut it = told();
    let at_once = 20;
    let rounds = MOST as usize / at_once + 5;
    for _ in 0..rounds {
        it.client("DELE a\r\n".repeat(at_once));
    }
    let told = spoken(&it).len();
    assert_eq!(told, MOST as usize);
    assert_eq!(
        it.gate.count_of(Counter::CommandsUntold),
        rounds * at_once - told
    );
    // A moment later there is room again.
    it.now += 100;
    it.client("DELE b\r\n");
    assert_eq!(spoken(&it).len(), told + 1);
}

/// The name of a line is what its first bytes say, also if the byte from which on the line is long is
/// replaced.
#[test]
fn a_long_line_keeps_its_name_whatever_is_replaced_in_it() {
    // 64 bytes in front of the odd one.
    let filled = "a".repeat(59);
    for (verb, odd, is_told, passive) in [
        ("RETR ", "\0", true, 0),
        ("RETRa", "\0", false, 0),
        ("RETRa", "\r", false, 0),
        ("PASVa", "\0", false, 0),
        ("PASV ", "\0", false, 1),
    ] {
        let mut it = told();
        let before = it.session.asked.passive;
        let said = format!("{verb}{filled}{odd}b\r\n");
        let heard = it.client_bytes(said.as_bytes());
        let line = heard.strip_suffix(b"\r\n").unwrap();
        let told: Vec<_> = spoken(&it).into_iter().map(|(_, line)| line).collect();
        let wanted = is_told.then(|| format!("{}\\r", line.escape_ascii()));
        assert_eq!(told, Vec::from_iter(wanted), "{said:?}");
        assert_eq!(it.session.asked.passive - before, passive, "{said:?}");
    }
}
