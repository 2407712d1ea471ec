//! Commands that a policy refuses and greetings that it hides, with real servers and clients.

use std::io::Read as _;

use ftp_nat_tests::{
    client::{Client, Job, Mode},
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, SMALL};

/// A configuration that publishes the server with these keys.
fn config(keys: &str) -> String {
    format!(
        "[gateway]\nwan = [\"wan\"]\n[[publish]]\npublic = \"198.51.100.1:21\"\n\
         server = \"10.0.0.5:21\"\n{keys}"
    )
}

fn start<'lab>(lab: &'lab Lab, scratch: &Scratch, keys: &str) -> Gateway<'lab> {
    let file = scratch.write("ftp-nat.toml", config(keys)).unwrap();
    Gateway::start(&lab.router, &["--config", file.to_str().unwrap()]).unwrap()
}

fn server(lab: &Lab, kind: Kind, settings: &Settings) -> FtpServer {
    let server = FtpServer::start(kind, lab.server(), settings).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// The first that the server says.
fn greeting(lab: &Lab) -> String {
    let mut stream = control::connect(lab.client(), PUBLIC).unwrap();
    let mut bytes = [0; 4096];
    let len = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// Words that tell which product a server is.
const PRODUCTS: [&str; 4] = ["vsFTPd", "ProFTPD", "Pure-FTPd", "pyftpdlib"];

#[test]
fn a_read_only_server_without_a_name_serves_and_keeps_its_files() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, "read_only = true\nhide_greeting = true\n");
    let file = scratch.write("new.txt", CONTENT).unwrap();
    for kind in Kind::ALL {
        let server = server(&lab, kind, &Settings::default());
        let target = server.target_at(PUBLIC);
        let greeting = greeting(&lab);
        assert!(greeting.starts_with("220"), "{kind:?}: {greeting}");
        assert!(
            PRODUCTS.iter().all(|name| !greeting.contains(name)),
            "{kind:?}: {greeting}"
        );
        // What asks for the folder's name first waits long for ProFTPD's answer to PASV.
        let clients: &[Client] = match kind {
            Kind::Proftpd => &[Client::Ftplib],
            _ => &Client::ALL,
        };
        for client in clients.iter().copied() {
            for mode in [Mode::Pasv, Mode::Port] {
                let fetch = Job::Fetch(SMALL);
                if client.can(PUBLIC, mode, fetch) {
                    let session = client.perform(lab.client(), &target, mode, fetch).unwrap();
                    let session = session.expect_success().unwrap();
                    assert_eq!(session.content, CONTENT, "{kind:?} {client:?} {mode:?}");
                }
            }
        }
        for client in clients.iter().copied() {
            let store = Job::Store(&file, "/upload/new.txt");
            if !client.can(PUBLIC, Mode::Pasv, store) {
                continue;
            }
            let session = client
                .perform(lab.client(), &target, Mode::Pasv, store)
                .unwrap();
            assert!(!session.outcome.success(), "{kind:?} {client:?}");
            assert!(server.stored("new.txt").is_err(), "{kind:?} {client:?}");
        }
        let mut control = Control::log_in(lab.client(), &target).unwrap();
        for command in [
            "DELE /download/small.txt",
            "dele /download/small.txt",
            "MKD /upload/a",
            "RNFR /download/small.txt",
            "SITE CHMOD 777 /download/small.txt",
        ] {
            let reply = control
                .command(command)
                .unwrap_or_else(|error| panic!("{kind:?} {command}: {error:#}"));
            assert!(reply.starts_with("50"), "{kind:?} {command}: {reply}");
        }
        // Several at once, and one in pieces.
        control
            .send("DELE /download/small.txt\r\nNOOP\r\nMKD /upload/b\r\n")
            .unwrap();
        for code in ["50", "200", "50"] {
            control.expect(code).unwrap();
        }
        for piece in ["DE", "LE /down", "load/small.txt\r\n"] {
            control.send(piece).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        control.expect("50").unwrap();
        assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    }
    let denied = gateway
        .metric("denied_packets_total", "reason=\"command\"")
        .or_else(|_| gateway.metric("denied_total", "reason=\"command\""))
        .unwrap();
    // Five commands, two at once, one in pieces, and a client's STOR, for each server.
    assert!(denied >= 4 * 9, "{denied}");
    let events = gateway.ask(&["events", "--json"]).unwrap().text();
    assert!(events.contains("\"reason\":\"command\""), "{events}");
}

#[test]
fn where_tls_is_required_nobody_logs_in_without_it() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let keys = "require_tls = true\npassive_ports = \"50000-50099\"\n";
    let gateway = start(&lab, &scratch, keys);
    let settings = Settings {
        tls: true,
        passive_ports: Some(50_000..=50_099),
        ..Settings::default()
    };
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let server = server(&lab, kind, &settings);
        let encrypted = server.target_at(PUBLIC);
        let mut clear = encrypted.clone();
        clear.tls = false;
        for client in [Client::Curl, Client::Lftp] {
            let session = client
                .perform(lab.client(), &clear, Mode::Pasv, Job::Fetch(SMALL))
                .unwrap();
            assert!(!session.outcome.success(), "{kind:?} {client:?}");
        }
        let mut control = Control::connect(lab.client(), PUBLIC).unwrap();
        for command in ["USER anonymous", "PASS guest"] {
            let reply = control.command(command).unwrap();
            // vsftpd answers whatever it does not know with 530 before the login.
            assert!(reply.starts_with('5'), "{kind:?} {command}: {reply}");
        }
        drop(control);
        let session = Client::Curl
            .perform(lab.client(), &encrypted, Mode::Epsv, Job::Fetch(SMALL))
            .unwrap();
        let session = session.expect_success().unwrap();
        assert_eq!(session.content, CONTENT, "{kind:?}");
    }
    let denied = gateway
        .metric("denied_packets_total", "reason=\"clear_text\"")
        .or_else(|_| gateway.metric("denied_total", "reason=\"clear_text\""))
        .unwrap();
    assert!(denied >= 8, "{denied}");
}
