//! Sessions: each line with its verdict and why.

use crate::capture::Talk;
use serde_json::Value;

/// The lines of the first session that are more than passed.
fn verdicts(report: &Value) -> Vec<[String; 4]> {
    let lines = report["sessions"][0]["lines"].as_array().unwrap();
    let verdict = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let notes = line["notes"].as_array().unwrap();
        let reason = notes.iter().find_map(|note| note["reason"].as_str());
        let reason = reason.unwrap_or_default().to_owned();
        [text("line"), text("verdict"), text("arrives"), reason]
    };
    let all = lines.iter().map(verdict);
    all.filter(|[_, verdict, ..]| verdict != "nothing")
        .collect()
}

fn publish() -> Talk {
    Talk::new("198.51.100.7:40000", "10.0.0.5:21").server("220 Hi\r\n")
}

const PUBLIC: [&str; 2] = ["--public", "203.0.113.10"];

#[test]
fn a_publishing_gateways_verdicts() {
    for (talk, wanted) in [
        (
            publish()
                .client("PASV\r\n")
                .server("227 =10,0,0,5,195,80\r\n"),
            [
                "227 =10,0,0,5,195,80",
                "rewritten",
                "227 =203,0,113,10,195,80",
                "227",
            ],
        ),
        (
            publish()
                .client("EPSV\r\n")
                .server("229 Ok (|||50000|)\r\n"),
            ["229 Ok (|||50000|)", "unchanged", "", ""],
        ),
        (
            publish().server("227 Mode (10,0,0,5,195,80)\r\n"),
            ["227 Mode (10,0,0,5,195,80)", "passed", "", "unasked"],
        ),
        (
            publish().client("PASV\r\n").server("227 Logout.\r\n"),
            ["227 Logout.", "passed", "", "no_address"],
        ),
        (
            publish().client("EPSV\r\n").server("229 Ok (||50000|)\r\n"),
            ["229 Ok (||50000|)", "passed", "", "no_address"],
        ),
        (
            publish()
                .client("PASV\r\n")
                .server("200-x\r\n227 (10,0,0,5,195,80)\r\n"),
            ["227 (10,0,0,5,195,80)", "passed", "", "inside"],
        ),
        (
            publish()
                .client("PASV\r\n")
                .server("227Entering(10,0,0,5,195,80)\r\n"),
            [
                "227Entering(10,0,0,5,195,80)",
                "rewritten",
                "227Ente(203,0,113,10,195,80)",
                "227",
            ],
        ),
        (
            publish()
                .client("CWD x\r\nPASV\r\n")
                .server("250 x\n227 (10,0,0,5,31,144)\r\n"),
            [
                "227 (10,0,0,5,31,144)",
                "denied",
                "425 No data connecti)",
                "doubtful",
            ],
        ),
        (
            publish()
                .client("PASV\r\n")
                .server("227 Mode (10,0,0,5,0,80)\r\n"),
            [
                "227 Mode (10,0,0,5,0,80)",
                "denied",
                "425 No data connection:)",
                "port",
            ],
        ),
        (
            publish().client("PORT 198,51,100,7,195,80\r\n"),
            ["PORT 198,51,100,7,195,80", "unchanged", "", ""],
        ),
        (
            publish().client("PORT 10,0,0,9,0,22\r\n"),
            [
                "PORT 10,0,0,9,0,22",
                "denied",
                "XXXX 10,0,0,9,0,22",
                "bounce",
            ],
        ),
        (
            publish().client("EPRT |9|x|\r\n"),
            ["EPRT |9|x|", "denied", "XXXX |9|x|", "unreadable"],
        ),
    ] {
        assert_eq!(verdicts(&talk.json(&PUBLIC)), [wanted]);
    }
}

#[test]
fn a_handshake_that_was_captured_twice_begins_nothing_anew() {
    let talk = Talk::new("198.51.100.7:40000", "10.0.0.5:21").repeat_last();
    let talk = talk.server("220 Hi\r\n").client("PASV\r\n");
    let talk = talk.handshake_again().server("227 (10,0,0,5,195,80)\r\n");
    let report = talk.json(&PUBLIC);
    assert_eq!(report["sessions"].as_array().unwrap().len(), 1);
    let wanted = [
        "227 (10,0,0,5,195,80)",
        "rewritten",
        "227 (203,0,113,10,195,80)",
        "227",
    ];
    assert_eq!(verdicts(&report), [wanted]);
}

#[test]
fn a_masquerading_gateways_verdicts() {
    let inside = || Talk::new("192.168.1.7:40000", "198.51.100.5:21").server("220 Hi\r\n");
    // Captured behind the kernel's own NAT, or of the gateway's own client.
    let outside = || Talk::new("203.0.113.10:40000", "198.51.100.5:21").server("220 Hi\r\n");
    let as_client = ["--public", "203.0.113.10", "--role", "masquerade"];
    for (talk, arguments, wanted) in [
        (
            inside().client("PORT 192,168,1,7,195,80\r\n"),
            &PUBLIC[..],
            [
                "PORT 192,168,1,7,195,80",
                "rewritten",
                "PORT 203,0,113,10,195,80",
                "port",
            ],
        ),
        (
            inside().client("EPRT |1|192.168.1.7|50000|\r\n"),
            &PUBLIC,
            [
                "EPRT |1|192.168.1.7|50000|",
                "rewritten",
                "EPRT |1|203.0.113.10|50000|",
                "eprt",
            ],
        ),
        (
            inside().client("PORT 192,168,1,8,195,80\r\n"),
            &PUBLIC,
            [
                "PORT 192,168,1,8,195,80",
                "denied",
                "XXXX 192,168,1,8,195,80",
                "bounce",
            ],
        ),
        (
            outside().client("PORT 192,168,1,7,195,80\r\n"),
            &as_client,
            [
                "PORT 192,168,1,7,195,80",
                "rewritten",
                "PORT 203,0,113,10,195,80",
                "port",
            ],
        ),
        (
            outside().client("PORT 203,0,113,10,195,80\r\n"),
            &as_client,
            ["PORT 203,0,113,10,195,80", "unchanged", "", ""],
        ),
    ] {
        let report = talk.json(arguments);
        assert_eq!(report["sessions"][0]["role"], "masquerade");
        assert_eq!(verdicts(&report), [wanted]);
    }
}

#[test]
fn what_opens_is_told_and_whether_it_came() {
    let talk = publish()
        .client("PASV\r\n")
        .server("227 Mode (0,0,0,0,195,80)\r\n")
        .syn("198.51.100.7:41000", "10.0.0.5:50000")
        .client("PORT 198,51,100,7,195,81\r\n");
    let report = talk.json(&PUBLIC);
    let lines = report["sessions"][0]["lines"].as_array().unwrap();
    let notes = lines
        .iter()
        .flat_map(|line| line["notes"].as_array().unwrap());
    let openings: Vec<_> = notes.filter_map(|note| note.get("opening")).collect();
    let passive = serde_json::json!({
        "kind": "passive", "from": "198.51.100.7", "to": "203.0.113.10:50000",
        "translated": "10.0.0.5:50000", "came_after": 0.001,
    });
    let active = serde_json::json!({
        "kind": "active", "from": "10.0.0.5", "to": "198.51.100.7:50001",
        "translated": "203.0.113.10:0", "came_after": null,
    });
    assert_eq!(openings, [&passive, &active]);
}

/// A port that one client has already is given to it once more under another number.
#[test]
fn two_servers_ports_of_one_client_do_not_collide() {
    let ask = |server: &str, numbers: &str| {
        Talk::new("198.51.100.7:40000", &format!("{server}:21"))
            .server("220 Hi\r\n")
            .client("PASV\r\n")
            .server(format!("227 Mode ({numbers},195,80)\r\n"))
    };
    let both = ask("10.0.0.5", "10,0,0,5").and(ask("10.0.0.6", "10,0,0,6"));
    let text = both.inspect(&PUBLIC);
    assert!(
        text.contains("opens 203.0.113.10:50000 for 198.51.100.7, which leads to 10.0.0.5:50000")
    );
    assert!(
        text.contains(
            "opens 203.0.113.10:61000 for 198.51.100.7, which leads to 10.0.0.6:50000 (its own \
             port is taken)"
        ),
        "{text}"
    );
}

#[test]
fn a_reply_in_pieces_is_one_line_that_was_held() {
    let reply = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";
    let bytes = reply.as_bytes().chunks(1);
    let piecewise = bytes.fold(publish().client("PASV\r\n"), |talk, byte| talk.server(byte));
    let report = piecewise.json(&PUBLIC);
    let line = &report["sessions"][0]["lines"][2];
    assert_eq!(line["segments"], reply.len());
    assert_eq!(
        line["arrives"],
        "227 Entering Passive  (203,0,113,10,195,80)."
    );
    let notes = line["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note["what"] == "held"), "{notes:?}");
    // Never whole.
    let text = publish()
        .client("PASV\r\n")
        .server("227 Entering")
        .inspect(&PUBLIC);
    assert!(text.contains("<- 227 Entering...\n"), "{text}");
    assert!(text.contains("held, and its end never came"), "{text}");
}

#[test]
fn order_and_repetition_change_nothing() {
    let lines = |talk: Talk| {
        let report = talk.json(&PUBLIC);
        let lines = report["sessions"][0]["lines"].as_array().unwrap().clone();
        let text = |line: &Value| [line["line"].clone(), line["arrives"].clone()];
        lines.iter().map(text).collect::<Vec<_>>()
    };
    let ask = || publish().client("PASV\r\n");
    let wanted = lines(
        ask()
            .server("227 Mode (10,0,0")
            .server(",5,195,80)\r\n")
            .close(),
    );
    assert_eq!(wanted[2][1], "227  (203,0,113,10,195,80)");
    for other in [
        ask()
            .server("227 Mode (10,0,0,5,195,80)\r\n")
            .repeat_last()
            .close(),
        ask()
            .server("227 Mode (10,0,0")
            .repeat_last()
            .server(",5,195,80)\r\n")
            .repeat_last(),
        ask()
            .server("227 Mode (10,0,0")
            .server(",5,195,80)\r\n")
            .swap_last()
            .close(),
    ] {
        assert_eq!(lines(other), wanted);
    }
}

#[test]
fn a_gap_of_the_capture_is_no_end_of_it() {
    // The client has acknowledged what the capture lacks.
    let talk = publish()
        .client("PASV\r\n")
        .server("230-Some text that was not captured\r\n")
        .lose_last()
        .server("and its end\r\n227 Mode (10,0,0,5,195,80)\r\n")
        .client("NOOP\r\n")
        .server("200 Ok\r\n");
    let report = talk.json(&PUBLIC);
    let lines = report["sessions"][0]["lines"].as_array().unwrap();
    let text: Vec<_> = lines
        .iter()
        .map(|line| line["line"].as_str().unwrap())
        .collect();
    assert!(text.contains(&"...and its end"), "{text:?}");
    assert!(text.contains(&"200 Ok"), "{text:?}");
}

#[test]
fn what_is_encrypted_is_counted_and_not_shown() {
    let talk = publish()
        .client("AUTH TLS\r\n")
        .server("234 Go\r\n")
        .client(b"\x16\x03\x01\x00\x05hello")
        .server(b"\x16\x03\x01\x00\x05world")
        .client(b"\x17\x03\x03\x00\x0aPASV\n\r\nab")
        .close();
    let report = talk.json(&PUBLIC);
    let session = &report["sessions"][0];
    assert_eq!(session["encrypted_segments"], 3);
    assert_eq!(session["lines"].as_array().unwrap().len(), 3, "{session}");
    assert_eq!(session["lines"][2]["verdict"], "encrypted");
    // CCC: clear text again.
    let talk = publish()
        .client("AUTH TLS\r\n")
        .server("234 Go\r\n")
        .client(b"\x17\x03\x03\x00\x01a")
        .server(b"\x17\x03\x03\x00\x01b")
        .client("PASV\r\n")
        .server("227 Mode (10,0,0,5,195,80)\r\n");
    let text = talk.inspect(&PUBLIC);
    assert!(text.contains("clear text again"), "{text}");
    assert!(text.contains("opens 203.0.113.10:50000"), "{text}");
}

#[test]
fn sessions_on_other_ports_are_recognised_by_what_is_said() {
    let on = |port: u16, greeting: &str, command: &str| {
        Talk::new("198.51.100.7:40000", &format!("10.0.0.5:{port}"))
            .server(greeting)
            .client(command)
            .server("331 x\r\n")
    };
    for (talk, sessions) in [
        (on(2121, "220 Hi\r\n", "USER a\r\n"), 1),
        (on(2121, "220-Hi\r\n", "auth TLS\r\n"), 1),
        (on(25, "220 mail ESMTP\r\n", "EHLO x\r\n"), 0),
        (on(2121, "SSH-2.0-x\r\n", "USER a\r\n"), 0),
        (on(80, "220 Hi\r\n", "GET / HTTP/1.0\r\n"), 0),
        // Nothing but the port tells.
        (on(21, "hello\r\n", "x\r\n"), 1),
    ] {
        let report = talk.json(&[]);
        assert_eq!(
            report["sessions"].as_array().unwrap().len(),
            sessions,
            "{report}"
        );
    }
    let named = Talk::under_way("198.51.100.7:40000", "10.0.0.5:2121")
        .client("PASV\r\n")
        .server("227 Mode (10,0,0,5,195,80)\r\n");
    assert_eq!(named.json(&[])["sessions"].as_array().unwrap().len(), 0);
    let report = named.json(&["--control-port", "2121"]);
    assert_eq!(report["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn ipv6_and_the_family_of_the_address() {
    let talk = Talk::new("[2001:db8:2::7]:40000", "[fd00::5]:21")
        .server("220 Hi\r\n")
        .client("EPSV\r\n")
        .server("229 Ok (|2|fd00::5|50000|)\r\n");
    let text = talk.inspect(&["--public", "203.0.113.10", "--public", "2001:db8:9::1"]);
    assert!(text.contains("announced as 2001:db8:9::1\n"), "{text}");
    assert!(
        text.contains("opens [2001:db8:9::1]:50000 for 2001:db8:2::7"),
        "{text}"
    );
}

/// Whole, in pieces, in any case, behind telnet signals, in the middle of a line.
#[test]
fn a_password_is_never_printed() {
    let talks = [
        publish().client("PASS geheim\r\n"),
        publish().client("pass geheim\n"),
        publish().client("USER a\r\nPASS geheim\r\nNOOP\r\n"),
        publish().client("PA").client("SS geh").client("eim\r\n"),
        publish().client(b"\xff\xf4\xff\xf2PASS geheim\r\n"),
        publish().client("PASS geheim"),
        publish().client("PASS geheim").reset(),
        publish().client("ACCT geheim\r\n"),
        Talk::under_way("198.51.100.7:40000", "10.0.0.5:21").client("SS geheim\r\n"),
        Talk::under_way("198.51.100.7:40000", "10.0.0.5:21").client("geheim\r\n"),
        Talk::under_way("198.51.100.7:40000", "10.0.0.5:21").client("geheim"),
        publish()
            .client("PASS ")
            .lose_last()
            .client("geheim\r\n")
            .server("230 In\r\n"),
    ];
    for (number, talk) in talks.iter().enumerate() {
        for arguments in [&[][..], &["--json"], &["--role", "masquerade"]] {
            let text = talk.inspect(arguments);
            assert!(
                text.contains("PASS")
                    || text.contains("ACCT")
                    || text.contains("***")
                    || text.contains("behind a gap"),
                "{text}"
            );
            assert!(
                !text.contains("geheim") && !text.contains("heim"),
                "{number}: {text}"
            );
        }
    }
}

#[test]
fn an_announcement_that_is_too_long_or_never_ends_has_a_word_too() {
    let long = format!("227 {}(10,0,0,5,195,80)\r\n", "x".repeat(2000));
    for (said, wanted) in [
        (long.as_str(), "too_long"),
        ("227 Entering Passive Mode (10,0,0,5,195,80", "unread"),
    ] {
        let talk = publish().client("PASV\r\n").server(said).close();
        let all = verdicts(&talk.json(&PUBLIC));
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!([&all[0][1], &all[0][3]], ["passed", wanted]);
    }
}
