//! What may open something, and what may not.

use crate::conversation::Conversation;
use ftp_nat_common::abi::line_end;
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::Segment;

const REPLY: &str = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";

#[test]
fn a_227_that_nobody_asked_for_opens_nothing() {
    let mut it = Conversation::publish();
    assert_eq!(it.server(REPLY), REPLY);
    assert_eq!(it.ask("NOOP", REPLY), REPLY);
    assert_eq!(it.ask("EPSV ALL", REPLY), REPLY);
    assert_eq!(it.ask("SITE PASV", REPLY), REPLY);
    assert_eq!(it.ask("PASVX", REPLY), REPLY);
    assert_eq!(it.gate.openings(), []);
    assert_eq!(it.gate.count_of(Counter::PassedUnasked), 5);
}

#[test]
fn a_command_opens_one_connection() {
    let mut it = Conversation::publish();
    it.ask("PASV", REPLY);
    let second = "227 Entering Passive Mode (10,0,0,5,195,81).\r\n";
    assert_eq!(it.server(second), second);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    // The reply has one address: what follows it in the line is text.
    let mut it = Conversation::publish();
    it.ask("PASV", "227 (10,0,0,5,195,80) (10,0,0,5,195,81)\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn echoed_text_opens_nothing() {
    for said in [
        "500 'HELP 227 Entering Passive Mode (10,0,0,5,195,80)': unknown\r\n",
        "227: (10,0,0,5,195,80)\r\n",
        " 227 (10,0,0,5,195,80)\r\n",
        "\t227 (10,0,0,5,195,80)\r\n",
        "2270 (10,0,0,5,195,80)\r\n",
        "22 7 (10,0,0,5,195,80)\r\n",
        "\r227 (10,0,0,5,195,80)\r\n",
        "200 a\r227 (10,0,0,5,195,80)\r\n",
        // Lines of another multi-line reply (RFC 959 section 4.2).
        "214-Help\r\n227 (10,0,0,5,195,80)\r\n214 End\r\n",
        "214-Help\r\n227-(10,0,0,5,195,80)\r\n227 (10,0,0,5,195,80)\r\n214 End\r\n",
        "214-Help\r\n214-x\r\n2140\r\n214\r\n229 (|||50000|)\r\n214 End\r\n",
        "257 \"/a\r227 (10,0,0,5,195,80)\"\r\n",
    ] {
        let mut it = Conversation::publish();
        it.client("HELP x\r\nPASV\r\n");
        let heard = it.server(said);
        assert_eq!(heard, said);
        assert_eq!(it.gate.openings(), [], "{said}");
        // The PASV still waits for its own answer.
        it.server("214 End\r\n");
        it.server(REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{said}");
    }
}

/// RFC 3659 section 7.2: a reply to MLST may end with its code alone.
#[test]
fn a_reply_ends_at_its_code_and_anything_but_a_hyphen() {
    for end in ["250", "250 ", "250 End", "250\tEnd"] {
        for end_of_line in ["\r\n", "\n"] {
            let mut it = Conversation::publish();
            if end_of_line == "\n" {
                // Its greeting ended so.
                it.session.answered.line_ends |= line_end::REPLIES;
            }
            it.ask("CWD x", ["250-a", " b", "250-c", end, ""].join(end_of_line));
            it.ask("PASV", REPLY);
            assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{end}");
            assert_eq!(it.gate.count_of(Counter::CommandWithheld), 0);
        }
    }
}

/// There are servers that end a reply with another code: the next command proves that the client
/// took it as ended.
#[test]
fn a_reply_that_never_ends_deafens_nobody() {
    for said in [
        "553-a\r\n553- b\r\n150 c\r\n",
        "226-a\r\n",
        "230-a\r\n 230 b\r\n",
    ] {
        let mut it = Conversation::publish();
        it.ask("RNFR x", said);
        it.ask("NOOP", "200 Ok\r\n");
        it.ask("PASV", REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{said}");
        assert_eq!(it.gate.count_of(Counter::CommandWithheld), 0, "{said}");
        // Right behind it the PASV waits a while.
        let mut it = Conversation::publish();
        it.ask("RNFR x", said);
        it.client("PASV\r\n");
        it.wait(2000);
        it.server(REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{said}");
        assert_eq!(it.gate.count_of(Counter::CommandWithheld), 1, "{said}");
    }
}

#[test]
fn a_refused_pasv_waits_no_more() {
    for refusal in [
        "500 Unknown\r\n",
        "425 No\r\n",
        "502-No\r\n502 No\r\n",
        "530 Log in\r\n",
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.ask("PASV", refusal), refusal);
        assert_eq!(it.ask("NOOP", REPLY), REPLY);
        assert_eq!(it.gate.openings(), [], "{refusal}");
        // The next one is heard.
        it.ask("PASV", REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{refusal}");
    }
}

#[test]
fn epsv_may_be_refused_and_pasv_tried() {
    let mut it = Conversation::publish();
    it.ask("EPSV", "522 No\r\n");
    it.ask("PASV", REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn preliminary_replies_answer_nothing() {
    let mut it = Conversation::publish();
    it.ask("PASV", "150 Wait\r\n100-a\r\n100 b\r\n");
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn pipelined_commands_keep_their_answers() {
    let mut it = Conversation::publish();
    it.client("TYPE I\r\nCWD /none\r\nPASV\r\nRETR a\r\n");
    it.server("200 ok\r\n550 No such directory\r\n");
    it.server(REPLY);
    it.server("150 here\r\n226 done\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);

    let mut it = Conversation::publish();
    it.client("PASV\r\nRETR a\r\nEPSV\r\nRETR b\r\nPASV\r\n");
    it.server(REPLY);
    it.server("150 here\r\n550 gone\r\n229 (|||50001|)\r\n");
    it.server("150 here\r\n226 done\r\n227 (10,0,0,5,195,82)\r\n");
    it.server("227 (10,0,0,5,195,83)\r\n");
    let ports = [(50_000, 50_000), (50_001, 50_001), (50_002, 50_002)];
    assert_eq!(it.gate.openings(), ports);

    // One of them refused.
    let mut it = Conversation::publish();
    it.client("EPSV\r\nPASV\r\nPASV\r\n");
    it.server("500 no\r\n500 no\r\n");
    it.server(REPLY);
    it.server("227 (10,0,0,5,195,83)\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn a_server_that_answers_too_often_or_too_seldom_is_followed() {
    // Twice, before and in the same segment.
    let mut it = Conversation::publish();
    it.ask("ABOR", "426 Aborted\r\n226 Closed\r\n");
    it.ask("PASV", format!("200 Really\r\n{REPLY}"));
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    // And a refusal counts then, too.
    it.ask("PASV", "500 No\r\n");
    assert_eq!(it.ask("NOOP", REPLY), REPLY);

    // Not at all.
    let mut it = Conversation::publish();
    it.client("ABOR\r\n");
    it.ask("PASV", REPLY);
    it.ask("PASV", "500 No\r\n");
    assert_eq!(it.ask("NOOP", REPLY), REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

/// A connection that does not begin as FTP does opens nothing, whatever follows.
#[test]
fn a_connection_begins_with_a_greeting_and_a_command_of_ftp() {
    use crate::conversation::{masquerade, publish, silent};
    for (greeting, first, opens) in [
        ("220 Hi\r\n", "USER a\r\n", true),
        ("220-Hi\r\n HTTP\r\n220 Hi\r\n", "auth tls\r\n", true),
        ("120 Wait\r\n220 Hi\r\n", "FEAT\r\n", true),
        ("Hello\r\n\r\n220 Hi\r\n", "SYST\r\n", true),
        ("220 Hi\r\n", "POST / HTTP/1.1\r\n", false),
        ("220 Hi\r\n", "GET /\r\n", false),
        ("220 Hi\r\n", "EHLO x\r\n", false),
        ("200 Hi\r\n", "USER a\r\n", false),
        ("421 Busy\r\n", "USER a\r\n", false),
        ("500-x\r\n500 x\r\n220 Hi\r\n", "USER a\r\n", false),
    ] {
        for first_speaks in [false, true] {
            let mut its = [
                Conversation::new(silent(publish([1, 2]))),
                Conversation::new(silent(masquerade([1, 2]))),
            ];
            for it in &mut its {
                if first_speaks {
                    it.client(first);
                    it.server(greeting);
                } else {
                    it.server(greeting);
                    it.client(first);
                }
                it.server("331 ok\r\n");
                it.client("USER b\r\n");
                it.server("220 ok\r\n");
            }
            let [mut server, mut client] = its;
            server.client("PASV\r\n");
            server.wait(2000);
            let heard = server.server(REPLY);
            let reason = if opens { 0 } else { 1 };
            assert_eq!(
                server.gate.openings().len(),
                usize::from(opens),
                "{greeting} {first}"
            );
            assert_eq!(server.gate.count_of(Counter::DeniedNotFtp), reason);
            assert_eq!(heard.starts_with("425 "), !opens, "{heard}");
            let heard = client.client("PORT 192,168,1,7,195,80\r\n");
            assert_eq!(
                client.gate.openings().len(),
                usize::from(opens),
                "{greeting} {first}"
            );
            assert_eq!(client.gate.count_of(Counter::DeniedNotFtp), reason);
            assert_eq!(heard.starts_with("XXXX "), !opens, "{heard}");
        }
    }
    // A client that does not wait for it.
    let mut it = Conversation::new(silent(publish([1, 2])));
    it.client("USER a\r\nPASS b\r\nPASV\r\n");
    it.server("220 Hi\r\n331 pass\r\n530 no\r\n");
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

/// Servers that answer twice, to a line too long for them or to a command they do not know.
#[test]
fn a_refusal_that_may_be_another_commands_leaves_the_pasv_waiting() {
    for (commands, said) in [
        (&["OPTS x\r\nPASV\r\n"][..], &["500 a\r\n500 b\r\n"][..]),
        (&["OPTS x\r\nEPSV\r\n"], &["500 a\r\n", "500 b\r\n"]),
        (&["OPTS x\r\n", "PASV\r\n"], &["500 a\r\n", "500 b\r\n"]),
        (
            &["USER x\r\n", "PASV\r\n"],
            &["331-a\r\n331 b\r\n230 c\r\n", "530 d\r\n"],
        ),
        (&["CWD x\r\nPASV\r\n"], &["550 a\r\n550-b\r\n550 b\r\n"]),
    ] {
        let mut it = Conversation::publish();
        for turn in 0..commands.len().max(said.len()) {
            commands.get(turn).map(|text| it.client(text));
            said.get(turn).map(|text| it.server(text));
        }
        it.server(REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{commands:?}");
        assert_eq!(it.gate.count_of(Counter::PassedUnasked), 0);
    }
}

/// Every PASV of many is answered, however many are under way.
#[test]
fn more_commands_in_flight_than_are_remembered_lose_nothing() {
    let mut it = Conversation::publish();
    it.client("PASV\r\nRETR a\r\n".repeat(9));
    for number in 0..9 {
        it.server(format!("227 (10,0,0,5,195,{})\r\n550 No\r\n", 80 + number));
    }
    let opened: Vec<_> = (50_000..50_009).map(|port| (port, port)).collect();
    assert_eq!(it.gate.openings(), opened);
}

/// What stands between an outside server's lines and a PASV that is under way.
#[test]
fn a_227_among_names_is_no_answer() {
    let listing = "213-Status of .:\r\ndrwxr-xr-x 2 0 0 0 Jan 1 00:00 c\r\n213 x\r\n";
    let fake = "227 Entering Passive Mode (10,0,0,5,31,144)\r\n213 End\r\n";
    for command in [
        "STAT .", "stat", "SITE LS", "HELP x", "MLST a", "XSTA", "LS", "PWD", "XMKD a", "LANG",
    ] {
        for together in [false, true] {
            // Both at once.
            let mut it = Conversation::publish();
            let said = format!("{command}\r\nPASV\r\n");
            assert_eq!(it.client(said), format!("{command}\r\n"), "{command}");
            if together {
                it.server(format!("{listing}{fake}"));
            } else {
                it.server_alone(listing);
                it.server(fake);
            }
            assert_eq!(it.gate.openings(), [], "{command}");
            assert_eq!(it.session.asked.passive, 1, "{command}");
            // Nothing is lost but time.
            it.server(REPLY);
            assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{command}");
        }
    }
}

/// The listing stands still because the client's window is closed, or because nothing was
/// acknowledged: the PASV waits as long.
#[test]
fn a_listing_that_stands_still_has_not_ended() {
    let mut it = Conversation::publish();
    it.client("STAT .\r\nPASV\r\n");
    it.server_alone("213-Status\r\n213 x\r\n");
    for _ in 0..20 {
        it.now += 200;
        it.repeat_unheard();
        assert_eq!(it.session.asked.passive, 0);
    }
    it.server("227 (10,0,0,5,31,144)\r\n213 End\r\n");
    assert_eq!(it.gate.openings(), []);
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);

    // After long it passes, but opens nothing.
    let mut it = Conversation::publish();
    it.client("STAT .\r\nPASV\r\n");
    it.server_alone("213-Status\r\n213 x\r\n");
    for _ in 0..60 {
        it.now += 200;
        it.repeat_unheard();
    }
    assert_eq!(it.session.asked.passive, 1);
    assert_eq!(it.gate.count_of(Counter::DeniedDoubtful), 1);
    let heard = it.server(REPLY);
    assert_eq!(heard, "425 No data connection: the gateway cannot).\r\n");
    assert_eq!(it.gate.openings(), []);
    // The next one is asked anew.
    it.ask("PASV", REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

/// A server never gets a carriage return without its line feed because the gateway withholds a command:
/// ProFTPD would wait for ever. In a row: the segments of the client, and what the server has of them
/// before it has answered.
#[test]
fn a_withheld_command_comes_in_one_piece() {
    for (said, before) in [
        (&["STAT .\r\nPASV\r\n"][..], "STAT .\r\n"),
        (&["STAT .\r\n", "PASV\r\n"], "STAT .\r\n"),
        (&["STAT .\r\n", "  PASV\r\n"], "STAT .\r\n  "),
        (&["STAT .\r\nPA", "SV\r\n"], "STAT .\r\nPA"),
        (&["STAT .\r\nPAS", "V", "\r\n"], "STAT .\r\nPASV"),
        (&["STAT .\r\nEPSV \r\nRETR a\r\n"], "STAT .\r\n"),
        // A bare carriage return has its next byte replaced once.
        (&["PASV\r\nSTAT a\rbc\r\n"], "PASV\r\nSTAT a\rXc\r"),
        (&["PASV\r\nSTAT \r", "bc\r\n"], "PASV\r\nSTAT \rXc\r"),
        (&["PASV\r\nSTAT \rb", "c\r\n"], "PASV\r\nSTAT \rX"),
    ] {
        let mut it = Conversation::publish();
        let mut heard = String::new();
        for part in said {
            heard += &it.client(part);
        }
        assert_eq!(heard, before, "{said:?}");
        let whole = said.concat().replace("\rb", "\rX");
        let left = whole.strip_prefix(before).unwrap();
        // Nothing changes while the server is silent.
        it.repeat_unheard();
        assert_eq!(it.session.commands.seen.wrapping_sub(101), {
            let log_in = "USER anonymous\r\nPASS guest\r\n";
            (log_in.len() + before.len()) as u32
        });
        // Names are answered in a segment with another one, so that the rest waits for a repetition.
        it.server(if before.starts_with("STAT") {
            "213-a\r\n213 b\r\n"
        } else {
            "227 (10,0,0,5,195,80)\r\n"
        });
        assert_eq!(it.heard_late, left, "{said:?}");
        let hidden = usize::from(said.concat().contains("\rb"));
        assert_eq!(it.gate.count_of(Counter::DeniedHidden), hidden, "{said:?}");
    }
}

/// A line whose start was held and acknowledged is not read anew as a shorter one, or that start would be lost:
/// its carriage return leaves with it, and only the line feed is withheld.
#[test]
fn a_withheld_line_keeps_what_was_acknowledged_of_it() {
    let mut it = Conversation::publish();
    it.client("PASV\r\n");
    let seq = it.session.commands.seen;
    let pass = |it: &mut Conversation, at: u32, text: &str| {
        let segment = Segment {
            seq: seq.wrapping_add(at),
            payload: text.into(),
            ..Segment::default()
        };
        it.pass(false, &segment).map(|sent| {
            (
                sent.seq.wrapping_sub(seq).cast_signed(),
                String::from_utf8(sent.payload).unwrap(),
            )
        })
    };
    // Byte by byte, each repeated: it is acknowledged ahead.
    for (at, byte) in ["P", "O", "R"].into_iter().enumerate() {
        assert_eq!(pass(&mut it, at as u32, byte), None);
        assert_eq!(pass(&mut it, at as u32, byte), Some((-1, String::new())));
    }
    assert_eq!(pass(&mut it, 3, "\r\n"), Some((0, "POR\r".into())));
    // A late repetition of one of them.
    pass(&mut it, 1, "O");
    let heard = pass(&mut it, 3, "\r\n");
    assert_eq!(heard, Some((0, "POR\r".into())));
    it.now += 600;
    assert_eq!(it.gate.count_of(Counter::DeniedHidden), 0);
}

/// Nor does a PORT that cannot be read pass because its line feed was withheld, in however many pieces it comes.
#[test]
fn a_withheld_port_is_refused_all_the_same() {
    for pieces in [
        &["EPRT |2|NOOP\r\n"][..],
        &["EPRT |2|", "NOOP\r\n"],
        &["EPRT |2|NOOP", "\r\n"],
        &["EPRT |2|NOOP\r", "\n"],
        &["PORT 10,0,0,", "x\r\n"],
    ] {
        let mut it = Conversation::publish();
        // A PASV that ends with a bare line feed, to a server that ends lines with CR LF.
        it.client("PASV\n");
        let seq = it.session.commands.seen;
        let mut heard = Vec::new();
        let mut at = 0;
        for _ in 0..20 {
            for piece in pieces {
                let segment = Segment {
                    seq: seq.wrapping_add(at),
                    payload: (*piece).into(),
                    ..Segment::default()
                };
                let sent = it.pass(false, &segment);
                heard.extend(sent.into_iter().flat_map(|sent| sent.payload));
                at += piece.len() as u32;
            }
            at = 0;
            it.now += 700;
        }
        let text = heard.escape_ascii().to_string();
        assert!(text.contains("XXXX "), "{pieces:?}: {text}");
        assert!(
            !text.contains("EPRT") && !text.contains("PORT"),
            "{pieces:?}: {text}"
        );
    }
}

/// A command whose answer prints names is withheld while a PASV waits, and ends that wait.
#[test]
fn a_pasv_that_was_never_answered_is_no_licence_for_names() {
    let mut it = Conversation::publish();
    it.client("ABOR\r\nPASV\r\nSTAT .\r\n");
    it.server("500 No\r\n");
    assert_eq!(it.session.asked.doubtful, it.session.asked.commands);
    it.server("213-Status\r\n213 x\r\n227 (10,0,0,5,31,144)\r\n213 End\r\n");
    assert_eq!(it.gate.openings(), []);

    // One that is answered goes first.
    let mut it = Conversation::publish();
    assert_eq!(it.client("PASV\r\nSTAT .\r\n"), "PASV\r\n");
    it.server(REPLY);
    it.server("213-Status\r\n213 x\r\n227 (10,0,0,5,31,144)\r\n213 End\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

/// Clients that wait for each answer, and those that do not wait but ask for nothing with names in
/// it, lose no time.
#[test]
fn a_pasv_behind_plain_commands_is_not_withheld() {
    let mut it = Conversation::publish();
    it.client(
        "SYST\r\nTYPE I\r\nCWD x\r\nSIZE a\r\nMDTM a\r\nUSER b\r\nFEAT\r\nOPTS UTF8 ON\r\nREST 0\r\nPASV\r\nRETR a\r\n",
    );
    it.server("215 UNIX\r\n200 I\r\n250-Hi\r\n250 x\r\n213 1\r\n213 2\r\n331 b\r\n211-a\r\n211 b\r\n200 c\r\n350 d\r\n");
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    it.server("150 e\r\n226 f\r\n");
    for (command, answer) in [
        ("SITE CHMOD 644 a", "200 Ok\r\n"),
        ("XCRC a", "250 1234\r\n"),
        ("HELP", "214 Ask somebody else\r\n"),
        ("PWD", "257 \"/\"\r\n"),
        ("MKD x", "257 \"/x\" made\r\n"),
    ] {
        it.ask(command, answer);
        it.client("PASV\r\n");
        it.server(REPLY);
        assert_eq!(it.gate.count_of(Counter::CommandWithheld), 0, "{command}");
    }
}

#[test]
fn commands_in_any_case_and_with_arguments_ask() {
    for command in [
        "PASV", "pasv", "PaSv", "PASV ", "EPSV", "EPSV 1", "epsv 2", "  PASV", "P@SW", "p@sw",
    ] {
        let mut it = Conversation::publish();
        it.ask(command, REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{command}");
    }
}
