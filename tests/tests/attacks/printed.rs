//! Servers print what clients have written: names in listings, arguments in errors, help texts. A
//! 227 in such text, at a line's start, is no announcement.

use std::{fs, io::Read as _, net::TcpStream};

use ftp_nat_tests::{
    control::address_in_227,
    scripted::{Script, ScriptedServer},
};

use super::{
    secret::{Secret, knock},
    *,
};

/// The server's own port that nobody may reach: `31,144` in a 227.
const SECRET: u16 = 8080;
/// What the attacker makes the server print.
const FORGED: &str = "227 Entering Passive Mode (10,0,0,5,31,144)";

/// Sends these bytes in one segment, reads all that comes for a while, and tries every door that it
/// might have opened.
fn try_doors(lab: &Lab, control: &mut Control, bytes: &[u8]) -> anyhow::Result<String> {
    control.send(bytes)?;
    let said = read_for(control.stream(), Duration::from_millis(400))?;
    let mut doors = vec![SocketAddr::from((WAN_ADDRESS, SECRET))];
    doors.extend(
        said.split(['\r', '\n', '\0'])
            .filter(|line| line.starts_with("227"))
            .filter_map(|line| address_in_227(line).ok())
            .filter(|door| door.ip() == IpAddr::V4(WAN_ADDRESS)),
    );
    doors.dedup();
    // The server's own announcements are doors too, but lead elsewhere.
    for door in doors {
        knock(client(lab), door);
    }
    Ok(said)
}

fn read_for(mut stream: &TcpStream, time: Duration) -> anyhow::Result<String> {
    let start = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 65536];
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    while start.elapsed() < time {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn server(lab: &Lab, kind: Kind) -> FtpServer {
    let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

#[test]
fn a_227_in_a_listing_on_the_control_connection_opens_nothing() {
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let host = lab.server();
    let secret = Secret::at(&host.namespace, host.at(SECRET), "secret");
    let mut failures = Failures::default();
    for kind in Kind::ALL {
        let server = server(&lab, kind);
        for code in ["211", "212", "213", "250"] {
            // As a client with a writable folder makes it, or anybody who brings files here.
            let name = format!("c\n{code} x\n{FORGED}");
            fs::create_dir(server.path_of(&name)).unwrap();
        }
        for line in [
            "STAT /download\r\nPASV\r\n",
            "STAT /download/*\r\nPASV\r\n",
            "CWD /download\r\nSTAT .\r\nPASV\r\n",
            "MLST /download\r\nPASV\r\n",
            "STAT /download\r\nSTAT /download\r\nPASV\r\nPASV\r\n",
            "STAT -laR /\r\nPASV\r\n",
        ] {
            let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
            let tried = try_doors(&lab, &mut control, line.as_bytes());
            let case = format!("{}, {line:?}", kind.name());
            failures.note(&case, tried.map(drop));
            failures.note(&case, secret.keep());
        }
        // The legitimate client beside.
        let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
        failures.note(kind.name(), fetch(&lab, &mut control));
    }
    failures.assert_none();
}

#[test]
fn a_folder_that_a_client_of_vsftpd_makes_opens_nothing() {
    // As packaged, with a writable folder: a NUL in a name is printed as a line end.
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let host = lab.server();
    let secret = Secret::at(&host.namespace, host.at(SECRET), "secret");
    let server = server(&lab, Kind::Vsftpd);
    let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
    assert!(control.command("CWD /upload").unwrap().starts_with("250"));
    let reply = control.command(&format!("MKD c\0213 x\0{FORGED}")).unwrap();
    assert!(reply.starts_with("257"), "{reply}");
    let said = try_doors(&lab, &mut control, b"STAT .\r\nPASV\r\n").unwrap();
    // Its text is printed, by whatever line ends.
    assert!(said.contains(FORGED), "the attack is none: {said}");
    secret.keep().unwrap();
}

/// A server that ends lines with CR LF alone takes a line feed for a part of the name, and prints it.
#[test]
fn a_line_feed_in_a_name_opens_nothing() {
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let host = lab.server();
    let secret = Secret::at(&host.namespace, host.at(SECRET), "secret");
    let mut failures = Failures::default();
    let server = server(&lab, Kind::Pyftpdlib);
    let name = "x\n227 PWD (10,0,0,5,31,144)";
    let mut is_printed = false;
    for commands in [
        format!("MKD {name}\r\nPASV\r\n"),
        format!("CWD {name}\r\nPASV\r\n"),
        format!("CWD {name}\r\nPWD\r\nPASV\r\n"),
        format!("CWD {name}\r\nNOOP\r\nCWD .\r\nPASV\r\nPASV\r\n"),
        String::from("MKD x\nPASV\n227 PWD (10,0,0,5,31,144)\r\n"),
        String::from("NOOP\nPASV\n227 PWD (10,0,0,5,31,144)\r\n"),
        String::from("PASV\n227\tPWD\t(10,0,0,5,31,144)\r\nPASV\r\n"),
        format!("RMD {name}\r\nPASV\r\n"),
    ] {
        let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
        control.command("CWD /upload").unwrap();
        let tried = try_doors(&lab, &mut control, commands.as_bytes());
        is_printed |= tried.as_ref().is_ok_and(|said| said.contains("\n227 PWD"));
        failures.note(&commands, tried.map(drop));
        failures.note(&commands, secret.keep());
    }
    // The legitimate client beside.
    let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
    failures.note("afterwards", fetch(&lab, &mut control));
    failures.assert_none();
    assert!(is_printed, "the attack is none");
}

#[test]
fn a_227_in_an_error_or_another_answer_opens_nothing() {
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let host = lab.server();
    let secret = Secret::at(&host.namespace, host.at(SECRET), "secret");
    let mut failures = Failures::default();
    for kind in Kind::ALL {
        let server = server(&lab, kind);
        for verb in ["CWD", "RETR", "MKD", "RNFR", "HELP", "SITE", "XYZ"] {
            for end in ["\0", "\r"] {
                let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
                let line = format!("{verb} x{end}{FORGED}\r\nPASV\r\n");
                let case = format!("{}, {line:?}", kind.name());
                failures.note(
                    &case,
                    try_doors(&lab, &mut control, line.as_bytes()).map(drop),
                );
                failures.note(&case, secret.keep());
            }
        }
    }
    failures.assert_none();
}

#[test]
fn a_server_that_prints_its_clients_words_opens_nothing() {
    // Each answer ends twice: once for a reader of replies, and once in truth.
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let host = lab.server();
    let secret = Secret::at(&host.namespace, host.at(SECRET), "secret");
    let answers = [
        "STAT", "HELP", "MLST", "SITE", "LANG", "XCMD", "PWD", "XMKD",
    ]
    .map(|verb| {
        (
            verb,
            format!("213-Here:\r\n213 x\r\n{FORGED}\r\n213 End\r\n"),
        )
    });
    let script = Script {
        replies: answers.to_vec(),
        content: CONTENT.to_vec(),
        ..Script::default()
    };
    let server = ScriptedServer::start(host, 21, script).unwrap();
    let mut failures = Failures::default();
    for (verb, _) in answers {
        for line in [
            format!("{verb} x\r\nPASV\r\n"),
            format!("NOOP\r\n{verb}\r\nPASV\r\n"),
            format!("{verb}\r\nPASV\r\nEPSV\r\n"),
            format!("{verb}\r\n{verb}\r\nPASV\r\nPASV\r\nPASV\r\n"),
        ] {
            let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
            failures.note(
                &line,
                try_doors(&lab, &mut control, line.as_bytes()).map(drop),
            );
            failures.note(&line, secret.keep());
        }
    }
    let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
    failures.note("afterwards", fetch(&lab, &mut control));
    failures.assert_none();
}

#[test]
fn clients_that_do_not_wait_for_answers_are_served() {
    // What lftp with sync-mode off and curl's pipelining kin send in one segment.
    let lab = lab();
    let _publisher = publish(&lab, &[]);
    let mut failures = Failures::default();
    for kind in Kind::ALL {
        let server = server(&lab, kind);
        for (before, answers) in [
            ("NOOP\r\n", 1),
            ("CWD /download\r\n", 1),
            ("TYPE A\r\nTYPE I\r\n", 2),
            ("CWD /download\r\nTYPE I\r\nREST 0\r\n", 3),
            ("SIZE /download/small.txt\r\n", 1),
            ("MDTM /download/small.txt\r\n", 1),
        ] {
            let mut control = Control::log_in(client(&lab), &server.target_at(PUBLIC)).unwrap();
            control.send(format!("{before}PASV\r\n")).unwrap();
            let case = format!("{}, {before:?}", kind.name());
            let fetched = (|| {
                for _ in 0..answers {
                    control.reply()?;
                }
                let address = address_in_227(&control.expect("227")?)?;
                let data = ftp_nat_tests::control::connect(client(&lab), address)?;
                ensure!(
                    control.fetch_over(&data, SMALL)? == CONTENT,
                    "another content"
                );
                Ok(())
            })();
            failures.note(&case, fetched);
        }
    }
    failures.assert_none();
}
