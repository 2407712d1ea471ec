//! Odd servers and clients of public reports: what each says, what passes of it, what opens, and what
//! is counted. Each row runs over IPv4 and over IPv6.
//!
//! In a row, `{PASV}` is PASV or EPSV, `{227}` and `{229}` its answer and `{HEARD}` what arrives of that;
//! `{PORT}` and `{MOVED}` the client's PORT or EPRT and what arrives of it from a client of our own.

use crate::conversation::{Conversation, masquerade, masquerade_v6, publish, publish_v6, silent};
use ftp_nat_common::abi::Session;
use ftp_nat_common::counter::Counter;

/// Who says something, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// The client says this, and the server hears the same.
    Client(&'static str),
    /// The client says the first, and the server hears the second.
    Changed(&'static str, &'static str),
    /// The server says this, and the client hears the same.
    Server(&'static str),
    /// The server says the first, and the client hears the second.
    Rewritten(&'static str, &'static str),
}
pub(crate) use Turn::{Changed, Client, Rewritten, Server};

/// A conversation of a report.
struct Row {
    about: &'static str,
    turns: &'static [Turn],
    /// How many connections are open in the end.
    opens: usize,
    /// What is counted, and how often.
    counts: &'static [(Counter, usize)],
}

/// The words of one address family.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    words: [(&'static str, &'static str); 5],
    pub(crate) publish: fn([u32; 2]) -> Session,
    pub(crate) masquerade: fn([u32; 2]) -> Session,
}

pub(crate) const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        words: [
            ("{PASV}", "PASV"),
            ("{227}", "227 Entering Passive Mode (10,0,0,5,195,80)."),
            ("{HEARD}", "227 Entering Passive  (203,0,113,10,195,80)."),
            ("{PORT}", "PORT 192,168,1,7,195,80"),
            ("{MOVED}", "PORT 203,0,113,10,195,80"),
        ],
        publish,
        masquerade,
    },
    Family {
        name: "IPv6",
        words: [
            ("{PASV}", "EPSV"),
            ("{227}", "229 Entering Extended Passive Mode (|||50000|)"),
            ("{HEARD}", "229 Entering Extended Passive Mode (|||50000|)"),
            ("{PORT}", "EPRT |2|fd00::7|50000|"),
            ("{MOVED}", "EPRT |2|2001:db8::10|50000|"),
        ],
        publish: publish_v6,
        masquerade: masquerade_v6,
    },
];

impl Family {
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, word) in self.words {
            text = text.replace(name, word);
        }
        text
    }
}

fn play(row: &Row, family: &Family, mut it: Conversation) {
    let about = format!("{} ({})", row.about, family.name);
    for turn in row.turns {
        match turn {
            Client(said) | Changed(said, _) => {
                let heard = if let Changed(_, heard) = turn {
                    heard
                } else {
                    said
                };
                let wanted = crate::conversation::escaped(family.fill(heard).as_bytes());
                assert_eq!(it.client(family.fill(said)), wanted, "{about}");
            }
            Server(said) | Rewritten(said, _) => {
                let heard = if let Rewritten(_, heard) = turn {
                    heard
                } else {
                    said
                };
                let wanted = family.fill(heard);
                assert_eq!(it.server(family.fill(said)), wanted, "{about}");
            }
        }
    }
    assert_eq!(
        it.gate.openings().len(),
        row.opens,
        "{about}: {:?}",
        it.gate.calls
    );
    for (counter, times) in row.counts {
        let about = format!("{about}: {counter:?} in {:?}", it.gate.calls);
        assert_eq!(it.gate.count_of(*counter), *times, "{about}");
    }
}

/// Runs rows with a client that has logged in at a published server.
fn published(rows: &[Row]) {
    for row in rows {
        for family in &FAMILIES {
            let it = Conversation::new((family.publish)([100, 5000])).log_in();
            play(row, family, it);
        }
    }
}

/// Runs rows with a client of our own that has logged in at an outside server.
fn masqueraded(rows: &[Row]) {
    for row in rows {
        for family in &FAMILIES {
            let it = Conversation::new((family.masquerade)([100, 5000])).log_in();
            play(row, family, it);
        }
    }
}

const ANSWERED: &[(Counter, usize)] = &[
    (Counter::PassedUnasked, 0),
    (Counter::PassedInside, 0),
    (Counter::PassedNoAddress, 0),
    (Counter::CommandWithheld, 0),
];

#[test]
fn replies_that_end_or_repeat_oddly_keep_no_pasv_from_its_answer() {
    published(&[
        Row {
            about: "a reply of several lines that ends with its code alone",
            turns: &[
                Client("TYPE I\r\n"),
                Server("200-blabla\r\n200-\r\n200\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "a line within that is another code alone",
            turns: &[
                Client("CWD x\r\n"),
                Server("250-\r\n550\r\n250\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "lines within that begin by digits",
            turns: &[
                Client("SIZE x\r\n"),
                Server("213-a\r\n2130 b\r\n2 c\r\n227\r\n 213 d\r\n213 e\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: &[(Counter::PassedUnasked, 0)],
        },
        Row {
            about: "FEAT in lines that each begin with the code",
            turns: &[
                Client("FEAT\r\n"),
                Server("211-Features\r\n211-EPSV\r\n211-UTF8\r\n211 End\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "FEAT in replies of one line each",
            turns: &[
                Client("FEAT\r\n"),
                Server("211 EPSV\r\n211 UTF8\r\n211 End\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "an end with another code",
            turns: &[
                Client("STOR x\r\n"),
                Server("553-\r\n553- Directory excluded\r\n150 Opening\r\n"),
                Client("NOOP\r\n"),
                Server("200 Ok\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            // The transfer's own connection is one that the client waits for.
            opens: 2,
            counts: &[(Counter::PassedUnasked, 0), (Counter::PassedInside, 0)],
        },
        Row {
            about: "the answer of the command before comes late",
            turns: &[
                Client("CWD x\r\n"),
                Server("200 OK\r\n"),
                Client("{PASV}\r\n"),
                Server("250 Directory successfully changed.\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "two refusals, and the answer behind them in one segment",
            turns: &[
                Client("OPTS MLST x\r\n{PASV}\r\n"),
                Rewritten(
                    "500 Unknown\r\n500 Unknown\r\n{227}\r\n",
                    "500 Unknown\r\n500 Unknown\r\n{HEARD}\r\n",
                ),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "two preliminary replies, and the end of a transfer before its start",
            turns: &[
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
                Client("RETR x\r\n"),
                Server("125 Open\r\n150 Opening\r\n226 Done\r\n"),
                Client("RETR y\r\n"),
                Server("226 Done\r\n150 Opening\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 2,
            counts: ANSWERED,
        },
        Row {
            about: "ABOR with telnet's signals, answered twice",
            turns: &[
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
                Client("RETR x\r\n"),
                Server("150 Opening\r\n"),
                Client("ABOR\r\n"),
                Server("426 Aborted\r\n226 Closing\r\n225 Closed\r\n"),
                Client("{PASV}\r\nRETR y\r\n"),
                Rewritten("{227}\r\n150 Opening\r\n", "{HEARD}\r\n150 Opening\r\n"),
            ],
            opens: 2,
            counts: ANSWERED,
        },
        Row {
            about: "no transfer: ABOR is not answered",
            turns: &[
                Client("ABOR\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "421 in between, and another login",
            turns: &[
                Client("{PASV}\r\n"),
                Server("421 Timeout\r\n"),
                Client("USER a\r\n"),
                Server("331 Password\r\n"),
                Client("PASS b\r\n"),
                Server("332 Account\r\n"),
                Client("ACCT c\r\n"),
                Server("230 In\r\n"),
                Client("RNFR x\r\n"),
                Server("532 Account\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
    ]);
}

#[test]
fn a_code_may_have_anything_but_a_digit_behind_it() {
    for greeting in [
        "220: Service ready",
        "220\tHi",
        "220",
        "220Hello",
        "220-a\r\n220.b",
    ] {
        for reply in ["230: In", "230In", "230\tIn"] {
            let mut it = Conversation::new(silent(publish([100, 5000])));
            it.server(format!("{greeting}\r\n"));
            it.client("USER a\r\n");
            it.server(format!("{reply}\r\n"));
            let heard = it.ask("PASV", "227: Passive (10,0,0,5,195,80)\r\n");
            assert_eq!(heard, "227: Pas (203,0,113,10,195,80)\r\n");
            assert_eq!(it.gate.openings().len(), 1, "{greeting} {reply}");
        }
    }
    for (said, heard) in [
        (
            "227Entering passive mode(10,0,0,5,195,80)",
            "227Entering passive (203,0,113,10,195,80)",
        ),
        (
            "227EnteringPassiveMode(10,0,0,5,195,80)",
            "227EnteringPassive(203,0,113,10,195,80)",
        ),
        ("227(10,0,0,5,195,80)", "227(203,0,113,10,195,80)"),
        ("227(255,255,255,255,195,80)", "227   (203,0,113,10,195,80)"),
        ("227\t(10,0,0,5,195,80)", "227\t(203,0,113,10,195,80)"),
        ("227: (10,0,0,5,195,80)", "227: (203,0,113,10,195,80)"),
        ("227=10,0,0,5,195,80", "227=203,0,113,10,195,80"),
    ] {
        let mut it = Conversation::publish();
        assert_eq!(
            it.ask("PASV", format!("{said}\r\n")),
            format!("{heard}\r\n")
        );
        assert_eq!(it.gate.openings(), [(50_000, 50_000)], "{said}");
        // Unasked they are no less told.
        it.server(format!("{said}\r\n"));
        assert_eq!(it.gate.count_of(Counter::PassedUnasked), 1, "{said}");
    }
    let mut it = Conversation::publish();
    for said in ["2275 (10,0,0,5,195,80)\r\n", "2291 (|||50000|)\r\n"] {
        assert_eq!(it.ask("PASV", said), said);
    }
    assert_eq!(it.gate.openings(), []);
}

/// Whatever passes as it is, is told with its reason.
#[test]
fn no_announcement_passes_untold() {
    for (asked, said, reason) in [
        ("", "227 (10,0,0,5,195,80)\r\n", Counter::PassedUnasked),
        ("NOOP\r\n", "229 (|||50000|)\r\n", Counter::PassedUnasked),
        (
            "PASV\r\n",
            "227 Entering (2,233,252)\r\n",
            Counter::PassedNoAddress,
        ),
        (
            "PASV\r\n",
            "227 (0:0:0:0:0:0:0:1,219,195)\r\n",
            Counter::PassedNoAddress,
        ),
        (
            "PASV\r\n",
            "227 (10,0,0,5,195,80,)\r\n",
            Counter::PassedNoAddress,
        ),
        ("EPSV\r\n", "229 (||50000|)\r\n", Counter::PassedNoAddress),
        ("EPSV\r\n", "229 (|||50000)\r\n", Counter::PassedNoAddress),
        ("EPSV\r\n", "229 Ok 50000\r\n", Counter::PassedNoAddress),
        ("EPSV\r\n", "229\r\n", Counter::PassedNoAddress),
        (
            "PASV\r\n",
            "200-a\r\n227 (10,0,0,5,195,80)\r\n",
            Counter::PassedInside,
        ),
        (
            "SITE x\r\n",
            "200-a\r\n229-(|||50000|)\r\n",
            Counter::PassedInside,
        ),
    ] {
        for mut it in [Conversation::publish(), Conversation::publish_v6()] {
            it.client(asked);
            assert_eq!(it.server(said), said);
            assert_eq!(it.gate.openings(), [], "{said}");
            assert_eq!(it.gate.count_of(reason), 1, "{said}: {:?}", it.gate.calls);
        }
    }
    // A server that closes within the line.
    let mut it = Conversation::publish();
    it.client("PASV\r\n");
    let last = ftp_nat_common::host::Segment {
        seq: it.session.replies.seen,
        payload: b"227 10,0,0,5,195,80".to_vec(),
        fin: true,
        ..ftp_nat_common::host::Segment::default()
    };
    assert_eq!(it.pass(true, &last).as_ref(), Some(&last));
    assert_eq!(it.gate.count_of(Counter::PassedUnread), 1);
}

/// PASV over IPv6: six numbers tell the port alone (vsftpd says 0,0,0,0, and lftp takes it).
#[test]
fn a_227_over_ipv6_tells_the_port() {
    let said = "227 Entering Passive Mode (0,0,0,0,195,80).\r\n";
    let mut it = Conversation::publish_v6();
    assert_eq!(it.ask("PASV", said), said);
    assert_eq!(it.gate.openings(), [(50_000, 50_000)]);
    assert_eq!(it.gate.count_of(Counter::Unchanged), 1);
    // Its port is another one's: the text keeps its length.
    let mut it = Conversation::publish_v6();
    it.gate.taken.insert(50_000, 61_000);
    let heard = "227 Entering Passive Mode (0,0,0,0,238,72).\r\n";
    assert_eq!(it.ask("PASV", said), heard);
    assert_eq!(it.gate.openings(), [(50_000, 61_000)]);
}

#[test]
fn odd_commands_are_what_servers_take_them_for() {
    published(&[
        Row {
            about: "lower case, several blanks, tabs, arguments",
            turns: &[
                Client("type i\r\n"),
                Server("200 I\r\n"),
                Client("epsv  1\r\n"),
                Server("522 No\r\n"),
                Client("ePsV\t2\r\n"),
                Server("522 No\r\n"),
                Client("{PASV}  \r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "EPSV ALL, and a PASV asked twice",
            turns: &[
                Client("epsv all\r\n"),
                Server("200 Ok\r\n"),
                Client("{PASV}\r\n{PASV}\r\n"),
                Rewritten("{227}\r\n{227}\r\n", "{HEARD}\r\n{HEARD}\r\n"),
            ],
            opens: 2,
            counts: ANSWERED,
        },
        Row {
            about: "EPSV ALL with blanks is a promise that nothing waits for",
            turns: &[
                Client("EPSV  ALL\r\n"),
                Server("200 Ok\r\n"),
                Client("NOOP\r\n"),
                Server("{227}\r\n"),
            ],
            opens: 0,
            counts: &[(Counter::PassedUnasked, 1)],
        },
        Row {
            about: "an answer of another code: 200, or long passive mode's 228",
            turns: &[
                Client("{PASV}\r\n"),
                Server("228 Entering Long Passive Mode (4,4,10,0,0,5,2,195,80)\r\n"),
                Client("{PASV}\r\n"),
                Server("200 (10,0,0,5,195,80)\r\n"),
                Client("NOOP\r\n"),
                Server("{227}\r\n"),
            ],
            opens: 0,
            counts: &[(Counter::PassedUnasked, 1)],
        },
        Row {
            about: "HOST, LANG, CLNT, MODE Z, PRET and their answers",
            turns: &[
                Client("HOST ftp.example\r\n"),
                Server("220 Host accepted\r\n"),
                Client("LANG de\r\n"),
                Server("200 Deutsch\r\n"),
                Client("MODE Z\r\nCLNT x\r\nPRET RETR y\r\n{PASV}\r\n"),
                Rewritten(
                    "200 Z\r\n200 Noted\r\n200 OK\r\n{227}\r\n",
                    "200 Z\r\n200 Noted\r\n200 OK\r\n{HEARD}\r\n",
                ),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "transfers between two servers by TLS",
            turns: &[
                Client("SSCN ON\r\n"),
                Server("200 SSCN:CLIENT METHOD\r\n"),
                Client("CPSV\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "many commands in flight, as of lftp that does not wait",
            turns: &[
                Client("CWD /a\r\nTYPE I\r\nSIZE b\r\nMDTM b\r\n{PASV}\r\nRETR b\r\nSYST\r\n"),
                Rewritten(
                    "250 Ok\r\n200 I\r\n213 5\r\n213 20260101000000\r\n{227}\r\n150 Open\r\n226 Done\r\n215 UNIX\r\n",
                    "250 Ok\r\n200 I\r\n213 5\r\n213 20260101000000\r\n{HEARD}\r\n150 Open\r\n226 Done\r\n215 UNIX\r\n",
                ),
                Client("QUIT\r\n"),
                Server("221-Bye\r\n 5 bytes\r\n221 Bye\r\n"),
            ],
            opens: 1,
            counts: ANSWERED,
        },
        Row {
            about: "REIN: the default data port is the one that counts again",
            turns: &[
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
                Client("REIN\r\n"),
                Server("120 Wait\r\n220 Ready\r\n"),
                Client("RETR x\r\n"),
            ],
            opens: 2,
            counts: ANSWERED,
        },
        Row {
            about: "Kerberos: commands and replies that are protected one by one",
            turns: &[
                Client("AUTH GSSAPI\r\n"),
                Server("334 Using authentication type GSSAPI\r\n"),
                Client("ADAT YII=\r\n"),
                Server("235 ADAT=YII=\r\n"),
                Client("ENC RVBTVg==\r\n"),
                Server("632 MjI5\r\n"),
                Client("{PASV}\r\n"),
                Rewritten("{227}\r\n", "{HEARD}\r\n"),
            ],
            opens: 1,
            counts: &[
                (Counter::PassedEncrypted, 1),
                (Counter::SessionEncrypted, 0),
            ],
        },
    ]);
    masqueraded(&[
        Row {
            about: "lower case, blanks, a line feed alone, two in a segment, twice",
            turns: &[
                Changed("{PORT}\n", "{MOVED}\n"),
                Server("200 Ok\r\n"),
                Changed("NOOP\r\n{PORT}\r\n", "NOOP\r\n{MOVED}\r\n"),
                Server("200 Ok\r\n200: Ok\r\n"),
                Changed("{PORT}\r\n{PORT}\r\n", "{MOVED}\r\n{MOVED}\r\n"),
            ],
            opens: 4,
            counts: &[],
        },
        Row {
            about: "telnet's signals in front of a command",
            turns: &[
                Changed("\u{0}\r\n{PORT}\r\n", "\u{0}\r\n{MOVED}\r\n"),
                Server("200 Ok\r\n"),
                Client("ABOR\r\nREIN\r\nQUIT\r\n"),
            ],
            opens: 1,
            counts: &[],
        },
        Row {
            about: "an outside server's 227 is its own business",
            turns: &[
                Client("{PASV}\r\n"),
                Server("{227}\r\n"),
                Server("{227}\r\n"),
                Client("LPSV\r\n"),
                Server("228 (4,4,10,0,0,5,2,195,80)\r\n"),
            ],
            opens: 0,
            counts: &[(Counter::PassedUnasked, 0)],
        },
    ]);
}

/// A line feed in a command is part of a name to servers that end lines with CR LF alone, and such names
/// come back at line starts: no 227 among them is an answer.
#[test]
fn a_line_feed_in_a_name_makes_no_reply() {
    let name = "x\n227 PWD (10,0,0,5,31,144)";
    // What the server of each pipelined command answers, with the name in it.
    for (commands, said) in [
        (
            format!("MKD {name}\r\nPASV\r\n"),
            format!("257 \"/{name}\" created\r\n"),
        ),
        (
            "PWD\r\nPASV\r\n".into(),
            format!("257 \"/{name}\" is the current directory\r\n"),
        ),
        (
            "CWD y\r\nPASV\r\n".into(),
            format!("250 \"/{name}\" is the current directory\r\n"),
        ),
        ("SYST\r\nPASV\r\n".into(), format!("215 {name}\r\n")),
        ("LANG x\r\nPASV\r\n".into(), format!("504 {name}\r\n")),
        (
            "DELE x\r\nPASV\r\n".into(),
            format!("550-a\r\n550 {name}: no such file\r\n"),
        ),
        // The PASV itself is part of the name.
        (
            "MKD x\nPASV\n227 PWD (10,0,0,5,31,144)\r\n".into(),
            "257 \"/x\nPASV\n227 PWD (10,0,0,5,31,144)\" created\r\n".into(),
        ),
        (
            "PASV\n227\tPWD (10,0,0,5,31,144)\r\n".into(),
            "500 Command \"PASV\n227\tPWD (10,0,0,5,31,144)\" not understood\r\n".into(),
        ),
        (
            "NOOP\nPASV\r\n".into(),
            "500 Command \"NOOP\nPASV\" not understood\n227 (10,0,0,5,31,144)\r\n".into(),
        ),
    ] {
        for wait in [0, 12_000] {
            let mut it = Conversation::publish();
            it.client(&commands);
            it.wait(wait);
            it.server(&said);
            it.wait(12_000);
            assert_eq!(
                it.gate.openings(),
                [],
                "{commands:?} {wait}: {:?}",
                it.gate.calls
            );
        }
        // The reply comes in pieces, as its client's window has it.
        let at = said.find("\n227").unwrap() + 1;
        let mut it = Conversation::publish();
        let (first, _) = commands.split_at(commands.find("PASV").unwrap());
        it.client(if first.is_empty() { &commands } else { first });
        it.server_alone(&said[..at]);
        it.client("PASV\r\n");
        it.server(&said[at..]);
        assert_eq!(
            it.gate.openings(),
            [],
            "{commands:?} in pieces: {:?}",
            it.gate.calls
        );
    }
}

/// Servers and clients whose lines end with a line feed alone lose nothing, and no time.
#[test]
fn line_feeds_alone_are_line_ends_where_they_are_meant_so() {
    // A server of that kind.
    let mut it = Conversation::new(silent(publish([100, 5000])));
    it.server("220-Hi\n220 Hi\n");
    it.ask("USER a", "331 b\n");
    it.ask("PASS a", "230-c\n230 d\n");
    it.client("CWD x\r\nSYST\r\nPASV\r\n");
    it.server("250 e\n215 f\n227 (10,0,0,5,195,80)\n");
    it.ask("PASV", "227 (10,0,0,5,195,81)\n");
    assert_eq!(it.gate.openings().len(), 2);
    assert_eq!(it.gate.count_of(Counter::CommandWithheld), 0);
    // Only its replies are, not its greeting: what is asked at once loses a repetition's time.
    let mut it = Conversation::publish();
    it.ask("CWD x", "250 e\n");
    it.client("PASV\r\n");
    it.wait(600);
    it.server("227 (10,0,0,5,195,80)\n");
    assert_eq!(it.gate.openings().len(), 1);
    assert_eq!(it.gate.count_of(Counter::CommandWithheld), 1);
    // A client of that kind.
    let mut it = Conversation::new(silent(publish([100, 5000])));
    it.server("220 Hi\r\n");
    it.client("USER a\n");
    it.server("331 b\r\n");
    it.client("PASS b\n");
    it.server("530 No\r\n");
    it.client("TYPE I\nPASV\nRETR x\n");
    it.server("200 I\r\n227 (10,0,0,5,195,80)\r\n150 c\r\n226 d\r\n");
    it.client("EPSV\n");
    it.server("229 (|||50001|)\r\n");
    assert_eq!(it.gate.openings().len(), 2);
    assert_eq!(it.gate.count_of(Counter::CommandWithheld), 0);
}

/// Telnet's commands with their options, blanks, empty lines and a byte order mark are no other beginning.
#[test]
fn what_clients_send_in_front_of_a_command_is_no_other_beginning() {
    for first in [
        &b"\xff\xf4\xff\xf2USER x\r\n"[..],
        b"\xff\xfd\x03\xff\xfb\x00\r\nUSER x\r\n",
        b" \tUSER x\r\n",
        b"\r\n\nUSER x\r\n",
        b"\xef\xbb\xbfUSER x\r\n",
    ] {
        for family in &FAMILIES {
            let mut it = Conversation::new(silent((family.masquerade)([1, 2])));
            it.server("220 Hi\r\n");
            it.client(first);
            it.client(family.fill("{PORT}\r\n"));
            assert_eq!(it.gate.openings().len(), 1, "{}", first.escape_ascii());
        }
    }
}

/// What begins as something else opens nothing in either role.
#[test]
fn what_does_not_begin_as_ftp_opens_nothing() {
    for first in [
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "post /x HTTP/1.0\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a:21 HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "EHLO a\r\n",
        "SSH-2.0-a\r\n",
        "\u{0}\u{0}\u{0}GET /\r\n",
        "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}\n",
        "a\u{0}b\n",
        "\u{4}\u{1}\u{0}\u{15}abcdefgh\n",
        "\u{0}\u{0}\u{0}\n",
        "\u{0}\n\r\nUSER x\r\n",
        "\u{1}\u{2}\r\n",
        "{}\r\n",
        "12 34\r\n",
    ] {
        for family in &FAMILIES {
            let mut it = Conversation::new(silent((family.masquerade)([1, 2])));
            it.server("220 Hi\r\n");
            it.client(first);
            let said = family.fill("{PORT}\r\n");
            assert_eq!(it.client(&said), format!("XXXX{}", &said[4..]), "{first:?}");
            it.client("RETR x\r\n");
            assert_eq!(it.gate.openings(), [], "{first:?}");
            assert_eq!(it.gate.count_of(Counter::DeniedNotFtp), 1, "{first:?}");

            let mut it = Conversation::new(silent((family.publish)([1, 2])));
            it.server("220 Hi\r\n");
            it.client(first);
            it.server("500 What?\r\n");
            it.client(family.fill("{PASV}\r\n"));
            it.wait(12_000);
            let heard = it.server(family.fill("{227}\r\n"));
            assert!(heard.starts_with("425 "), "{first:?}: {heard}");
            assert_eq!(it.gate.openings(), [], "{first:?}");
        }
    }
}
