//! What servers answer to PASV and EPSV.

use crate::conversation::Conversation;
use ftp_nat_common::abi::line_end;
use ftp_nat_common::counter::Counter;

/// A table's line: what the server says, what the client hears, and the port that is open then.
type Case = (&'static str, &'static str, u16);

fn check(command: &str, new: fn() -> Conversation, cases: &[Case]) {
    for (said, heard, port) in cases {
        for end in ["\r\n", "\n"] {
            let [said, heard] = [said, heard].map(|text| text.replace('~', end) + end);
            let mut it = new();
            if end == "\n" {
                // Its greeting ended so.
                it.session.answered.line_ends |= line_end::REPLIES;
            }
            let what = it.ask(command, &said);
            assert_eq!(what, heard, "{said:?}");
            let open: Vec<_> = it.gate.openings().iter().map(|(port, _)| *port).collect();
            let wanted: &[u16] = if *port == 0 { &[] } else { &[*port] };
            assert_eq!(open, wanted, "{said:?}");
            // Nothing waits any more: a second one is not believed.
            it.server(format!("227 Again (10,0,0,5,99,99).{end}"));
            assert_eq!(it.gate.openings().len(), wanted.len(), "{said:?}");
        }
    }
}

#[test]
fn every_form_of_227_is_rewritten() {
    check(
        "PASV",
        Conversation::publish,
        &[
            // vsftpd, ProFTPD; Pure-FTPd; pyftpdlib; busybox.
            (
                "227 Entering Passive Mode (10,0,0,5,195,80).",
                "227 Entering Passive  (203,0,113,10,195,80).",
                50_000,
            ),
            (
                "227 Entering Passive Mode (10,0,0,5,195,80)",
                "227 Entering Passive  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Entering passive mode (10,0,0,5,195,80).",
                "227 Entering passive  (203,0,113,10,195,80).",
                50_000,
            ),
            (
                "227 PASV ok (10,0,0,5,195,80)",
                "227 PAS (203,0,113,10,195,80)",
                50_000,
            ),
            // RFC 959's example, and no words at all: no room, so the stream grows.
            ("227 =10,0,0,5,195,80", "227 =203,0,113,10,195,80", 50_000),
            ("227 10,0,0,5,195,80", "227 203,0,113,10,195,80", 50_000),
            ("227 (10,0,0,5,195,80)", "227 (203,0,113,10,195,80)", 50_000),
            (
                "227 Data transfer will passively listen to 10,0,0,5,195,80",
                "227 Data transfer will passively liste 203,0,113,10,195,80",
                50_000,
            ),
            (
                "227 Entering Passive Mode 10,0,0,5,195,80",
                "227 Entering Passive  203,0,113,10,195,80",
                50_000,
            ),
            // Blanks and zeros in the tuple.
            (
                "227 Mode (10, 0, 0, 5, 195, 80)",
                "227 Mode  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Mode ( 10 ,0 ,0 ,5 ,195 ,80 )",
                "227 Mode   (203,0,113,10,195,80 )",
                50_000,
            ),
            (
                "227 Mode 1 ( 10,0,0,5,195,80)",
                "227 Mod (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Mode (010,000,000,005,195,080)",
                "227 Mode     (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Mode\t(10,0,0,5,195,80)",
                "227 M(203,0,113,10,195,80)",
                50_000,
            ),
            // Digits, commas and brackets in the text.
            (
                "227 Mode 2 of 3 (v1.2) is now on (10,0,0,5,195,80)",
                "227 Mode 2 of 3 (v1.2) is no (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 1,2,3, ready (10,0,0,5,195,80)",
                "227 1,2,3, r (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Passive 10,0,0,5,195,80 for 60 seconds",
                "227 Pas 203,0,113,10,195,80 for 60 seconds",
                50_000,
            ),
            // Other addresses.
            (
                "227 Entering Passive Mode (0,0,0,0,195,80).",
                "227 Entering Passive (203,0,113,10,195,80).",
                50_000,
            ),
            (
                "227 Entering Passive Mode (127,0,0,1,195,80).",
                "227 Entering Passive M (203,0,113,10,195,80).",
                50_000,
            ),
            (
                "227 Entering Passive Mode (255,255,255,255,255,255).",
                "227 Entering Passive Mode    (203,0,113,10,255,255).",
                65_535,
            ),
            (
                "227 Entering Passive Mode (10,0,0,5,4,0).",
                "227 Entering Passive  (203,0,113,10,4,0).",
                1024,
            ),
            // What is right already stays.
            (
                "227 Entering Passive Mode (203,0,113,10,195,80).",
                "227 Entering Passive Mode (203,0,113,10,195,80).",
                50_000,
            ),
        ],
    );
}

#[test]
fn words_in_other_languages_are_cut_between_characters() {
    for (said, heard) in [
        (
            "227 Passiver Modus für Sie (10,0,0,5,195,80)\r\n",
            "227 Passiver Modus für (203,0,113,10,195,80)\r\n",
        ),
        (
            "227 Пассивный режим (10,0,0,5,195,80)\r\n",
            "227 Пассивный реж (203,0,113,10,195,80)\r\n",
        ),
        // The bracket itself is three bytes long.
        (
            "227 进入被动模式 （10,0,0,5,195,80）\r\n",
            "227 进入被动   （203,0,113,10,195,80）\r\n",
        ),
        (
            "227 进入被动模式（10,0,0,5,195,80）\r\n",
            "227 进入被动  （203,0,113,10,195,80）\r\n",
        ),
        (
            "227 被动（255,255,255,255,195,80）\r\n",
            "227 被动   （203,0,113,10,195,80）\r\n",
        ),
    ] {
        let mut it = Conversation::publish();
        it.client("PASV\r\n");
        assert_eq!(it.server_text(said), heard);
    }
}

#[test]
fn latin_1_text_is_no_obstacle() {
    let mut it = Conversation::publish();
    let what = it.ask(
        "PASV",
        b"227 Entr\xe9e en mode passif (10,0,0,5,195,80)\r\n",
    );
    assert_eq!(what, "227 Entr\\xe9e en mode pa (203,0,113,10,195,80)\r\n");
}

#[test]
fn what_is_no_address_passes_and_opens_nothing() {
    for said in [
        "227 Logout.",
        "227 Entering Passive Mode (10,0,0,5,195).",
        "227 Entering Passive Mode (10,0,0,5,195,80,1).",
        "227 Entering Passive Mode (10,0,0,256,195,80).",
        "227 Entering Passive Mode (10,0,0,5,256,80).",
        "227 Entering Passive Mode (10,0,0,5,195,256).",
        "227 Entering Passive Mode (10,0,0,5,0,0).",
        "227 Entering Passive Mode (10,0,0,5,195,1080).",
        "227 Entering Passive Mode (10.0.0.5,195,80).",
        "227 Entering Passive Mode (10,0,0,5,,80).",
        "227 Entering Passive Mode (1000050).",
        "227 123456",
        "227",
        "227 ",
    ] {
        let mut it = Conversation::publish();
        assert_eq!(it.ask("PASV", format!("{said}\r\n")), format!("{said}\r\n"));
        assert_eq!(it.gate.openings(), [], "{said}");
        assert_eq!(it.session.asked.passive, it.session.answered.passive);
    }
}

#[test]
fn multi_line_replies_may_hold_the_address_anywhere() {
    check(
        "PASV",
        Conversation::publish,
        &[
            (
                "227-Please note~227 Entering Passive Mode (10,0,0,5,195,80).",
                "227-Please note~227 Entering Passive  (203,0,113,10,195,80).",
                50_000,
            ),
            (
                "227-Entering Passive Mode (10,0,0,5,195,80).~227 Done",
                "227-Entering Passive  (203,0,113,10,195,80).~227 Done",
                50_000,
            ),
            (
                "227-One~ text (10,0,0,5,195,80) there~227 Done",
                "227-One~  (203,0,113,10,195,80) there~227 Done",
                50_000,
            ),
            (
                "227-One~10,0,0,5,195,80~227 Done",
                "227-One~203,0,113,10,195,80~227 Done",
                50_000,
            ),
            // Both lines say the same, or not: then the last one counts.
            (
                "227-Mode, Mode (10,0,0,5,195,80)~227 Mode, Mode (10,0,0,5,195,80)",
                "227-Mode,  (203,0,113,10,195,80)~227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227-Mode, Mode (10,0,0,5,195,81)~227 Mode, Mode (10,0,0,5,195,80)",
                "227-Mode,  (203,0,113,10,195,81)~227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227-~227-~~226 no end~227 Mode, Mode (10,0,0,5,195,80)",
                "227-~227-~~226 no end~227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "229-Please note~229 Entering (|||50000|)",
                "229-Please note~229 Entering (|||50000|)",
                50_000,
            ),
        ],
    );
}

#[test]
fn a_last_word_that_may_not_be_closes_what_the_first_one_opened() {
    let mut it = Conversation::publish();
    it.ask(
        "PASV",
        "227-Mode, Mode (10,0,0,5,195,81)\r\n227 Mode (10,0,0,5,0,22)\r\n",
    );
    assert_eq!(it.gate.openings(), []);
    assert_eq!(it.gate.count_of(Counter::DeniedPort), 1);
}

#[test]
fn the_reply_may_stand_anywhere_among_others() {
    check(
        "NOOP\r\nPASV",
        Conversation::publish,
        &[
            (
                "200 Zzz~227 Mode, Mode (10,0,0,5,195,80)",
                "200 Zzz~227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
            (
                "227 Mode, Mode (10,0,0,5,195,80)~200 Zzz",
                "227 Mode,  (203,0,113,10,195,80)~200 Zzz",
                50_000,
            ),
            (
                "200 Zzz~227 Mode, Mode (10,0,0,5,195,80)~200 Zzz",
                "200 Zzz~227 Mode,  (203,0,113,10,195,80)~200 Zzz",
                50_000,
            ),
            (
                "200-a~ b~200 Zzz~227 Mode, Mode (10,0,0,5,195,80)~200 Zzz",
                "200-a~ b~200 Zzz~227 Mode,  (203,0,113,10,195,80)~200 Zzz",
                50_000,
            ),
            (
                "~~227 Mode, Mode (10,0,0,5,195,80)",
                "~~227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
        ],
    );
}

#[test]
fn every_form_of_229_is_understood() {
    check(
        "EPSV",
        Conversation::publish,
        &[
            (
                "229 Entering Extended Passive Mode (|||50000|)",
                "229 Entering Extended Passive Mode (|||50000|)",
                50_000,
            ),
            ("229 EPSV ok (|||50000|)", "229 EPSV ok (|||50000|)", 50_000),
            ("229 ok |||50000|", "229 ok |||50000|", 50_000),
            ("229 ok (!!!50000!)", "229 ok (!!!50000!)", 50_000),
            ("229 ok (///50000/).", "229 ok (///50000/).", 50_000),
            ("229 ok (###50000#).", "229 ok (###50000#).", 50_000),
            ("229 ok (aaa50000a).", "229 ok (aaa50000a).", 50_000),
            ("229 ok (,,,50000,).", "229 ok (,,,50000,).", 50_000),
            ("229 ok (...50000.).", "229 ok (...50000.).", 50_000),
            ("229 port 5 (|||50000|)", "229 port 5 (|||50000|)", 50_000),
            // The long form has an address.
            (
                "229 Extended Mode (|1|10.0.0.5|50000|)",
                "229 Extended  (|1|203.0.113.10|50000|)",
                50_000,
            ),
            (
                "229 Extended Mode (|1|0.0.0.0|50000|)",
                "229 Extended (|1|203.0.113.10|50000|)",
                50_000,
            ),
            (
                "229 (|1|10.0.0.5|50000|)",
                "229 (|1|203.0.113.10|50000|)",
                50_000,
            ),
            // No announcement at all.
            ("229 (|||0|)", "229 (|||0|)", 0),
            ("229 (|||65536|)", "229 (|||65536|)", 0),
            ("229 (|||22|)", "425 No data)", 0),
            ("229 (||50000|)", "229 (||50000|)", 0),
            ("229 (|3|10.0.0.5|50000|)", "229 (|3|10.0.0.5|50000|)", 0),
            // A server that answers EPSV with 227.
            (
                "227 Mode, Mode (10,0,0,5,195,80)",
                "227 Mode,  (203,0,113,10,195,80)",
                50_000,
            ),
        ],
    );
    check(
        "PASV",
        Conversation::publish,
        &[("229 ok (|||50000|)", "229 ok (|||50000|)", 50_000)],
    );
}

#[test]
fn over_ipv6_only_the_port_is_announced() {
    check(
        "EPSV",
        Conversation::publish_v6,
        &[
            ("229 ok (|||50000|)", "229 ok (|||50000|)", 50_000),
            (
                "229 Entering Extended Passive Mode (|2|2001:db8:1::5|50000|)",
                "229 Entering Extended Passive Mode  (|2|2001:db8::10|50000|)",
                50_000,
            ),
            // Six numbers cannot hold the public address, but the port.
            ("227 (10,0,0,5,195,80)", "227 (10,0,0,5,195,80)", 50_000),
        ],
    );
}

#[test]
fn a_taken_port_is_announced_under_its_new_number() {
    for (command, said, heard) in [
        (
            "PASV",
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            "227 Entering Passive Mod (203,0,113,10,4,1).\r\n",
        ),
        ("EPSV", "229 ok (|||50000|)\r\n", "229 ok  (|||1025|)\r\n"),
        (
            "PASV",
            "227-a b c d e (10,0,0,5,195,80)\r\n227 a b c d e (10,0,0,5,195,80)\r\n",
            "227-a b c d  (203,0,113,10,4,1)\r\n227 a b c d  (203,0,113,10,4,1)\r\n",
        ),
    ] {
        let mut it = Conversation::publish();
        it.gate.taken.insert(50_000, 1025);
        assert_eq!(it.ask(command, said), heard);
        assert_eq!(it.gate.openings(), [(50_000, 1025)]);
    }
}

#[test]
fn ports_below_1024_and_outside_the_servers_range_are_not_opened() {
    for (range, number) in [
        ((0, 0), 1023),
        ((0, 0), 21),
        ((50_000, 50_999), 49_999),
        ((50_000, 50_999), 51_000),
        ((500, 600), 550),
    ] {
        let mut it = Conversation::publish();
        (it.session.passive_first, it.session.passive_last) = range;
        let said = format!(
            "227 Passive Mode (10,0,0,5,{},{})\r\n",
            number / 256,
            number % 256
        );
        let heard = it.ask("PASV", &said);
        assert!(heard.starts_with("425 No data connect"), "{heard}");
        assert_eq!(heard.len(), said.len());
        assert_eq!(it.gate.openings(), [], "{range:?} {number}");
        assert_eq!(it.gate.count_of(Counter::DeniedPort), 1);
        let said = format!("229 EPSV ok (|||{number}|)\r\n");
        let heard = it.ask("EPSV", &said);
        assert!(heard.starts_with("425 No data connect"), "{heard}");
        assert_eq!(heard.len(), said.len());
        assert_eq!(it.gate.openings(), [], "{range:?} {number}");
    }
    let mut it = Conversation::publish();
    (it.session.passive_first, it.session.passive_last) = (50_000, 50_999);
    it.ask("EPSV", "229 (|||50000|)\r\n");
    it.ask("EPSV", "229 (|||50999|)\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000), (50_999, 50_999)]);
}

/// The client hears at once that there is no connection, in as many bytes and without the address.
#[test]
fn a_gate_that_refuses_makes_the_reply_fail() {
    for (command, said, heard) in [
        (
            "PASV",
            "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            "425 No data connection: the gateway cannot).\r\n",
        ),
        (
            "PASV",
            "227 =10,0,0,5,195,80\r\n",
            "425 No data connecti\r\n",
        ),
        ("EPSV", "229 ok (|||50000|)\r\n", "425 No data conne)\r\n"),
        (
            "EPSV",
            "229 Entering Extended Passive Mode (|||50000|)\r\n",
            "425 No data connection: the gateway cannot op)\r\n",
        ),
        // The client waits for the code that it knows.
        (
            "PASV",
            "227-Please note\r\n227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
            "227-Please note\r\n227 No data connection: the gateway cannot).\r\n",
        ),
        (
            "PASV",
            "227-Mode (10,0,0,5,195,80)\r\n227 Done\r\n",
            "227-No data connection: t)\r\n227 Done\r\n",
        ),
    ] {
        let mut it = Conversation::publish();
        it.gate.refusal = Some(Counter::DeniedNoPort);
        assert_eq!(it.ask(command, said), heard);
        assert_eq!(said.len(), heard.len());
        assert_eq!(it.gate.count_of(Counter::DeniedNoPort), 1);
        assert_eq!(it.gate.count_of(Counter::Refused227), 1);
        // It was answered.
        it.gate.refusal = None;
        assert_eq!(it.server(said), said);
        it.ask(command, "229 (|||50001|)\r\n");
        assert_eq!(it.gate.openings(), [(50_001, 50_001)]);
    }
    // However long the words are.
    let mut it = Conversation::publish();
    it.gate.refusal = Some(Counter::DeniedNoPort);
    let said = format!("227 {} (10,0,0,5,195,80)\r\n", "x".repeat(100));
    let heard = it.ask("PASV", &said);
    assert!(heard.starts_with("425 No data connection: the gateway cannot open the port        x"));
    assert_eq!(heard[64..], said[64..]);
}

#[test]
fn an_address_beyond_the_longest_line_passes() {
    let mut it = Conversation::publish();
    let said = format!("227 {} (10,0,0,5,195,80).\r\n", "x".repeat(600));
    assert_eq!(it.ask("PASV", &said), said);
    assert_eq!(it.gate.openings(), []);
    assert_eq!(it.gate.count_of(Counter::PassedTooLong), 1);
    // And the session goes on.
    it.ask("PASV", "227 (10,0,0,5,195,80)\r\n");
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn the_longest_line_that_is_kept_is_rewritten() {
    let mut it = Conversation::publish();
    let words = "x".repeat(512 - 4 - 17);
    let said = format!("227 {words}(10,0,0,5,195,80)\n");
    assert_eq!(said.len(), 513);
    let heard = it.ask("PASV", &said);
    assert_eq!(heard, format!("227 {}(203,0,113,10,195,80)\n", &words[4..]));
}

#[test]
fn replies_of_outside_servers_are_left_alone() {
    let mut it = Conversation::masquerade();
    for said in [
        "227 Entering Passive Mode (10,0,0,5,195,80).\r\n",
        "229 ok (|||50000|)\r\n",
    ] {
        assert_eq!(it.ask("PASV", said), said);
    }
    assert_eq!(it.gate.openings(), []);
}
