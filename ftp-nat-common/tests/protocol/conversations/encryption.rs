//! FTP over TLS: what is encrypted is left alone, and what is no more is read again.

use crate::conversation::{Conversation, escaped, publish, silent};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::tls::is_encrypted;
use ftp_nat_common::host::Segment;

const REPLY: &str = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
const HELLO: &[u8] = b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03";
/// A record that holds line ends and, in clear, a line that would be rewritten.
const RECORD: &[u8] =
    b"\x17\x03\x03\x00\x37\r\nPORT 192,0,2,1,0,25\r\n227 Entering (10,0,0,5,195,80)\r\n";

fn encrypted(it: &Conversation) -> [bool; 2] {
    [false, true].map(|is_replies| is_encrypted(&it.session, is_replies))
}

/// Says bytes in both directions and sees that nothing happens to them.
fn exchange_records(it: &mut Conversation) {
    let alert = &b"\x15\x03\x03\x00\x02\x01\x00"[..];
    for bytes in [HELLO, RECORD, &RECORD[..9], &RECORD[9..], alert] {
        assert_eq!(it.client(bytes), escaped(bytes));
        assert_eq!(it.server(bytes), escaped(bytes));
    }
    assert_eq!(it.gate.openings(), []);
    assert_eq!(encrypted(it), [true, true]);
}

#[test]
fn auth_and_234_encrypt_the_session() {
    for command in ["AUTH TLS", "auth ssl", "AUTH TLS-C"] {
        let mut it = Conversation::publish();
        it.client(format!("{command}\r\n"));
        assert_eq!(encrypted(&it), [false, false]);
        it.server("234 Go ahead\r\n");
        assert_eq!(encrypted(&it), [true, true], "{command}");
        assert_eq!(it.gate.count_of(Counter::SessionEncrypted), 1);
        exchange_records(&mut it);
    }
}

#[test]
fn a_refused_auth_leaves_it_clear() {
    let mut it = Conversation::publish();
    it.ask("AUTH TLS", "502 No\r\n");
    it.ask("NOOP", "234 What?\r\n");
    assert_eq!(encrypted(&it), [false, false]);
    it.ask("PASV", REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn a_234_that_nobody_asked_for_means_nothing() {
    let mut it = Conversation::publish();
    it.server("234 Go ahead\r\n");
    it.ask("NOOP", "234 Go ahead\r\n");
    assert_eq!(encrypted(&it), [false, false]);
}

#[test]
fn a_handshake_at_the_streams_start_is_implicit_tls() {
    let mut it = Conversation::new(silent(publish([7, 9])));
    assert_eq!(it.client(HELLO), escaped(HELLO));
    // A client alone may say anything.
    assert_eq!(encrypted(&it), [false, false]);
    assert_eq!(it.server(HELLO), escaped(HELLO));
    assert_eq!(encrypted(&it), [true, true]);
    exchange_records(&mut it);
}

#[test]
fn a_handshake_is_seen_however_it_is_cut() {
    for cut in 1..HELLO.len() {
        let mut it = Conversation::new(silent(publish([7, 9])));
        it.client(&HELLO[..cut]);
        it.client(&HELLO[cut..]);
        it.server(&HELLO[..cut]);
        it.server(&HELLO[cut..]);
        assert_eq!(encrypted(&it), [true, true], "{cut}");
    }
}

/// TLS begins behind AUTH and its 234, or with the first bytes of both sides: a server that speaks
/// plain text reads the rest as commands.
#[test]
fn a_handshake_elsewhere_is_none() {
    let port = "PORT 192,0,2,1,0,25\r\n";
    let refused = "XXXX 192,0,2,1,0,25\r\n";
    for (said, heard) in [
        (
            format!("\u{16}\u{3}\r\n{port}"),
            format!("\u{16}\u{3}\r\n{refused}"),
        ),
        (
            format!("NOOP\r\n\u{16}\u{3}\r\n{port}"),
            format!("NOOP\r\n\u{16}\u{3}\r\n{refused}"),
        ),
        (
            format!("AUTH TLS\r\n\u{16}\u{3}\r\n{port}"),
            format!("AUTH TLS\r\n\u{16}\u{3}\r\n{refused}"),
        ),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.client(&said), heard);
        let mut it = Conversation::new(silent(publish([7, 9])));
        assert_eq!(it.client(&said), heard);
        it.server("220 Hi\r\n500 What?\r\n500 What?\r\n");
        assert_eq!(encrypted(&it), [false, false]);
        assert_eq!(it.client(port), refused);
    }
    // Nor a server's that nobody asked for.
    let mut it = Conversation::new(silent(publish([7, 9])));
    it.server(HELLO);
    assert_eq!(encrypted(&it), [false, false]);
}

/// Clear command channel: the closing alert and the first clear text may come in one segment.
#[test]
fn clear_text_may_stand_behind_a_record() {
    let alert = b"\x15\x03\x03\x00\x02\x01\x00";
    for records in [alert.to_vec(), [RECORD, &alert[..]].concat()] {
        let mut it = Conversation::publish();
        it.ask("AUTH TLS", "234 Go ahead\r\n");
        exchange_records(&mut it);
        let command = [&records[..], b"PASV\r\n"].concat();
        assert_eq!(it.client(&command), escaped(&command));
        let said = [&records[..], REPLY.as_bytes()].concat();
        let heard = [
            &records[..],
            b"227 Entering Passive  (203,0,113,10,195,80).\r\n",
        ]
        .concat();
        assert_eq!(it.server(&said), escaped(&heard));
        assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
        assert_eq!(encrypted(&it), [false, false]);
    }
}

/// However segments cut the records, and whatever type the closing alert shows (TLS 1.3 has it look like
/// data): the first byte behind them is read.
#[test]
fn clear_text_is_found_behind_records_that_are_cut_anywhere() {
    let alert = b"\x17\x03\x03\x00\x13nineteen bytes\r\n227";
    let records = [HELLO, RECORD, alert].concat();
    let said = [&records[..], REPLY.as_bytes()].concat();
    let heard = "227 Entering Passive  (203,0,113,10,195,80).\r\n";
    let heard = [&records[..], heard.as_bytes()].concat();
    for cut in 1..said.len() {
        let mut it = Conversation::publish();
        it.ask("AUTH TLS", "234 Go ahead\r\n");
        it.client(&records);
        // A command's line may be cut, too.
        it.client("PAS");
        it.client("V\r\n");
        let mut out = std::collections::BTreeMap::new();
        let first = it.session.replies.seen;
        for (at, payload) in [(0, &said[..cut]), (cut, &said[cut..])] {
            let segment = Segment {
                seq: first.wrapping_add(at as u32),
                payload: payload.into(),
                fin: false,
                ..Segment::default()
            };
            if let Some(sent) = it.pass(true, &segment) {
                let bytes = sent.payload.into_iter().enumerate();
                out.extend(bytes.map(|(at, byte)| (sent.seq.wrapping_add(at as u32), byte)));
            }
        }
        let out: Vec<u8> = out.into_values().collect();
        assert_eq!(escaped(&out), escaped(&heard), "{cut}");
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{cut}");
        assert_eq!(encrypted(&it), [false, false], "{cut}");
    }
    // A record that was missed: only a whole line tells.
    let mut it = Conversation::publish();
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    let first = it.session.commands.seen;
    for (at, payload, is_encrypted) in [
        (9, &RECORD[9..], true),
        (RECORD.len(), b"PAS", true),
        (RECORD.len() + 3, b"PASV\r\n", false),
    ] {
        let segment = Segment {
            seq: first.wrapping_add(at as u32),
            payload: payload.into(),
            ..Segment::default()
        };
        assert_eq!(it.pass(false, &segment), Some(segment));
        assert_eq!(encrypted(&it), [is_encrypted, true]);
    }
}

/// VxWorks answers AUTH TLS by 200, servers after older drafts by 334, and some end a 234 of several
/// lines oddly: clients go on with TLS, and nothing of that may be changed.
#[test]
fn tls_begins_behind_the_answers_that_clients_take() {
    for (command, said, begins) in [
        (
            "AUTH TLS",
            "200 AUTH command ok; starting SSL connection...\r\n",
            true,
        ),
        ("auth ssl", "334 Go ahead\r\n", true),
        ("AUTH TLS-P", "234-Go\r\n Expecting TLS\r\n", true),
        ("AUTH TLS", "234-Go\r\n234 Expecting TLS\r\n", true),
        ("AUTH SSL", "234: Go\r\n", true),
        ("AUTH GSSAPI", "334 Go ahead\r\n", false),
        ("AUTH GSSAPI", "200 Go ahead\r\n", false),
        ("AUTH TLS", "431 No certificate\r\n", false),
        ("AUTH TLS", "534-No\r\n234 No\r\n534 No\r\n", false),
    ] {
        let mut it = Conversation::publish();
        it.ask(command, said);
        assert_eq!(encrypted(&it), [begins; 2], "{said}");
        if begins {
            exchange_records(&mut it);
        }
    }
}

#[test]
fn clear_text_is_read_again_after_ccc() {
    let mut it = Conversation::publish();
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    exchange_records(&mut it);
    // CCC itself and its answer are encrypted still.
    assert_eq!(it.client("PWD\r\n"), "PWD\r\n");
    assert_eq!(encrypted(&it), [false, true]);
    assert_eq!(it.gate.count_of(Counter::SessionCleared), 1);
    it.server("257 \"/\"\r\n");
    assert_eq!(encrypted(&it), [false, false]);
    it.ask("PASV", REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    // And once more.
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    assert_eq!(encrypted(&it), [true, true]);
}

#[test]
fn the_first_clear_command_and_reply_may_be_the_ones_that_matter() {
    let mut it = Conversation::publish();
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    exchange_records(&mut it);
    it.client("PASV\r\n");
    let heard = it.server(REPLY);
    assert_eq!(heard, "227 Entering Passive  (203,0,113,10,195,80).\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);

    let mut it = Conversation::masquerade();
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    exchange_records(&mut it);
    let heard = it.client("PORT 192,168,1,7,195,80\r\n");
    assert_eq!(heard, "PORT 203,0,113,10,195,80\r\n");
}

/// A repeated segment from before the handshake is plain text, but says nothing about now.
#[test]
fn a_repetition_from_before_is_no_return_to_clear_text() {
    let mut it = Conversation::publish();
    let seq = [it.session.commands.seen, it.session.replies.seen];
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    it.client(HELLO);
    for (is_replies, text) in [(false, "AUTH TLS\r\n"), (true, "234 Go ahead\r\n")] {
        let again = Segment {
            seq: seq[usize::from(is_replies)],
            payload: text.into(),
            fin: false,
            ..Segment::default()
        };
        assert_eq!(it.pass(is_replies, &again), Some(again));
    }
    assert_eq!(encrypted(&it), [true, true]);
}

/// What was rewritten before the handshake is repeated in its new form, and numbers stay moved.
#[test]
fn edits_outlive_the_handshake() {
    let mut it = Conversation::masquerade();
    let seq = it.session.commands.seen;
    it.client("PORT 192,168,1,7,195,80\r\n");
    it.server("200 ok\r\n");
    it.ask("AUTH TLS", "234 Go ahead\r\n");
    it.client(HELLO);
    let again = Segment {
        seq,
        payload: b"PORT 192,168,1,7,195,80\r\n".to_vec(),
        fin: false,
        ..Segment::default()
    };
    let sent = it.pass(false, &again).unwrap();
    assert_eq!(sent.payload, b"PORT 203,0,113,10,195,80\r\n");
    assert_eq!(sent.seq, seq);
}
