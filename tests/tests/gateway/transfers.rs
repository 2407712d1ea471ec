//! Who fetched, stored and changed what, with real servers: names, bytes and ends as the servers and
//! clients have them.

use std::{fs, io::Write as _, net::Shutdown, time::Duration};

use ftp_nat_tests::{
    client::{Client, Job, Mode},
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    process::Running,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    xferlog,
};
use serde_json::{Value, json};

use crate::{CONTENT, PUBLIC, wait_for};

/// A configuration that publishes the server, with these keys of the gateway's and the server's.
fn start<'lab>(lab: &'lab Lab, scratch: &Scratch, keys: [&str; 2]) -> Gateway<'lab> {
    let [keys, of_server] = keys;
    let text = format!(
        "[gateway]\nwan = [\"wan\"]\n{keys}\n[[publish]]\npublic = \"198.51.100.1:21\"\n\
         server = \"10.0.0.5:21\"\n{of_server}\n"
    );
    let file = scratch.write("ftp-nat.toml", text).unwrap();
    Gateway::start(&lab.router, &["--config", file.to_str().unwrap()]).unwrap()
}

/// What `ftp-nat transfers` shows.
fn shown(gateway: &Gateway<'_>, words: &[&str]) -> Vec<Value> {
    let words = [&["transfers", "--json"], words].concat();
    let text = gateway
        .ask(&words)
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits for the transfer or change by this command and path, and holds its fields against these.
#[track_caller]
fn assert_told(gateway: &Gateway<'_>, command: &str, path: &str, fields: &Value) -> Value {
    let told = wait_for(&format!("{command} {path}"), || {
        shown(gateway, &[])
            .into_iter()
            .find(|it| it["command"] == command && it["path"] == path)
    });
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name} in {told:#}");
    }
    told
}

/// The code of a reply.
fn code(reply: &str) -> u16 {
    reply[..3].parse().unwrap()
}

/// Sizes of files: none, one byte, around a segment, and many segments.
const SIZES: [usize; 5] = [0, 1, 1448, 1449, 5_000_001];

#[test]
fn transfers_are_told_with_names_bytes_and_ends() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    for kind in Kind::ALL {
        // A daemon for each, so that what is shown is this server's.
        let gateway = start(&lab, &scratch, ["", ""]);
        let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
        for size in SIZES {
            server.offer(&format!("{size}.bin"), vec![7; size]).unwrap();
        }
        let target = server.target_at(PUBLIC);
        let about = |told: &Value| {
            assert_eq!(told["user"], "anonymous", "{kind:?} {told:#}");
            assert_eq!(told["inside"], "10.0.0.5", "{kind:?} {told:#}");
            assert_eq!(told["peer"], "198.51.100.20", "{kind:?} {told:#}");
            assert_eq!(told["encrypted"], false, "{kind:?} {told:#}");
        };
        for (mode, kind_of) in [
            (Mode::Pasv, "passive"),
            (Mode::Epsv, "passive"),
            (Mode::Port, "active"),
        ] {
            for size in SIZES {
                let path = format!("/download/{size}.bin");
                let session = Client::Curl
                    .perform(lab.client(), &target, mode, Job::Fetch(&path))
                    .unwrap()
                    .expect_success()
                    .unwrap();
                assert_eq!(session.content.len(), size);
            }
            // curl asks by the name alone, in the folder.
            for size in SIZES {
                let told = assert_told(
                    &gateway,
                    "RETR",
                    &format!("{size}.bin"),
                    &json!({"event": "transfer", "action": "retrieved", "bytes": size,
                            "outcome": "completed", "code": 226, "directory": "download"}),
                );
                about(&told);
            }
            let of_kind = shown(&gateway, &["--kind", kind_of, "--command", "retr"]);
            assert!(
                of_kind.len() >= SIZES.len(),
                "{kind:?} {mode:?} {of_kind:#?}"
            );
        }
        for size in [0, 1, 3_000_001] {
            let name = format!("{size}.up");
            let file = scratch.write(&name, vec![9; size]).unwrap();
            let path = format!("/upload/{name}");
            Client::Ftplib
                .perform(lab.client(), &target, Mode::Pasv, Job::Store(&file, &path))
                .unwrap()
                .expect_success()
                .unwrap();
            let fields =
                json!({"action": "stored", "bytes": size, "outcome": "completed", "code": 226});
            about(&assert_told(&gateway, "STOR", &path, &fields));
        }
        let listing = Client::Lftp
            .perform(lab.client(), &target, Mode::Pasv, Job::List("/download"))
            .unwrap()
            .expect_success()
            .unwrap();
        assert!(!listing.content.is_empty());
        let lists = wait_for("the listing", || {
            let lists = shown(&gateway, &["--command", "LIST"]);
            (!lists.is_empty()).then_some(lists)
        });
        assert!(
            lists[0]["bytes"].as_u64().unwrap() > 100,
            "{kind:?} {lists:#?}"
        );
        what_fails_is_told(kind, &lab, &gateway, &server);
        changes_are_told(&lab, &gateway, &server);
    }
}

fn what_fails_is_told(kind: Kind, lab: &Lab, gateway: &Gateway<'_>, server: &FtpServer) {
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    // There is no such file; the data connection is there already.
    let address = control.announce("PASV").unwrap();
    let data = control::connect(lab.client(), address).unwrap();
    let reply = control.command("RETR /download/none").unwrap();
    assert!(reply.starts_with('5'), "{reply}");
    drop(data);
    let fields = json!({"action": "retrieved", "outcome": "failed", "code": code(&reply)});
    assert_told(gateway, "RETR", "/download/none", &fields);
    let failed = shown(gateway, &["--failed"]);
    assert!(
        failed.iter().all(|it| it["outcome"] != "completed"),
        "{failed:#?}"
    );

    // The client breaks a transfer off.
    server.offer("huge.bin", vec![1; 64 << 20]).unwrap();
    let address = control.announce("PASV").unwrap();
    let data = control::connect(lab.client(), address).unwrap();
    control.send("RETR /download/huge.bin\r\n").unwrap();
    let reply = control.reply().unwrap();
    assert!(reply.starts_with('1'), "{reply}");
    std::thread::sleep(Duration::from_millis(100));
    data.shutdown(Shutdown::Both).unwrap();
    drop(data);
    let reply = control.reply().unwrap();
    let fields = if kind == Kind::PureFtpd {
        // It says `150 0.132 seconds`, and that was all.
        assert!(reply.starts_with("150"), "{reply}");
        control.command("NOOP").unwrap();
        json!({"outcome": "unknown", "code": null})
    } else {
        assert!(reply.starts_with('4'), "{reply}");
        json!({"outcome": "failed", "code": code(&reply)})
    };
    let told = assert_told(gateway, "RETR", "/download/huge.bin", &fields);
    let bytes = told["bytes"].as_u64().unwrap();
    assert!(bytes > 0 && bytes < 64 << 20, "{told:#}");
}

fn changes_are_told(lab: &Lab, gateway: &Gateway<'_>, server: &FtpServer) {
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let mut told = |line: &str, command: &str, path: &str, fields: Value| {
        let reply = control.command(line).unwrap();
        let outcome = match code(&reply) {
            200..=399 => "completed",
            _ => "failed",
        };
        let told = assert_told(gateway, command, path, &fields);
        assert_eq!(
            (&told["code"], &told["outcome"]),
            (&json!(code(&reply)), &json!(outcome)),
            "{reply}"
        );
        assert_eq!(told["event"], "change");
        reply
    };
    // A name in UTF-8, one of Latin-1, blanks, quotes, an escape sequence.
    told(
        "MKD /upload/d",
        "MKD",
        "/upload/d",
        json!({"action": "created"}),
    );
    told(
        "DELE /upload/\u{e4} \"b\" \x1b[2J\\",
        "DELE",
        "/upload/\u{e4} \"b\" \\u{1b}[2J\\\\",
        json!({"action": "deleted"}),
    );
    told(
        "XMKD /upload/e",
        "XMKD",
        "/upload/e",
        json!({"action": "created"}),
    );
    told(
        "RMD /upload/d",
        "RMD",
        "/upload/d",
        json!({"action": "deleted"}),
    );
    let reply = control.command("RNFR /upload/1.up").unwrap();
    if reply.starts_with("350") {
        let reply = control.command("RNTO /upload/2.up").unwrap();
        let fields = json!({"action": "renamed", "from": "/upload/1.up", "code": code(&reply)});
        assert_told(gateway, "RNTO", "/upload/2.up", &fields);
    }
    // In pieces, and several in one segment.
    for piece in ["DE", "LE /upl", "oad/pie", "ces\r\n"] {
        control.send(piece).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    control.reply().unwrap();
    assert_told(gateway, "DELE", "/upload/pieces", &json!({}));
    let address = control.announce("EPSV").unwrap();
    let data = control::connect(lab.client(), address).unwrap();
    control
        .send("TYPE I\r\nDELE /upload/one\r\nSTOR /upload/many\r\n")
        .unwrap();
    control.reply().unwrap();
    let deleted = control.reply().unwrap();
    let stored = control.reply().unwrap();
    assert!(stored.starts_with('1'), "{stored}");
    (&data).write_all(CONTENT).unwrap();
    drop(data);
    let stored = control.reply().unwrap();
    assert_told(
        gateway,
        "DELE",
        "/upload/one",
        &json!({"code": code(&deleted)}),
    );
    let fields = json!({"code": code(&stored), "bytes": CONTENT.len(), "kind": "passive"});
    assert_told(gateway, "STOR", "/upload/many", &fields);
}

/// The codes of so many replies, or of those that come.
fn codes_of(control: &mut Control, most: usize) -> Vec<u16> {
    let replies = std::iter::from_fn(|| control.reply().ok());
    replies.take(most).map(|reply| code(&reply)).collect()
}

/// Servers that read commands while they send answer them before the transfer.
#[test]
fn what_is_asked_during_a_transfer_ends_it_not() {
    const SIZE: usize = 24 << 20;
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let mut answered_meanwhile = Vec::new();
    for kind in Kind::ALL {
        let gateway = start(&lab, &scratch, ["", ""]);
        let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
        server.offer("huge.bin", vec![7; SIZE]).unwrap();
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let address = control.announce("PASV").unwrap();
        let data = control::connect(lab.client(), address).unwrap();
        control.send("RETR /download/huge.bin\r\n").unwrap();
        // pyftpdlib says 125 where the client has connected before.
        let reply = control.reply().unwrap();
        assert!(reply.starts_with('1'), "{kind:?}: {reply}");
        // Nobody reads the file yet, so the server is in the middle of it.
        // Pure-FTPd gives one answer to all of them.
        let meanwhile = match kind {
            Kind::PureFtpd => "NOOP\r\nSYST\r\nTYPE I\r\n",
            _ => "NOOP\r\nSTAT\r\nPWD\r\n",
        };
        control.send(meanwhile).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(control::read_all(&data).unwrap().len(), SIZE);
        drop(data);
        let codes = codes_of(&mut control, 4);
        if codes[0] != 226 {
            answered_meanwhile.push(kind);
        }
        println!("{kind:?}: {codes:?}");
        assert!(codes.contains(&226), "{kind:?} {codes:?}");
        let fields = json!({"bytes": SIZE, "outcome": "completed", "code": 226});
        assert_told(&gateway, "RETR", "/download/huge.bin", &fields);
        // What comes next is told for what it is; where commands were left without an answer, from the
        // next PASV on.
        if codes.len() < 4 {
            control.announce("PASV").unwrap();
        }
        let reply = control.command("DELE /download/none").unwrap();
        let fields = json!({"outcome": "failed", "code": code(&reply)});
        assert_told(&gateway, "DELE", "/download/none", &fields);

        // ABOR: the transfer's own reply, and ABOR's.
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        server.offer("abor.bin", vec![7; SIZE]).unwrap();
        let address = control.announce("PASV").unwrap();
        let data = control::connect(lab.client(), address).unwrap();
        control.send("RETR /download/abor.bin\r\n").unwrap();
        // pyftpdlib says 125 where the client has connected before.
        let reply = control.reply().unwrap();
        assert!(reply.starts_with('1'), "{kind:?}: {reply}");
        control.send("NOOP\r\nABOR\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let aborted = control::read_all(&data).map_or(0, |content| content.len());
        drop(data);
        let codes = codes_of(&mut control, 3);
        println!("{kind:?}: ABOR {codes:?} after {aborted}");
        let broken = codes.iter().find(|it| (400..500).contains(*it));
        let fields = match broken {
            Some(code) => json!({"outcome": "failed", "code": code}),
            None => json!({"outcome": "completed", "code": 226, "bytes": SIZE}),
        };
        assert_told(&gateway, "RETR", "/download/abor.bin", &fields);
    }
    // Two of the four read commands while they send.
    assert!(answered_meanwhile.len() >= 2, "{answered_meanwhile:?}");
}

#[test]
fn what_is_said_inside_tls_is_told_without_names() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, ["", "passive_ports = \"50000-50099\""]);
    let settings = Settings {
        tls: true,
        passive_ports: Some(50_000..=50_099),
        ..Settings::default()
    };
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    server.offer("big.bin", vec![7; 1 << 20]).unwrap();
    Client::Curl
        .perform(
            lab.client(),
            &server.target_at(PUBLIC),
            Mode::Epsv,
            Job::Fetch("/download/big.bin"),
        )
        .unwrap()
        .expect_success()
        .unwrap();
    let told = wait_for("the transfer", || shown(&gateway, &[]).into_iter().next());
    assert_eq!(told["action"], "sent", "{told:#}");
    assert_eq!(told["encrypted"], true);
    assert_eq!(told["outcome"], "unknown");
    let bytes = told["bytes"].as_u64().unwrap();
    assert!(bytes > 1 << 20 && bytes < (1 << 20) + (1 << 16), "{told:#}");
    for name in ["path", "user", "command", "code", "directory"] {
        assert_eq!(told[name], Value::Null, "{told:#}");
    }
}

#[test]
fn one_key_keeps_all_of_it_in_the_kernel() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, ["transfers = false", ""]);
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    let fetch = || {
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let path = "/download/small.txt";
        assert_eq!(control.fetch(lab.client(), "PASV", path).unwrap(), CONTENT);
    };
    fetch();
    let text = gateway.ask(&["events", "--json"]).unwrap().text();
    assert!(
        text.contains("\"used\"") && !text.contains("small.txt"),
        "{text}"
    );
    // A reload turns it on.
    let path = scratch.path().join("ftp-nat.toml");
    let on = fs::read_to_string(&path)
        .unwrap()
        .replace("transfers = false", "");
    fs::write(&path, on).unwrap();
    let reloaded = gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    assert!(
        reloaded.text().contains("gateway.transfers: false -> true"),
        "{}",
        reloaded.text()
    );
    fetch();
    let told = assert_told(
        &gateway,
        "RETR",
        "/download/small.txt",
        &json!({"bytes": CONTENT.len()}),
    );
    assert_eq!(shown(&gateway, &[]).len(), 1, "{told:#}");
}

#[test]
fn xferlog_the_audit_log_and_the_metrics_have_the_transfers() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let (log, audit) = (
        scratch.path().join("xferlog"),
        scratch.path().join("audit.jsonl"),
    );
    let keys = format!("xferlog = {log:?}\naudit_log = {audit:?}");
    let gateway = start(&lab, &scratch, [&keys, ""]);
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let names = ["plain.txt", "two words.txt", "\u{e4}\u{202e}.txt"];
    for name in names {
        server.offer(name, vec![b'x'; 1000]).unwrap();
    }
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    for name in names {
        let path = format!("/download/{name}");
        control.fetch(lab.client(), "PASV", &path).unwrap();
    }
    let written = wait_for("three lines", || {
        let text = fs::read_to_string(&log).unwrap();
        (text.lines().count() == names.len()).then_some(text)
    });
    for (line, name) in written
        .lines()
        .zip(["plain.txt", "two_words.txt", "\u{e4}_.txt"])
    {
        let fields: Vec<_> = line.split(' ').filter(|field| !field.is_empty()).collect();
        assert_eq!(fields.len(), 18, "{line}");
        assert_eq!(
            &fields[6..9],
            ["198.51.100.20", "1000", &format!("/download/{name}")]
        );
        assert_eq!(
            &fields[9..18],
            ["b", "_", "o", "a", "anonymous", "ftp", "0", "*", "c"]
        );
    }
    // The two files are written one after the other.
    wait_for("three records of the audit log", || {
        let audited = fs::read_to_string(&audit).unwrap();
        let told = audited
            .lines()
            .filter(|line| line.contains("\"event\":\"transfer\""));
        (told.count() == names.len()).then_some(())
    });
    let labels = "action=\"retrieved\",outcome=\"completed\",server=\"10.0.0.5:21\"";
    assert_eq!(gateway.metric("transfers_total", labels).unwrap(), 3);
    let labels = "action=\"retrieved\",server=\"10.0.0.5:21\"";
    assert_eq!(
        gateway.metric("transfer_bytes_total", labels).unwrap(),
        3000
    );
    assert!(!gateway.ask(&["metrics"]).unwrap().text().contains("plain"));

    // A reader of xferlog that others use takes each line.
    let report = scratch.path().join("report");
    fs::create_dir(&report).unwrap();
    let said = xferlog::read(&lab.router, &log, &report).unwrap();
    let said = said.text() + &said.stderr;
    assert!(
        !said.contains("bad") && said.contains("3 records"),
        "{said}"
    );
    let page = fs::read_dir(&report)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("usage_")
        })
        .unwrap_or_else(|| panic!("no report: {said}"));
    let page = String::from_utf8_lossy(&fs::read(page).unwrap()).into_owned();
    assert!(page.contains("/download/two_words.txt"), "{page}");
}

/// Whoever follows gets a line of JSON for each transfer as it ends, with its name whole and harmless.
#[test]
fn transfers_are_followed_as_they_end() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, ["", ""]);
    let server = FtpServer::start(Kind::Pyftpdlib, lab.server(), &Settings::default()).unwrap();
    let names = ["a b.txt", "c\u{1b}[2J.txt", "d\"e.txt"];
    let mut command = gateway
        .command(&["transfers", "--follow", "--json"])
        .unwrap();
    let mut following = Running::start(&mut command).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    for (number, name) in names.into_iter().enumerate() {
        server.offer(name, CONTENT).unwrap();
        let path = format!("/download/{name}");
        let content = control.fetch(lab.client(), "PASV", &path).unwrap();
        assert_eq!(content, CONTENT);
        let lines = wait_for(&format!("{path:?}"), || {
            let lines: Vec<Value> = following
                .log()
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            (lines.len() > number).then_some(lines)
        });
        let told = lines.last().unwrap();
        assert_eq!(told["command"], "RETR", "{told:#}");
        let shown = told["path"].as_str().unwrap();
        assert_eq!(shown, path.escape_debug().to_string().replace("\\\"", "\""));
    }
    assert!(!following.log().contains('\u{1b}'));
    assert!(following.is_alive().unwrap());
}
