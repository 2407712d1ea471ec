//! Commands that a policy refuses and greetings that it hides, with real servers and clients.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr},
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Target},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS_V6},
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
        for client in Client::ALL {
            for mode in [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt] {
                let fetch = Job::Fetch(SMALL);
                if client.can(PUBLIC, mode, fetch) {
                    let session = client.perform(lab.client(), &target, mode, fetch).unwrap();
                    let session = session.expect_success().unwrap();
                    assert_eq!(session.content, CONTENT, "{kind:?} {client:?} {mode:?}");
                }
            }
        }
        for client in Client::ALL {
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
    for kind in Kind::ALL {
        let server = server(&lab, kind, &settings);
        let encrypted = server.target_at(PUBLIC);
        let mut clear = encrypted.clone();
        clear.tls = false;
        for client in Client::ALL {
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
        for client in Client::ALL
            .into_iter()
            .filter(|it| kind.speaks_tls_with(*it))
        {
            let session = client
                .perform(lab.client(), &encrypted, Mode::Epsv, Job::Fetch(SMALL))
                .unwrap();
            let session = session.expect_success().unwrap();
            assert_eq!(session.content, CONTENT, "{kind:?} {client:?}");
        }
    }
    let denied = gateway
        .metric("denied_packets_total", "reason=\"clear_text\"")
        .unwrap();
    assert!(denied >= 3 * 7, "{denied}");
}

/// The server's two public ends.
const ENDS: [SocketAddr; 2] = [PUBLIC, SocketAddr::new(IpAddr::V6(WAN_ADDRESS_V6), 21)];

/// Lists are refused and files are not, over IPv4 and IPv6.
fn lists_are_refused(client: Client, host: &Host, target: &Target, about: &str) {
    let mode = if target.address.is_ipv4() {
        Mode::Pasv
    } else {
        Mode::Epsv
    };
    if client.can(target.address, mode, Job::List("/download")) {
        let session = client
            .perform(host, target, mode, Job::List("/download"))
            .unwrap();
        let said = String::from_utf8_lossy(&session.content).into_owned();
        assert!(!said.contains("small.txt"), "{about}: {said}");
    }
    if client.can(target.address, mode, Job::Fetch(SMALL)) {
        let session = client
            .perform(host, target, mode, Job::Fetch(SMALL))
            .unwrap();
        let session = session.expect_success().unwrap();
        assert_eq!(session.content, CONTENT, "{about}");
    }
}

#[test]
fn denied_commands_reach_no_server_over_either_family() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let denies = "deny_commands = [\"LIST\", \"NLST\", \"MLSD\", \"STAT\"]";
    let keys = format!(
        "{denies}\n[[publish]]\npublic = \"[2001:db8:1::1]:21\"\n\
         server = \"[fd00:10::5]:21\"\n{denies}\n"
    );
    let gateway = start(&lab, &scratch, &keys);
    for kind in Kind::ALL {
        let server = server(&lab, kind, &Settings::default());
        for end in ENDS {
            for client in Client::ALL {
                let about = format!("{kind:?} {client:?} {end}");
                lists_are_refused(client, lab.client(), &server.target_at(end), &about);
            }
        }
    }
    // A list by curl, ftplib and lftp, over each family, of each server.
    let denied = gateway
        .metric("denied_packets_total", "reason=\"command\"")
        .unwrap();
    assert!(denied >= 4 * 2 * 3, "{denied}");
}

/// The policy of a network of our own, whose clients reach servers outside.
#[test]
fn our_own_clients_are_held_to_a_policy_too() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let scratch = Scratch::new().unwrap();
    let outside = lab.client();
    let start = |keys: &str| {
        let text = format!(
            "[gateway]\nwan = [\"wan\"]\n[[masquerade]]\n\
             clients = [\"10.0.0.0/24\", \"fd00:10::/64\"]\n{keys}\n"
        );
        let file = scratch.write("ftp-nat.toml", text).unwrap();
        Gateway::start(&lab.router, &["--config", file.to_str().unwrap()]).unwrap()
    };
    let local = scratch.write("new.txt", CONTENT).unwrap();
    for kind in Kind::ALL {
        let settings = Settings {
            tls: true,
            ..Settings::default()
        };
        let server = FtpServer::start(kind, outside, &settings).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let gateway =
            start("deny_commands = [\"LIST\", \"NLST\", \"MLSD\", \"STAT\"]\nread_only = true");
        for address in [outside.at(21), (outside.v6, 21).into()] {
            let mut target = server.target_at(address);
            target.tls = false;
            for client in Client::ALL {
                let about = format!("{kind:?} {client:?} {address}");
                lists_are_refused(client, lab.server(), &target, &about);
                let active = if address.is_ipv4() {
                    Mode::Port
                } else {
                    Mode::Eprt
                };
                let store = Job::Store(&local, "/upload/new.txt");
                if client.can(address, active, store) {
                    let session = client
                        .perform(lab.server(), &target, active, store)
                        .unwrap();
                    assert!(!session.outcome.success(), "{about}");
                    assert!(server.stored("new.txt").is_err(), "{about}");
                }
            }
        }
        let labels = "reason=\"command\"";
        assert!(gateway.metric("denied_packets_total", labels).unwrap() >= 8);
        drop(gateway);
        let gateway = start("require_tls = true");
        let encrypted = server.target_at(outside.at(21));
        let mut clear = encrypted.clone();
        clear.tls = false;
        for client in Client::ALL {
            let fetch = Job::Fetch(SMALL);
            let session = client
                .perform(lab.server(), &clear, Mode::Pasv, fetch)
                .unwrap();
            assert!(!session.outcome.success(), "{kind:?} {client:?}");
            if kind.speaks_tls_with(client) {
                let session = client
                    .perform(lab.server(), &encrypted, Mode::Pasv, fetch)
                    .unwrap();
                let session = session.expect_success().unwrap();
                assert_eq!(session.content, CONTENT, "{kind:?} {client:?}");
            }
        }
        let labels = "reason=\"clear_text\"";
        assert!(gateway.metric("denied_packets_total", labels).unwrap() >= 5);
    }
}
