//! Conversations of public reports, in which servers or clients say something odd: each ends with a
//! transfer that must come about.

mod scene;

use anyhow::ensure;

pub use self::scene::{CONTROL_IDLE, Scene, Version};
use self::scene::{
    DATA_PORT, LAST, PLAIN, Speaker, active, answering, default_port, listen, long_transfer,
    passive, same_port, scripted, urgent, with_tls, words,
};
use crate::{
    scripted::Script,
    server::{FtpServer, Kind, Settings},
};

/// Those with a server inside, published at port 21, and a client outside.
pub const PUBLISHED: &[Scene] = &[
    Scene {
        name: "a reply of several lines ends with its code alone",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = "250-\r\n x\r\n250\r\n";
            passive(lab, over, &["MLST x"], reply, "{PASV}", PLAIN)
        },
    },
    Scene {
        name: "a reply of several lines ends with another code",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = "553-\r\n553- no\r\n150 so\r\n";
            passive(lab, over, &["RNFR x"], reply, "{PASV}", PLAIN)
        },
    },
    Scene {
        name: "a command before PASV is refused twice",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = format!("500 a\r\n500 b\r\n{PLAIN}");
            passive(lab, over, &[], "", "OPTS x\r\n{PASV}", &reply)
        },
    },
    Scene {
        name: "the answer of the command before PASV comes late",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = format!("250 done\r\n{PLAIN}");
            passive(lab, over, &[], "", "{PASV}", &reply)
        },
    },
    Scene {
        name: "P@SW, as some routers write PASV",
        versions: Version::BOTH,
        play: |lab, over| passive(lab, over, &[], "", "P@SW", PLAIN),
    },
    Scene {
        name: "the answer to PASV names the gateway's own address",
        versions: Version::BOTH,
        play: |lab, over| passive(lab, over, &[], "", "{PASV}", "{public 227}\r\n"),
    },
    Scene {
        name: "telnet's codes in front of PASV",
        versions: Version::BOTH,
        play: |lab, over| passive(lab, over, &[], "", "\u{ff}\u{fd}\u{3}{PASV}", PLAIN),
    },
    Scene {
        name: "no blank behind the code",
        versions: Version::BOTH,
        play: |lab, over| passive(lab, over, &[], "", "{PASV}", "{tight 227}\r\n"),
    },
    Scene {
        name: "TLS ends, and the answer to PASV is in the segment of its last record",
        versions: Version::BOTH,
        play: |lab, over| {
            let script = with_tls(answering(over, &format!("{LAST}{PLAIN}")));
            let _server = scripted(lab.server(), over, script)?;
            let mut client = Speaker::clear(lab.client(), over.published())?;
            client.say(&over.fill(&format!("{LAST}{{PASV}}")))?;
            client.fetch(over)
        },
    },
    Scene {
        name: "no PORT: the server connects to the control connection's own port",
        versions: Version::BOTH,
        play: |lab, over| {
            let _server = scripted(lab.server(), over, Script::default())?;
            default_port(lab.client(), over.of(lab.client()), over.published())
        },
    },
    Scene {
        name: "PORT of the same port three times, from port 20",
        versions: Version::BOTH,
        play: |lab, over| {
            let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
            same_port(lab.client(), &server, over, over.published())
        },
    },
    Scene {
        name: "PORT and an urgent ABOR in one segment",
        versions: Version::BOTH,
        play: |lab, over| {
            let own = over.of(lab.client());
            urgent(lab.client(), lab.server(), over, over.published(), own)
        },
    },
    Scene {
        name: "a transfer takes longer than a control connection may rest",
        versions: Version::BOTH,
        play: |lab, over| {
            // The kernel's helper may let it rest for as long.
            let idle = "net.netfilter.nf_conntrack_tcp_timeout_established";
            lab.router.sysctl(idle, &CONTROL_IDLE.to_string())?;
            long_transfer(lab.client(), lab.server(), over, over.published())
        },
    },
];

/// Those with a client inside, whom the router lets out, and a server outside.
pub const MASQUERADED: &[Scene] = &[
    Scene {
        name: "a reply of several lines ends with its code alone",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = "250-\r\n x\r\n250\r\n";
            let port = over.port(over.of(lab.server()));
            active(lab, over, &[("MLST x", reply)], &port)
        },
    },
    Scene {
        name: "a command before PORT is refused twice",
        versions: Version::BOTH,
        play: |lab, over| {
            let reply = "500 a\r\n500 b\r\n";
            let port = over.port(over.of(lab.server()));
            active(lab, over, &[("OPTS x", reply)], &port)
        },
    },
    Scene {
        name: "PORT names the gateway's own address",
        versions: Version::BOTH,
        play: |lab, over| active(lab, over, &[], &over.port(over.published().ip())),
    },
    Scene {
        name: "P@SW, as some routers write PASV, and the server's own address",
        versions: Version::BOTH,
        play: |lab, over| {
            let outside = lab.client();
            let _server = scripted(outside, over, answering(over, PLAIN))?;
            let mut client = Speaker::log_in(lab.server(), over.control(outside))?;
            client.say("P@SW")?;
            client.fetch(over)
        },
    },
    Scene {
        name: "telnet's codes in front of PORT",
        versions: Version::BOTH,
        play: |lab, over| {
            let port = over.port(over.of(lab.server()));
            active(lab, over, &[], &format!("\u{ff}\u{fd}\u{3}{port}"))
        },
    },
    Scene {
        name: "EPRT without a blank behind it",
        versions: Version::BOTH,
        play: |lab, over| active(lab, over, &[], &over.tight_eprt(over.of(lab.server()))),
    },
    Scene {
        name: "EPRT with an IPv4 address in IPv6's form",
        versions: &[Version::V4],
        play: |lab, over| {
            let own = lab.server().v4;
            active(
                lab,
                over,
                &[],
                &format!("EPRT |2|::ffff:{own}|{DATA_PORT}|"),
            )
        },
    },
    Scene {
        name: "TLS ends, and PORT is in the segment of its last record",
        versions: Version::BOTH,
        play: |lab, over| {
            let (client, outside) = (lab.server(), lab.client());
            let _server = scripted(outside, over, with_tls(Script::default()))?;
            let own = over.of(client);
            let listener = listen(client, own, DATA_PORT)?;
            let mut client = Speaker::clear(client, over.control(outside))?;
            client.say(&format!("{LAST}{}", over.port(own)))?;
            client.wait_for("200")?;
            client.fetch_to(&listener)
        },
    },
    Scene {
        name: "no PORT: the server connects to the control connection's own port",
        versions: Version::BOTH,
        play: |lab, over| {
            let outside = lab.client();
            let _server = scripted(outside, over, Script::default())?;
            default_port(lab.server(), over.of(lab.server()), over.control(outside))
        },
    },
    Scene {
        name: "PORT of the same port three times, from port 20",
        versions: Version::BOTH,
        play: |lab, over| {
            let outside = lab.client();
            let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default())?;
            same_port(lab.server(), &server, over, over.control(outside))
        },
    },
    Scene {
        name: "PORT that grows and an urgent ABOR in one segment",
        versions: Version::BOTH,
        play: |lab, over| {
            let (outside, public) = (lab.client(), over.published().ip());
            urgent(lab.server(), outside, over, over.control(outside), public)
        },
    },
    Scene {
        name: "a transfer takes longer than a control connection may rest",
        versions: Version::BOTH,
        play: |lab, over| {
            let outside = lab.client();
            long_transfer(lab.server(), outside, over, over.control(outside))
        },
    },
];

/// Readers of a published server's 227 that go by its words. Not all of them are served: docs/decisions.md
/// says why.
pub const WORDS: &[Scene] = &[
    Scene {
        name: "a reader that takes the first digit behind the code",
        versions: &[Version::V4],
        play: |lab, _| {
            let reply = words(lab)?;
            let rest = reply.get(4..).unwrap_or_default();
            let digits = rest.trim_start_matches(|it: char| !it.is_ascii_digit());
            ensure!(
                digits.starts_with("198,51,100,1,"),
                "not the words: {reply}"
            );
            Ok(())
        },
    },
    Scene {
        name: "a reader that wants a blank in front of the parenthesis",
        versions: &[Version::V4],
        play: |lab, _| {
            let reply = words(lab)?;
            ensure!(reply.contains(" (198,51,100,1,"), "not the words: {reply}");
            Ok(())
        },
    },
    Scene {
        name: "a reader that wants `227 Entering Passive Mod` (IPFilter)",
        versions: &[Version::V4],
        play: |lab, _| {
            let reply = words(lab)?;
            let is_there = reply.starts_with("227 Entering Passive Mod");
            ensure!(is_there, "not the words: {reply}");
            Ok(())
        },
    },
];
