//! What may open something, and what may not.

use crate::conversation::Conversation;
use ftp_nat_common::counter::Counter;

const REPLY: &str = "227 Entering Passive Mode (10,0,0,5,195,80).\r\n";

#[test]
fn a_227_that_nobody_asked_for_opens_nothing() {
    let mut it = Conversation::publish();
    assert_eq!(it.server(REPLY), REPLY);
    assert_eq!(it.ask("NOOP", REPLY), REPLY);
    assert_eq!(it.ask("LPSV", REPLY), REPLY);
    assert_eq!(it.ask("EPSV ALL", REPLY), REPLY);
    assert_eq!(it.ask("SITE PASV", REPLY), REPLY);
    assert_eq!(it.ask("PASVX", REPLY), REPLY);
    assert_eq!(it.gate.openings(), []);
    assert_eq!(it.gate.count_of(Counter::PassedUnasked), 6);
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
        it.server(REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{said}");
    }
}

#[test]
fn a_reply_of_just_the_code_ends_nothing() {
    // `214` alone is no final line, but `214 ` is.
    let mut it = Conversation::publish();
    it.client("HELP\r\nPASV\r\n");
    it.server("214-x\r\n214 \r\n");
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
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

#[test]
fn a_connection_needs_no_greeting() {
    use crate::conversation::publish;
    for greeting in ["", "220 Hi\r\n", "120 Wait\r\n220-Hi\r\n220 Hi\r\n"] {
        let mut it = Conversation::new(publish([1, 2]));
        if !greeting.is_empty() {
            it.server(greeting);
        }
        it.ask("PASV", REPLY);
        it.ask("PASV", "500 No\r\n");
        assert_eq!(it.ask("NOOP", REPLY), REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{greeting}");
    }
    // A client that does not wait for it.
    let mut it = Conversation::new(publish([1, 2]));
    it.client("USER a\r\nPASS b\r\nPASV\r\n");
    it.server("220 Hi\r\n331 pass\r\n530 no\r\n");
    it.server(REPLY);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
}

#[test]
fn commands_in_any_case_and_with_arguments_ask() {
    for command in [
        "PASV", "pasv", "PaSv", "PASV ", "EPSV", "EPSV 1", "epsv 2", "  PASV",
    ] {
        let mut it = Conversation::publish();
        it.ask(command, REPLY);
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{command}");
    }
}
