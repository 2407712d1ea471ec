//! Commands that a policy refuses, and greetings that it hides, in packets.

use ftp_nat_common::{
    abi::{InsideNetwork, event, publish_flag},
    counter::Counter::{self, DeniedClearText, DeniedCommand, HidGreeting, SegmentCut},
    ftp::policy::bit_of,
};

use crate::{
    loaded::on_router,
    scene::{control_v4, control_v6, masqueraded_v4},
    talk::{Client, Server, Talk},
};

fn bits(names: &[&str]) -> u64 {
    names
        .iter()
        .fold(0, |all, name| all | bit_of(name).unwrap())
}

#[test]
fn denied_commands_arrive_as_ones_that_no_server_knows() {
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            let deny = bits(&["DELE", "SITE", "MKD", "PASV"]);
            let mut talk = Talk::begin_denying(datapath, ends, 0, deny);
            talk.passes(Server, "220 ready\r\n");
            for (said, heard) in [
                ("DELE a\r\n", "XXXX a\r\n"),
                ("site chmod 777 a\r\n", "XXXX chmod 777 a\r\n"),
                ("  MKD a\r\n", "  XXX a\r\n"),
                ("PASV\r\n", "XXXX\r\n"),
                ("mkd\n", "XXX\n"),
            ] {
                talk.says(Client, said, heard, &[DeniedCommand]);
                talk.passes(Server, "500 What?\r\n");
            }
            let reasons: Vec<_> = talk
                .datapath
                .events()
                .iter()
                .map(|it| (it.what, it.reason))
                .collect();
            assert_eq!(reasons, [(event::DENIED, DeniedCommand as u16); 5]);
            // Three of one segment, and the rest of it once it is repeated.
            let rest = "DELE d\r\nNOOP\r\n";
            let packet = talk.segment(Client, format!("DELE a\r\nMKD b\r\nSITE c\r\n{rest}"));
            let out = "XXXX a\r\nXXX b\r\nXXXX c\r\n";
            talk.arrives(
                "pipelined",
                Client,
                &packet,
                out,
                &[DeniedCommand, DeniedCommand, DeniedCommand, SegmentCut],
            );
            talk.next[0] = talk.next[0].wrapping_add(out.len() as u32);
            talk.passes(Server, "500 What?\r\n");
            talk.says(Client, rest, "XXXX d\r\nNOOP\r\n", &[DeniedCommand]);
            let whole = format!("{out}XXXX d\r\nNOOP\r\n");
            talk.arrives("repeated", Client, &packet, &whole, &[]);
            // In pieces.
            talk.is_held(Client, "DE");
            talk.completes(Client, "DE", "LE a\r\n", "XXXX a\r\n", &[DeniedCommand]);
        }
    });
}

#[test]
fn a_login_in_clear_text_is_refused_where_tls_is_required() {
    on_router(|datapath| {
        let deny = bits(&["USER", "PASS", "ACCT"]);
        let flags = publish_flag::REQUIRE_TLS;
        let mut talk = Talk::begin_denying(datapath, control_v4(), flags, deny);
        talk.passes(Server, "220 ready\r\n");
        talk.says(Client, "USER a\r\n", "XXXX a\r\n", &[DeniedClearText]);
        talk.passes(Server, "500 What?\r\n");
        talk.passes(Client, "AUTH TLS\r\n");
        talk.says(
            Server,
            "234 go on\r\n",
            "234 go on\r\n",
            &[Counter::SessionEncrypted],
        );
    });
}

#[test]
fn a_masqueraded_clients_commands_are_denied_by_its_network() {
    on_router(|datapath| {
        datapath.deny_inside(InsideNetwork {
            deny: bits(&["STOR"]),
            ..InsideNetwork::default()
        });
        let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), [1000, 2000]);
        talk.says(Client, "STOR a\r\n", "XXXX a\r\n", &[DeniedCommand]);
        talk.datapath.deny_inside(InsideNetwork::default());
    });
}

#[test]
fn a_hidden_greeting_keeps_its_length() {
    let words = "220 Service ready for new user.";
    let blank = |text: &str| format!("{words}{}\r\n", " ".repeat(text.len() - words.len() - 2));
    let several = "220-FooFTP 1.2\r\n Welcome to\r\n220-this\r\n220 server\r\n";
    let long = format!("220 FooFTP 1.2 {}\r\n", "-".repeat(900));
    on_router(|datapath| {
        for ends in [control_v4(), control_v6()] {
            for (said, heard) in [
                (
                    "220 (vsFTPd 3.0.3)\r\n",
                    "220 Service ready \r\n".to_owned(),
                ),
                (several, blank(several)),
                (&long, blank(&long)),
            ] {
                let flags = publish_flag::HIDE_GREETING;
                let mut talk = Talk::begin_denying(datapath, ends, flags, 0);
                let packet = talk.segment(Server, said);
                talk.says(Server, said, &heard, &[HidGreeting]);
                talk.arrives("again", Server, &packet, &heard, &[]);
                talk.passes(Client, "NOOP\r\n");
                talk.passes(Server, "220 FooFTP 1.2\r\n");
            }
            let mut talk = Talk::begin_denying(datapath, ends, publish_flag::HIDE_GREETING, 0);
            talk.is_held(Server, "220 (vsF");
            let counted = [HidGreeting];
            talk.completes(
                Server,
                "220 (vsF",
                "TPd 3.0.3)\r\n",
                "220 Service ready \r\n",
                &counted,
            );
        }
    });
}
