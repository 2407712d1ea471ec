//! Conversations of public reports about clients, servers and gateways. Each is held with a server inside and
//! with a client inside, over IPv4 and IPv6, and behind each a transfer is asked for in the ordinary way:
//! nothing that was said before may keep it from coming about.

use super::field::{Changed, Client, FAMILIES, Family, Rewritten, Server, Turn};
use crate::conversation::{Conversation, escaped, silent};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::host::Call;

/// A conversation behind a login.
struct Report {
    about: &'static str,
    turns: &'static [Turn],
    /// How many passive connections it opens by itself.
    opens: usize,
    /// What is counted of a published server's, beside what every conversation counts.
    passed: &'static [Counter],
}

/// What tells of something that was not understood.
const ODD: [Counter; 8] = [
    Counter::PassedUnasked,
    Counter::PassedInside,
    Counter::PassedNoAddress,
    Counter::PassedUnread,
    Counter::PassedTooLong,
    Counter::DeniedDoubtful,
    Counter::DeniedUnreadable,
    Counter::Refused227,
];

fn passives(it: &Conversation) -> usize {
    let openings = it.gate.calls.iter();
    openings
        .filter(|call| matches!(call, Call::Opened(opening, _) if opening.kind == ftp_nat_common::abi::kind::PASSIVE))
        .count()
}

/// Holds the conversation; in `is_published`, replies are rewritten as the turns say, and else they pass.
fn hold(it: &mut Conversation, turns: &[Turn], family: &Family, is_published: bool, about: &str) {
    for turn in turns {
        let (is_reply, said, heard) = match turn {
            Client(said) => (false, said, said),
            Changed(said, heard) => (false, said, heard),
            Server(said) => (true, said, said),
            Rewritten(said, heard) => (true, said, if is_published { heard } else { said }),
        };
        let said = family.fill(said);
        let wanted = escaped(family.fill(heard).as_bytes());
        let found = if is_reply {
            it.server(&said)
        } else {
            it.client(&said)
        };
        assert_eq!(found, wanted, "{about}: {said:?}");
    }
}

#[test]
fn a_transfer_comes_about_behind_each() {
    let mut faults = Vec::new();
    for report in REPORTS {
        for family in &FAMILIES {
            let about = format!("{} ({}, server inside)", report.about, family.name);
            let result = std::panic::catch_unwind(|| {
                let mut it = Conversation::new((family.publish)([100, 5000])).log_in();
                hold(&mut it, report.turns, family, true, &about);
                assert_eq!(passives(&it), report.opens, "{about}: {:?}", it.gate.calls);
                for counter in ODD {
                    let wanted = report.passed.iter().filter(|it| **it == counter).count();
                    let found = it.gate.count_of(counter);
                    assert_eq!(found, wanted, "{about}: {counter:?} in {:?}", it.gate.calls);
                }
                it.wait(600);
                it.client(family.fill("{PASV}\r\n"));
                it.wait(600);
                let heard = it.server(family.fill("{227}\r\n"));
                assert_eq!(heard, family.fill("{HEARD}\r\n"), "{about}: behind it");
                assert_eq!(passives(&it), report.opens + 1, "{about}: behind it");
            });
            faults.extend(result.err().map(|_| about));

            let about = format!("{} ({}, client inside)", report.about, family.name);
            let result = std::panic::catch_unwind(|| {
                let mut it = Conversation::new((family.masquerade)([100, 5000])).log_in();
                hold(&mut it, report.turns, family, false, &about);
                assert_eq!(passives(&it), 0, "{about}: {:?}", it.gate.calls);
                let heard = it.client(family.fill("{PORT}\r\n"));
                assert_eq!(heard, family.fill("{MOVED}\r\n"), "{about}: behind it");
                assert_eq!(
                    it.gate.openings().last(),
                    Some(&(50_000, 50_000)),
                    "{about}: behind it"
                );
            });
            faults.extend(result.err().map(|_| about));
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

const REPORTS: &[Report] = &[
    Report {
        // An old Twisted.
        about: "a client that takes each line of a reply for a whole one, and goes on",
        turns: &[
            Client("PASS x\r\n"),
            Server("230-Hello\r\n"),
            Client("TYPE I\r\n"),
            Server("230-Direct questions to x\r\n"),
            Client("CWD y\r\n"),
            Server("230 User logged in.\r\n200 Type set to I\r\n250 In\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        // node-ftp: the password was never sent.
        about: "PASV refused for want of a login, pipelined behind TYPE",
        turns: &[
            Client("FEAT\r\nTYPE I\r\nTYPE A\r\n{PASV}\r\n"),
            Server("500 No\r\n200 I\r\n200 A\r\n530 Please login\r\n"),
            Client("PASS x\r\n"),
            Server("230 In\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        // LightFTP: the interface's address was not known.
        about: "an answer to PASV that breaks off in front of its address",
        turns: &[
            Client("{PASV}\r\n"),
            Server("227 Entering Passive Mode (\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedNoAddress],
    },
    Report {
        // aioftp in front of Transmit and NcFTP.
        about: "an answer to PASV of two lines, the first of which says something else",
        turns: &[
            Client("PASV\r\n"),
            Server("227-listen socket created\r\n227 no address\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedNoAddress],
    },
    Report {
        // basic-ftp.
        about: "CWD answered by 200 and again by 250, which comes behind PASV",
        turns: &[
            Client("CWD project\r\n"),
            Server("200 OK\r\n"),
            Client("CWD media\r\n"),
            Server("250 Directory successfully changed.\r\n"),
            Client("{PASV}\r\n"),
            Rewritten(
                "250 Directory successfully changed.\r\n{227}\r\n",
                "250 Directory successfully changed.\r\n{HEARD}\r\n",
            ),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "the login is said again",
        turns: &[
            Client("USER a\r\n"),
            Server("331 b\r\n"),
            Client("PASS c\r\n"),
            Server("530-No\r\n530 Login incorrect\r\n"),
            Client("USER a\r\n"),
            Server("230 Already in\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "REIN, with a greeting anew",
        turns: &[
            Client("REIN\r\n"),
            Server("120 Wait\r\n"),
            Server("220 Again\r\n"),
            Client("USER a\r\n"),
            Server("331 b\r\n"),
            Client("PASS c\r\n"),
            Server("230 In\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "commands that nobody knows, refused each in its own way",
        turns: &[
            Client("HOST ftp.example\r\n"),
            Server("504 No\r\n"),
            Client("CLNT x 1.0\r\n"),
            Server("500 CLNT x 1.0: what?\r\n"),
            Client("SMNT /x\r\n"),
            Server("202 Not needed\r\n"),
            Client("MODE Z\r\n"),
            Server("504-No\r\n504 Z\r\n"),
            Client("OPTS UTF8 ON\r\n"),
            Server("202 UTF8 is always on\r\n"),
            Client("OPTS MLST type;size;\r\n"),
            Server("200 MLST OPTS type;size;\r\n"),
            Client("STRU F\r\n"),
            Server("200 F\r\n"),
            Client("ALLO 5\r\n"),
            Server("202 No need\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "AUTH refused, and on in clear text",
        turns: &[
            Client("AUTH TLS\r\n"),
            Server("530 Please login\r\n"),
            Client("AUTH TLS\r\n"),
            Server("534 No\r\n"),
            Client("AUTH SSL\r\n"),
            Server("431 No\r\n"),
            Client("AUTH GSSAPI\r\n"),
            Server("504-No\r\n504 GSSAPI\r\n"),
            Client("PBSZ 0\r\n"),
            Server("503 AUTH first\r\n"),
            Client("PROT P\r\n"),
            Server("536 No\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "EPSV ALL, and what a server takes for EPSV",
        turns: &[
            Client("EPSV ALL\r\n"),
            Server("200 EPSV ALL ok\r\n"),
            Client("EPSV ALL\r\n"),
            Server("229 Entering Extended Passive Mode (|||50000|)\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedUnasked],
    },
    Report {
        about: "EPSV refused in all codes, and PASV asked instead",
        turns: &[
            Client("EPSV\r\n"),
            Server("500 'EPSV': command not understood.\r\n"),
            Client("EPSV 1\r\n"),
            Server("522 Protocol not supported, use (1,2)\r\n"),
            Client("EPSV 2\r\n"),
            Server("501-a\r\n501 b\r\n"),
            Client("EPSV\r\n"),
            Server("425 You cannot use EPSV\r\n"),
            Client("EPSV\r\n"),
            Server("421 Busy\r\n"),
            Client("EPSV\r\n"),
            Server("200 EPSV\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "PASV before the login",
        turns: &[
            Client("{PASV}\r\n"),
            Server("530 Please login with USER and PASS.\r\n"),
            Client("USER a\r\n"),
            Server("331 b\r\n"),
            Client("PASS c\r\n"),
            Server("230 In\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "PASV, RETR and QUIT in one segment",
        turns: &[
            Client("TYPE I\r\n{PASV}\r\nRETR x\r\nNOOP\r\n"),
            Rewritten(
                "200 I\r\n{227}\r\n150 x\r\n226 y\r\n200 z\r\n",
                "200 I\r\n{HEARD}\r\n150 x\r\n226 y\r\n200 z\r\n",
            ),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "PASV twice, of which the first is never used",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "227 said twice",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n{227}\r\n", "{HEARD}\r\n{227}\r\n"),
        ],
        opens: 1,
        passed: &[Counter::PassedUnasked],
    },
    Report {
        about: "226 before 150, 226 twice, 150 and nothing behind it",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("LIST\r\n"),
            Server("226 Done\r\n150 Here it comes\r\n226 Done\r\n226 Done again\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("NLST\r\n"),
            Server("150 That is all\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "transfers that end by 250, 200 and 225",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("STOR x\r\n"),
            Server("125 Go\r\n250 Done\r\n"),
            Client("STOR x\r\n"),
            Server("150 Go\r\n200 OK\r\n"),
            Client("ABOR\r\n"),
            Server("225 ABOR successful\r\n"),
            Client("ABOR\r\n"),
            Server("426 Closed\r\n226 Closing\r\n226 Done\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "empty lines between and before replies",
        turns: &[
            Client("SYST\r\n"),
            Server("\r\n215 UNIX\r\n\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("\r\n{227}\r\n\r\n", "\r\n{HEARD}\r\n\r\n"),
            Client("\r\n"),
            Client("NOOP\r\n"),
            Server("200 Ok\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "blanks behind the reply",
        turns: &[
            Client("{PASV}  \r\n"),
            Rewritten("{227}   \r\n", "{HEARD}   \r\n"),
            Client("{PASV}\t\r\n"),
            Rewritten("{227} \t\r\n", "{HEARD} \t\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "a welcome with 227 in it",
        turns: &[
            Client("PASS x\r\n"),
            Server("230-{227}\r\n227-{227}\r\n 227 (10,0,0,5,31,144)\r\n230-227\r\n230 In\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedInside],
    },
    Report {
        about: "a 227 within a welcome, as a line of its own",
        turns: &[
            Client("PASS x\r\n"),
            Server("230-Hi\r\n{227}\r\n230 In\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedInside],
    },
    Report {
        about: "FEAT that lists the commands without blanks in front",
        turns: &[
            Client("FEAT\r\n"),
            Server(
                "211-Extensions supported:\r\nPASV\r\nEPSV\r\n211-MDTM\r\n227\r\n229\r\n211 End\r\n",
            ),
        ],
        opens: 0,
        passed: &[Counter::PassedInside, Counter::PassedInside],
    },
    Report {
        about: "FEAT refused, and HELP with lines that begin by numbers",
        turns: &[
            Client("FEAT\r\n"),
            Server("502 No\r\n"),
            Client("HELP\r\n"),
            Server("214-Known:\r\n 227 PASV\r\n 2.0\r\n214 Done\r\n"),
            Client("HELP SITE\r\n"),
            Server("214-a\r\nb\r\n214 c\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "NOOP refused, not answered, and answered late",
        turns: &[
            Client("NOOP\r\n"),
            Server("500 What?\r\n"),
            Client("NOOP\r\n"),
            Client("NOOP\r\n"),
            Server("200 Ok\r\n"),
            Server("200 Ok\r\n200 Ok\r\n"),
            Client("noop\n"),
            Server("200 Zzz..\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "PRET and CPSV",
        turns: &[
            Client("PRET RETR x\r\n"),
            Server("200 OK, will use master for upcoming transfer\r\n"),
            Client("CPSV\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("SSCN ON\r\n"),
            Server("200 SSCN:CLIENT METHOD\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "names with 227 in them, by MKD, PWD and RETR",
        turns: &[
            Client("MKD 227 (10,0,0,5,31,144)\r\n"),
            Server("257 \"227 (10,0,0,5,31,144)\" created\r\n"),
            Client("PWD\r\n"),
            Server("257 \"/227 (10,0,0,5,31,144)\"\r\n"),
            Client("RETR 227 x\r\n"),
            Server("150 Opening 227 (10,0,0,5,31,144) (5 bytes)\r\n550 227 x: no\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "150 in front of the answer to PASV",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("125 Wait\r\n{227}\r\n", "125 Wait\r\n{HEARD}\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "421 within, and the server stays",
        turns: &[
            Client("CWD x\r\n"),
            Server("421-Busy\r\n421 Try again\r\n"),
            Client("CWD x\r\n"),
            Server("250 In\r\n250 Still in\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "codes alone, and codes with a tab or a dot behind them",
        turns: &[
            Client("TYPE I\r\n"),
            Server("200\r\n"),
            Client("CWD x\r\n"),
            Server("250\tIn\r\n"),
            Client("CWD y\r\n"),
            Server("550.\r\n"),
            Client("CWD z\r\n"),
            Server("550 \r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "a reply whose text is in another alphabet",
        turns: &[
            Client("CWD \u{4e2d}\r\n"),
            Server("250 CWD \u{ff}\u{0}\u{4e2d}\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "telnet's codes in front of ABOR and of PASV",
        turns: &[
            Client("ABOR\r\n"),
            Server("226 No transfer\r\n"),
            Client("\r\n  {PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "a reply of several lines that ends with another code, and one that never ends",
        turns: &[
            Client("RNFR x\r\n"),
            Server("350-a\r\n250 b\r\n"),
            Client("RNTO y\r\n"),
            Server("250-a\r\n"),
            Client("TYPE A\r\n"),
            Server("200 A\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "an answer to EPSV that lacks a separator, and another try (BulletProof)",
        turns: &[
            Client("EPSV\r\n"),
            Server("229 Entering Extended Passive Mode (||50000|)\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedNoAddress],
    },
    Report {
        about: "EPSV of an AS/400, and of Serv-U, with a dot behind it",
        turns: &[
            Client("EPSV\r\n"),
            Server("229 Entering Extended Passive Mode (!!!50000!).\r\n"),
            Client("EPSV\r\n"),
            Server("229 Entering Extended Passive Mode (|||50001|).\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "PASV answered by 229, behind a translator of IPv6",
        turns: &[
            Client("PASV\r\n"),
            Server("229 Entering Extended Passive Mode (|||50000|)\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "EPSV answered by 202 as if it were not needed (webMAN)",
        turns: &[Client("EPSV\r\n"), Server("202 OK\r\n")],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "vsftpd's answers to NOOP come with the next command's",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("RETR x\r\n"),
            Server("150 x\r\n"),
            Client("NOOP\r\n"),
            Client("NOOP\r\n"),
            Server("226 Transfer complete.\r\n"),
            Client("{PASV}\r\n"),
            Rewritten(
                "200 NOOP ok.\r\n200 NOOP ok.\r\n{227}\r\n",
                "200 NOOP ok.\r\n200 NOOP ok.\r\n{HEARD}\r\n",
            ),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "NOOP and PWD within a transfer, answered before its end and after it (FluentFTP, Cyberduck)",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("RETR x\r\n"),
            Server("125 x\r\n"),
            Client("NOOP\r\n"),
            Server("200 Zzz\r\n"),
            Client("PWD\r\n"),
            Server("226 Done\r\n"),
            Server("257 \"/\" is the current directory\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "150 that 425 takes back (1541ultimate)",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("LIST\r\n"),
            Server("150 Here it comes\r\n425 Cannot open the connection\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "FEAT and SITE of z/OS",
        turns: &[
            Client("FEAT\r\n"),
            Server("211- Extensions supported\r\nAUTH TLS\r\nPBSZ\r\nPROT\r\n211 End\r\n"),
            Client("SITE FILETYPE=SEQ\r\n"),
            Server("200-Using X\r\n200 SITE command was accepted\r\n"),
            Client("CWD 'A.'\r\n"),
            Server("250 \"A.\" is the working directory name prefix.\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "Pure-FTPd's listing ends in two lines",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("LIST\r\n"),
            Server("150 Accepted data connection\r\n226-Options: -l\r\n226 3 matches total\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "no free port for PASV, twice",
        turns: &[
            Client("{PASV}\r\n"),
            Server("425 Can't open passive connection\r\n"),
            Client("{PASV}\r\n"),
            Server("421-No ports\r\n421 Try later\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "REST between PASV and RETR, and between two PASV",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("REST 100\r\n"),
            Server("350 Restarting at 100\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("RETR x\r\n"),
            Server("150 x\r\n226 Done\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "folders that are there already, as cameras make them",
        turns: &[
            Client("MKD a\r\n"),
            Server("521-\"/a\" directory exists;\r\n521 taking no action.\r\n"),
            Client("CWD a\r\nMKD b\r\n"),
            Server("250 In\r\n550 b: File exists\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: ".NET's beginning, pipelined by an impatient one",
        turns: &[
            Client("OPTS utf8 on\r\n"),
            Server("501 option not supported\r\n"),
            Client("PWD\r\n"),
            Server("257 \"/\" is current directory.\r\n"),
            Client("TYPE I\r\n{PASV}\r\n"),
            Rewritten("200 I\r\n{227}\r\n", "200 I\r\n{HEARD}\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "checksums and other commands of FileZilla's and Serv-U's",
        turns: &[
            Client("XCRC x\r\n"),
            Server("250 1A2B3C4D\r\n"),
            Client("MFMT 20260101000000 x\r\n"),
            Server("213 modify=20260101000000; x\r\n"),
            Client("CSID Name=x; Version=1;\r\n"),
            Server("200 Name=y; Version=2;\r\n"),
            Client("AVBL\r\n"),
            Server("213 1000\r\n"),
            Client("RMDA x\r\n"),
            Server("250-Removing\r\n250 Done\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "Windows' own client: XPWD, NLST without PORT refused",
        turns: &[
            Client("XPWD\r\n"),
            Server("257 \"/\"\r\n"),
            Client("NLST\r\n"),
            Server("425 Use PORT or PASV first.\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "a listing by STAT, whose lines begin by numbers",
        turns: &[
            Client("STAT .\r\n"),
            Server("213-Status of .:\r\n227 bytes\r\n 229 x\r\n2290 y\r\n213 End\r\n"),
        ],
        opens: 0,
        passed: &[Counter::PassedInside],
    },
    Report {
        about: "replies that end by CR CR LF",
        turns: &[
            Client("TYPE I\r\n"),
            Server("200 I\r\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\r\n", "{HEARD}\r\r\n"),
        ],
        opens: 1,
        passed: &[],
    },
    Report {
        about: "a welcome in which each line is a reply by itself",
        turns: &[
            Client("PASS x\r\n"),
            Server("230 Hello\r\n230 Be nice\r\n230 In\r\n"),
            Client("SYST\r\n"),
            Server("215 UNIX\r\n"),
        ],
        opens: 0,
        passed: &[],
    },
    Report {
        about: "the server says 226 unasked, long after",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("STOR x\r\n"),
            Server("150 Go\r\n226 Done\r\n"),
            Server("226 Done\r\n"),
            Client("{PASV}\r\n"),
            Rewritten("226 Done\r\n{227}\r\n", "226 Done\r\n{HEARD}\r\n"),
        ],
        opens: 2,
        passed: &[],
    },
    Report {
        about: "ABOR in a transfer that has ended, answered by 225 late",
        turns: &[
            Client("{PASV}\r\n"),
            Rewritten("{227}\r\n", "{HEARD}\r\n"),
            Client("RETR x\r\n"),
            Server("150 x\r\n226 Done\r\n"),
            Client("ABOR\r\n{PASV}\r\n"),
            Rewritten(
                "225 No transfer\r\n{227}\r\n",
                "225 No transfer\r\n{HEARD}\r\n",
            ),
        ],
        opens: 2,
        passed: &[],
    },
];

/// What is said in front of a login, in both roles: the greeting, above all.
#[test]
fn greetings_of_all_kinds_are_ftp() {
    for greeting in [
        "220 \r\n",
        "220 Proxy\r\n220 Server\r\n",
        "220\r\n",
        "120 In a minute\r\n220 Now\r\n",
        "120-In\r\n120 a minute\r\n220-Now\r\n220 yes\r\n",
        "220-227 Entering Passive Mode (10,0,0,5,31,144)\r\n220 x\r\n",
        "220-x\r\n227 Entering Passive Mode (10,0,0,5,31,144)\r\n220 x\r\n",
        "220-\r\n220-\r\n\r\n   x\r\n220 y\r\n",
        "220-a\n220 b\n",
        "230 You are in\r\n",
        "\r\n220 x\r\n",
        "220-***\r\n220-*\r\n***\r\n220 x\r\n",
    ] {
        for family in &FAMILIES {
            let about = format!("{greeting:?} {}", family.name);
            let mut it = Conversation::new(silent((family.publish)([100, 5000])));
            assert_eq!(it.server(greeting), greeting);
            it.ask("USER a", "331 b\r\n");
            it.ask("PASS a", "230 c\r\n");
            it.client(family.fill("{PASV}\r\n"));
            let heard = it.server(family.fill("{227}\r\n"));
            assert_eq!(heard, family.fill("{HEARD}\r\n"), "{about}");
            assert_eq!(it.gate.openings().len(), 1, "{about}");

            let mut it = Conversation::new(silent((family.masquerade)([100, 5000])));
            it.server(greeting);
            it.ask("USER a", "331 b\r\n");
            let heard = it.client(family.fill("{PORT}\r\n"));
            assert_eq!(heard, family.fill("{MOVED}\r\n"), "{about}");
        }
    }
}

/// Pure-FTPd answers one command of those that come while a transfer goes on, whatever their number. A STAT
/// that is never answered may still be, with names in the answer: the PASV behind it is answered by what the
/// server says first.
#[test]
fn a_stat_that_is_never_answered_holds_no_pasv_up_for_long() {
    for family in &FAMILIES {
        for swallowed in ["NOOP\r\nSTAT\r\n", "STAT\r\nSTAT /\r\nNOOP\r\nSTAT\r\n"] {
            for said_before in ["", "STAT", "TYPE I"] {
                let about = format!("{swallowed:?} {said_before} {}", family.name);
                let mut it = Conversation::new((family.publish)([100, 5000])).log_in();
                it.client("STOR x\r\n");
                it.server("150 Go\r\n");
                it.client(swallowed);
                it.server("500 ?\r\n226 Done\r\n");
                if !said_before.is_empty() {
                    it.ask(said_before, "200-Fine\r\n200 I\r\n");
                }
                it.client(family.fill("{PASV}\r\n"));
                it.wait(1_600);
                assert_eq!(it.withheld, b"", "{about}");
                let heard = it.server(family.fill("{227}\r\n"));
                assert_eq!(heard, family.fill("{HEARD}\r\n"), "{about}");
                // From then on nothing is behind.
                it.ask("STAT", "211-Status\r\n211 End\r\n");
                it.client(family.fill("{PASV}\r\n"));
                it.wait(600);
                let heard = it.server(family.fill("{227}\r\n"));
                assert_eq!(heard, family.fill("{HEARD}\r\n"), "{about}");
                assert_eq!(passives(&it), 2, "{about}");
            }
        }
        // It was not swallowed: names are no answer, and the answer behind them is refused at once.
        for names in [
            "211-Status\r\n{227}\r\n211 End\r\n",
            "213-Status\r\n213 x\r\n{227}\r\n213 End\r\n",
            "550 x\r\n{227}\r\n",
        ] {
            let mut it = Conversation::new((family.publish)([100, 5000])).log_in();
            it.client("STOR x\r\n");
            it.server("150 Go\r\n");
            it.client("NOOP\r\nSTAT x\r\n");
            it.server("226 Done\r\n");
            it.client(family.fill("{PASV}\r\n"));
            it.wait(600);
            assert_ne!(it.withheld, b"", "{names}");
            it.wait(1_000);
            assert_eq!(it.withheld, b"", "{names}");
            it.server(family.fill(names));
            assert_eq!(passives(&it), 0, "{names}");
            it.server(family.fill("{227}\r\n"));
            assert_eq!(passives(&it), 0, "{names}");
            it.ask("NOOP", "200 Ok\r\n");
            it.client(family.fill("{PASV}\r\n"));
            it.wait(600);
            it.server(family.fill("{227}\r\n"));
            assert_eq!(passives(&it), 1, "{names}");
        }
    }
    // No transfer goes on: the answer may take its time.
    let mut it = Conversation::publish();
    it.client("NOOP\r\nSTAT /everything\r\nPASV\r\n");
    it.server("200 Ok\r\n");
    it.wait(5_000);
    assert_eq!(it.withheld, b"PASV\r\n");
    it.server("213-a\r\n213 End\r\n");
    assert_eq!(it.withheld, b"");
}
