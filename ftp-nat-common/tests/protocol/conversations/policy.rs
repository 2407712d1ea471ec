//! Commands that a policy refuses, and greetings whose words are hidden: what is said, what is
//! heard, and why.

use crate::conversation::{Conversation, TIMEOUT, masquerade, publish, silent};
use ftp_nat_common::abi::{Session, event, session_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::policy::{LOGIN, WRITING, bit_of};
use ftp_nat_common::host::{Call, Segment};

fn bits(names: &[&str]) -> u64 {
    names
        .iter()
        .fold(0, |all, name| all | bit_of(name).unwrap())
}

/// A client that has logged in, and whose commands are denied from then on.
fn denying(names: &[&str]) -> Conversation {
    let mut it = Conversation::publish();
    it.session.deny = bits(names);
    it
}

/// Why commands were refused, in order.
fn reasons(it: &Conversation) -> Vec<Counter> {
    let told = |happening: &Call| match happening {
        Call::Event(event::DENIED, reason, _) => Some(*reason),
        _ => None,
    };
    it.gate.calls.iter().filter_map(told).collect()
}

#[test]
fn a_denied_command_is_one_that_no_server_knows() {
    for (said, heard) in [
        ("SITE CHMOD 777 x\r\n", "XXXX CHMOD 777 x\r\n"),
        ("site help\r\n", "XXXX help\r\n"),
        ("SiTe\r\n", "XXXX\r\n"),
        ("SITE\n", "XXXX\n"),
        ("SITE", "XXXX"),
        ("SITE\tHELP\r\n", "XXXX\tHELP\r\n"),
        ("  SITE HELP\r\n", "  XXXX HELP\r\n"),
        ("DELE /a b\r\n", "XXXX /a b\r\n"),
        ("MKD x\r\n", "XXX x\r\n"),
        ("mkd\r\n", "XXX\r\n"),
        ("MKD\n", "XXX\n"),
        (
            "PORT 198,51,100,7,195,80\r\n",
            "XXXX 198,51,100,7,195,80\r\n",
        ),
        ("PASV\r\n", "XXXX\r\n"),
        // Others.
        ("SITES\r\n", "SITES\r\n"),
        ("SIT E\r\n", "SIT E\r\n"),
        ("XMKD x\r\n", "XMKD x\r\n"),
        ("SIZE SITE\r\n", "SIZE SITE\r\n"),
        ("EPSV\r\n", "EPSV\r\n"),
    ] {
        let mut it = denying(&["SITE", "DELE", "MKD", "PORT", "PASV"]);
        // Nothing follows an unfinished line here: it is held.
        let whole = if said.ends_with('\n') {
            said.to_owned()
        } else {
            format!("{said}\r\n")
        };
        let wanted = if said.ends_with('\n') {
            heard.to_owned()
        } else {
            format!("{heard}\r\n")
        };
        assert_eq!(it.client(&whole), wanted);
        let refused = usize::from(said != heard);
        assert_eq!(
            reasons(&it),
            vec![Counter::DeniedCommand; refused],
            "{said}"
        );
        assert_eq!(it.gate.openings(), [], "{said}");
    }
}

#[test]
fn several_commands_of_a_segment_are_judged_one_by_one() {
    let mut it = denying(&["DELE", "RMD"]);
    let said =
        "CWD /\r\nDELE a\r\nRMD b\r\nSIZE c\r\nDELE d\r\nRMD e\r\nDELE f\r\nRMD g\r\nNOOP\r\n";
    assert_eq!(
        it.client(said),
        "CWD /\r\nXXXX a\r\nXXX b\r\nSIZE c\r\nXXXX d\r\nXXX e\r\nXXXX f\r\nXXX g\r\nNOOP\r\n"
    );
    assert_eq!(reasons(&it).len(), 6);
}

#[test]
fn what_was_refused_is_refused_when_it_is_sent_again() {
    let mut it = denying(&["DELE"]);
    let seq = it.session.commands.seen;
    let segment = |at: u32, text: &str| Segment {
        seq: seq.wrapping_add(at),
        payload: text.into(),
        ..Segment::default()
    };
    let heard = |it: &mut Conversation, segment: &Segment| {
        let sent = it.pass(false, segment);
        sent.map(|sent| String::from_utf8(sent.payload).unwrap())
    };
    // The server has acknowledged nothing: no more are let out than are remembered.
    let mut sent = 0;
    for at in 0..9 {
        match heard(&mut it, &segment(at * 8, "DELE a\r\n")).as_deref() {
            Some("XXXX a\r\n") => sent += 1,
            None => (),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, 4);
    for at in 0..4 {
        let again = heard(&mut it, &segment(at * 8, "DELE a\r\n"));
        assert_eq!(again.as_deref(), Some("XXXX a\r\n"), "{at}");
    }
    // From the middle of a verb on, and with what was held back.
    assert_eq!(
        heard(&mut it, &segment(2, "LE a\r\n")).as_deref(),
        Some("XX a\r\n")
    );
    let seen = it.session.commands.seen;
    it.session.commands.acked = seen;
    assert_eq!(
        heard(&mut it, &segment(4 * 8, "DELE a\r\n")).as_deref(),
        Some("XXXX a\r\n")
    );
}

#[test]
fn a_verb_in_pieces_is_held_until_it_is_known() {
    for cut in 1..5 {
        let mut it = denying(&["DELE"]);
        let (first, rest) = "DELE a\r\n".split_at(cut);
        let seq = it.session.commands.seen;
        let segment = |at: usize, text: &str| Segment {
            seq: seq.wrapping_add(at as u32),
            payload: text.into(),
            ..Segment::default()
        };
        assert_eq!(it.pass(false, &segment(0, first)), None, "{first}");
        let sent = it.pass(false, &segment(cut, rest)).unwrap();
        assert_eq!(String::from_utf8(sent.payload).unwrap(), "XXXX a\r\n");
    }
}

#[test]
fn no_byte_makes_a_server_read_another_verb_than_the_gateway() {
    for (said, heard) in [
        // Telnet's commands in front of the verb and within it.
        (
            &b"\xff\xf4\xff\xf2DELE a\r\n"[..],
            &b"\xff\xf4\xff\xf2XXXX a\r\n"[..],
        ),
        (b"DE\xff\xf1LE a\r\n", b"DEX\xf1LE a\r\n"),
        (b"\0DELE a\r\n", b"XDELE a\r\n"),
        (b"NOOP\0DELE a\r\n", b"NOOPXDELE a\r\n"),
        (b"NOOP\rDELE a\r\n", b"NOOP\rXELE a\r\n"),
        (b"\xffUMKD\rxa\r\n", b"\xff\xf1XXX\rXa\r\n"),
    ] {
        for masqueraded in [false, true] {
            let mut it = if masqueraded {
                Conversation::masquerade()
            } else {
                Conversation::publish()
            };
            it.session.deny = bits(&["DELE", "MKD"]);
            let passed = it.client_bytes(said);
            assert_eq!(
                passed.escape_ascii().to_string(),
                heard.escape_ascii().to_string()
            );
        }
    }
}

/// What was sent on of it cannot be changed any more: what comes next is.
#[test]
fn a_verb_that_was_held_for_too_long_is_unknown_all_the_same() {
    for (rest, heard) in [
        ("MKD a\r\n", "MKDXa\r\n"),
        ("MKD\r\n", "MKDX\n"),
        ("MKD\ta\r\n", "MKDXa\r\n"),
        ("DELE a\r\n", "DELEXa\r\n"),
        ("DELE\r\n", "DELEX\n"),
        ("MKDX a\r\n", "MKDX a\r\n"),
        ("PWD\r\n", "PWD\r\n"),
    ] {
        for held in 1..=3 {
            let mut it = denying(&["DELE", "MKD"]);
            let first = it.session.commands.seen;
            let segment = |at: usize, text: &str| Segment {
                seq: first.wrapping_add(at as u32),
                payload: text.into(),
                ..Segment::default()
            };
            let verb = &rest[..held];
            assert_eq!(it.pass(false, &segment(0, verb)), None);
            it.now += TIMEOUT + 1;
            assert_eq!(
                it.pass(false, &segment(0, verb)),
                Some(segment(0, verb)),
                "{verb}"
            );
            let sent = it.pass(false, &segment(held, &rest[held..])).unwrap();
            let heard = &heard[held..];
            assert_eq!(String::from_utf8(sent.payload).unwrap(), heard, "{verb}");
        }
    }
}

/// Bytes that are replaced are noted once: such a line is not held until its verb is known.
#[test]
fn a_verb_of_replaced_bytes_is_not_held() {
    for (said, heard) in [
        (&b"\0\xff\xffDELE a\r\n"[..], &b"XXXDELE a\r\n"[..]),
        (b"D\0L\0 a\r\n", b"DXLX a\r\n"),
        // XMKD is denied as well, and its first byte has been sent on by then.
        (b"\0MKD a\r\n", b"XMKDXa\r\n"),
    ] {
        for masqueraded in [false, true] {
            let mut it = if masqueraded {
                Conversation::masquerade()
            } else {
                Conversation::publish()
            };
            it.session.deny = bits(&["DELE", "XMKD"]);
            let wanted = heard.escape_ascii().to_string();
            assert_eq!(it.client_bytes(said).escape_ascii().to_string(), wanted);
            // Byte by byte, and all of it again.
            let first = it.session.commands.seen;
            let segment = |at: u32, bytes: &[u8]| Segment {
                seq: first.wrapping_add(at),
                payload: bytes.into(),
                ..Segment::default()
            };
            let mut passed = Vec::new();
            for (at, byte) in (0..).zip(said) {
                let sent = it.pass(false, &segment(at, &[*byte]));
                passed.extend(sent.into_iter().flat_map(|sent| sent.payload));
            }
            let again = it.pass(false, &segment(0, said)).unwrap();
            assert_eq!(again.payload, passed);
            assert_eq!(passed.escape_ascii().to_string(), wanted);
        }
    }
}

#[test]
fn a_read_only_server_is_not_written_to() {
    for (said, is_refused) in [
        ("STOR a", true),
        ("STOU", true),
        ("APPE a", true),
        ("DELE a", true),
        ("RNFR a", true),
        ("RNTO a", true),
        ("MKD a", true),
        ("XMKD a", true),
        ("RMD a", true),
        ("XRMD a", true),
        ("MFMT 20200101000000 a", true),
        ("MFCT 20200101000000 a", true),
        ("MFF x=y; a", true),
        ("SITE CHMOD 777 a", true),
        ("RETR a", false),
        ("LIST", false),
        ("MDTM a", false),
        ("CWD a", false),
    ] {
        let mut it = denying(WRITING);
        let said = format!("{said}\r\n");
        assert_eq!(it.client(&said) != said, is_refused, "{said}");
    }
}

/// A session that has said nothing yet, in which TLS is required.
fn requiring_tls(session: Session) -> Conversation {
    let mut session = silent(session);
    session.deny = bits(LOGIN);
    session.flags |= session_flag::REQUIRE_TLS;
    let mut it = Conversation::new(session);
    it.server("220 hi\r\n");
    it
}

#[test]
fn nobody_logs_in_in_clear_text_where_tls_is_required() {
    for session in [publish([100, 5000]), masquerade([100, 5000])] {
        let mut it = requiring_tls(session);
        assert_eq!(it.client("USER a\r\n"), "XXXX a\r\n");
        it.server("500 no\r\n");
        assert_eq!(it.client("PASS b\r\n"), "XXXX b\r\n");
        it.server("500 no\r\n");
        assert_eq!(reasons(&it), [Counter::DeniedClearText; 2]);
        assert_eq!(it.client("AUTH TLS\r\n"), "AUTH TLS\r\n");
        // Not before the server has agreed.
        assert_eq!(it.client("USER a\r\n"), "XXXX a\r\n");
        it.server("500 no\r\n234 go on\r\n");
    }
    let mut it = requiring_tls(publish([100, 5000]));
    it.ask("AUTH TLS", "234 go on\r\n");
    let hello = b"\x16\x03\x01\x00\x05USER ";
    assert_eq!(it.client_bytes(hello), hello);
    assert_eq!(reasons(&it), []);
}

/// What a client hears of a greeting that comes in these segments.
fn greeted(segments: &[&str]) -> Vec<String> {
    let mut session = silent(publish([100, 5000]));
    session.flags |= session_flag::HIDE_GREETING;
    let mut it = Conversation::new(session);
    let heard = segments.iter().map(|text| it.server(text)).collect();
    // What comes behind it is not touched.
    assert_eq!(
        it.ask("SYST", "215 UNIX Type: L8\r\n"),
        "215 UNIX Type: L8\r\n"
    );
    assert_eq!(
        it.ask("STAT", "220 not a greeting 1.2\r\n"),
        "220 not a greeting 1.2\r\n"
    );
    heard
}

#[test]
fn a_hidden_greeting_keeps_its_length_and_its_code() {
    let words = "220 Service ready for new user.";
    for (said, heard) in [
        (
            "220 (vsFTPd 3.0.3)\r\n",
            "220 Service ready \r\n".to_owned(),
        ),
        ("220 x\r\n", "220 S\r\n".to_owned()),
        ("220\r\n", "220\r\n".to_owned()),
        ("220 \r\n", "220 \r\n".to_owned()),
        (
            "220 ProFTPD 1.3.8 Server (Debian) [::ffff:10.0.0.5]\n",
            format!("{words}{}\n", " ".repeat(20)),
        ),
        (
            &format!("220 Foo FTP Server {}\r\n", "9".repeat(600)),
            format!("{words}{}\r\n", " ".repeat(619 - words.len())),
        ),
        // Several lines become one.
        (
            "220-FileZilla Server 1.7.0\r\n Please visit us\r\n220-and\r\n220 end\r\n",
            format!(
                "{words}{}\r\n",
                " ".repeat(26 + 2 + 16 + 2 + 7 + 2 + 7 - words.len())
            ),
        ),
        // Another reply than a greeting.
        ("421 Too many\r\n", "421 Too many\r\n".to_owned()),
    ] {
        if said.starts_with("421") || said.ends_with("220\r\n") {
            let mut session = silent(publish([100, 5000]));
            session.flags |= session_flag::HIDE_GREETING;
            assert_eq!(Conversation::new(session).server(said), heard);
            continue;
        }
        assert_eq!(greeted(&[said]), [heard.as_str()]);
        assert_eq!(heard.len(), said.len());
    }
    assert_eq!(
        greeted(&[
            "220-Pure-FTPd 1.0\r\n",
            " hello\r\n you\r\n",
            "1.0\r\n",
            "220 end\r\n"
        ]),
        [
            "220-Service ready\r\n",
            "220-Service \r\n",
            " 20\r\n",
            "220 Ser\r\n"
        ]
    );
    assert_eq!(
        greeted(&["120 Ready in 5 minutes\r\n", "220 FooFTP 7\r\n"]),
        ["120 Ready in 5 minutes\r\n", "220 Service \r\n"]
    );
}

#[test]
fn a_greeting_in_pieces_is_held_until_its_line_is_whole() {
    let whole = "220 (vsFTPd 3.0.3)\r\n";
    for cut in 1..whole.len() {
        let mut session = silent(publish([100, 5000]));
        session.flags |= session_flag::HIDE_GREETING;
        let mut it = Conversation::new(session);
        let segment = |at: usize, text: &str| Segment {
            seq: 5001 + at as u32,
            payload: text.into(),
            ..Segment::default()
        };
        assert_eq!(it.pass(true, &segment(0, &whole[..cut])), None);
        let sent = it.pass(true, &segment(cut, &whole[cut..])).unwrap();
        assert_eq!(
            String::from_utf8(sent.payload).unwrap(),
            "220 Service ready \r\n"
        );
        // And again, whole or in part.
        let again = it.pass(true, &segment(0, whole)).unwrap();
        assert_eq!(
            String::from_utf8(again.payload).unwrap(),
            "220 Service ready \r\n"
        );
        let again = it.pass(true, &segment(cut, &whole[cut..])).unwrap();
        assert_eq!(again.payload, "220 Service ready \r\n".as_bytes()[cut..]);
    }
}
