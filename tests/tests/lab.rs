//! The lab itself: what every other test takes for granted.

use std::{fs, net::SocketAddr, time::Duration};

use ftp_nat_tests::{
    capture::{self, Capture},
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    lab::{LAN, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    scripted::{Cuts, Script, ScriptedServer},
    server::{FtpServer, Kind, Settings},
};

const SHORT: Duration = Duration::from_secs(10);

fn public(port: u16) -> SocketAddr {
    (WAN_ADDRESS, port).into()
}

/// Whether `host` gets an answer, were it a refusal, from `address`.
fn reaches(host: &ftp_nat_tests::lab::Host, address: SocketAddr) -> bool {
    let attempt = host.namespace.run(|| {
        Ok(std::net::TcpStream::connect_timeout(
            &address,
            Duration::from_secs(2),
        ))
    });
    match attempt.unwrap() {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

#[test]
fn hosts_reach_the_router_in_both_families() {
    let lab = Lab::new().unwrap();
    assert!(reaches(lab.client(), public(9)));
    assert!(reaches(lab.client(), (WAN_ADDRESS_V6, 9).into()));
    assert!(reaches(lab.server(), public(9)));
}

#[test]
fn inner_addresses_are_unknown_outside() {
    let lab = Lab::new().unwrap();
    assert!(!reaches(lab.client(), lab.server().at(9)));
}

#[test]
fn several_clients_share_the_wan() {
    let lab = Lab::with(Plan {
        outside: 3,
        inside: 2,
    })
    .unwrap();
    for client in &lab.outside {
        assert!(reaches(client, public(9)), "{}", client.v4);
        assert!(reaches(&lab.outside[0], client.at(9)), "{}", client.v4);
    }
    for server in &lab.inside {
        assert!(reaches(server, public(9)), "{}", server.v4);
    }
}

#[test]
fn namespaces_go_away_with_the_lab() {
    let lab = Lab::new().unwrap();
    let paths: Vec<_> = lab.namespaces().map(|n| n.path()).collect();
    // A process that nobody waits for must not keep its namespace alive.
    let mut orphan = lab.client().namespace.command("sleep").unwrap();
    let mut orphan = orphan.arg("60").spawn().unwrap();
    assert!(paths.iter().all(|path| path.exists()));
    drop(lab);
    assert!(paths.iter().all(|path| !path.exists()));
    assert!(!orphan.wait().unwrap().success());
}

/// Every client, in every mode, with one server on the same host: no network in between.
fn serves_every_client(kind: Kind) {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    let server = FtpServer::start(kind, host, &Settings::default()).unwrap();
    let target = server.target_at(server.address());
    let scratch = Scratch::new().unwrap();
    let content: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    server.offer("file.bin", &content).unwrap();
    let local = scratch.write("local.bin", &content).unwrap();

    for client in Client::ALL {
        for mode in [Mode::Pasv, Mode::Epsv, Mode::Port] {
            let perform = |job| {
                assert!(client.can(target.address, mode, job));
                client
                    .perform(host, &target, mode, job)
                    .and_then(Session::expect_success)
                    .unwrap_or_else(|error| panic!("{client:?} {mode:?} {job:?}: {error:#}"))
            };
            let fetch = Job::Fetch("/download/file.bin");
            if !client.can(target.address, mode, fetch) {
                continue;
            }
            let fetched = perform(fetch);

            assert_eq!(fetched.content, content, "{client:?} {mode:?}");
            let code = match mode {
                Mode::Pasv => Some("227 "),
                Mode::Epsv => Some("229 "),
                Mode::Port | Mode::Eprt => None,
            };
            if let Some(code) = code {
                assert_eq!(
                    fetched.replies(code).count(),
                    1,
                    "{client:?} {mode:?}\n{}",
                    fetched.transcript
                );
            }

            let name = format!("{client:?}-{mode:?}.bin");
            let path = format!("/upload/{name}");
            let store = Job::Store(&local, &path);
            if client.can(target.address, mode, store) {
                perform(store);
                assert_eq!(
                    server.stored(&name).unwrap(),
                    content,
                    "{client:?} {mode:?}"
                );
            }

            let list = Job::List("/download");
            if client.can(target.address, mode, list) {
                let listing = perform(list).content;
                let listing = String::from_utf8_lossy(&listing);
                assert!(
                    listing.contains("file.bin"),
                    "{client:?} {mode:?}: {listing}"
                );
            }
        }
    }
}

#[test]
fn vsftpd_serves_every_client() {
    serves_every_client(Kind::Vsftpd);
}

#[test]
fn proftpd_serves_every_client() {
    serves_every_client(Kind::Proftpd);
}

#[test]
fn pure_ftpd_serves_every_client() {
    serves_every_client(Kind::PureFtpd);
}

#[test]
fn pyftpdlib_serves_every_client() {
    serves_every_client(Kind::Pyftpdlib);
}

#[test]
fn every_server_announces_what_it_is_told_to() {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    for kind in Kind::ALL {
        let settings = Settings {
            passive_ports: Some(50000..=50009),
            announce: Some("192.0.2.7".parse().unwrap()),
            ..Settings::default()
        };
        let server = FtpServer::start(kind, host, &settings).unwrap();
        let mut control = Control::log_in(host, &server.target_at(server.address())).unwrap();
        let address = control::address_in_227(&control.command("PASV").unwrap()).unwrap();
        assert_eq!(address.ip().to_string(), "192.0.2.7", "{kind:?}");
        assert!(
            (50000..=50009).contains(&address.port()),
            "{kind:?} {address}"
        );
    }
}

#[test]
fn a_scripted_server_serves_in_any_words() {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    let script = Script {
        pasv: "227-an announcement\r\n of two lines\r\n227 PASV ok ({h},{p})\r\n".to_owned(),
        cuts: Cuts::Pieces(vec![30, 20]),
        ..Script::default()
    };
    let server = ScriptedServer::start(host, 21, script).unwrap();
    let target = server.target_at(server.address());
    let scratch = Scratch::new().unwrap();
    let local = scratch.write("local", "stored").unwrap();
    for client in [Client::Curl, Client::Ftplib, Client::Lftp] {
        for mode in [Mode::Pasv, Mode::Epsv, Mode::Port] {
            let perform = |job| {
                client
                    .perform(host, &target, mode, job)
                    .and_then(Session::expect_success)
                    .unwrap_or_else(|error| panic!("{client:?} {mode:?} {job:?}: {error:#}"))
            };
            let fetched = perform(Job::Fetch("/file"));
            assert_eq!(fetched.content, b"as scripted\n", "{client:?} {mode:?}");
            perform(Job::Store(&local, "/file"));
            assert_eq!(server.stored(), b"stored", "{client:?} {mode:?}");
        }
    }
    assert!(server.commands().iter().any(|line| line == "PASV"));
}

#[test]
fn clients_speak_ipv6() {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
    server.offer("file.txt", "six").unwrap();
    let target = server.target_at((host.v6, 21).into());
    for client in Client::ALL {
        let session = client
            .perform(host, &target, Mode::Epsv, Job::Fetch("/download/file.txt"))
            .and_then(Session::expect_success)
            .unwrap_or_else(|error| panic!("{client:?}: {error:#}"));
        assert_eq!(session.content, b"six", "{client:?}");
    }
}

#[test]
fn a_session_by_hand_shows_what_the_server_said() {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
    server.offer("file.txt", "by hand").unwrap();
    let mut control = Control::log_in(host, &server.target_at(server.address())).unwrap();

    let reply = control.command("PASV").unwrap();
    assert_eq!(server.replies("227"), [reply.trim_end()]);
    let data = control::connect(host, control::address_in_227(&reply).unwrap()).unwrap();
    control.send("RETR /download/file.txt\r\n").unwrap();
    control.expect("150").unwrap();
    assert_eq!(control::read_all(&data).unwrap(), b"by hand");
    control.expect("226").unwrap();

    let reply = control.command("EPSV").unwrap();
    let address = host.at(control::port_in_229(&reply).unwrap());
    control::connect(host, address).unwrap();
}

#[test]
fn a_capture_has_what_the_server_said() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let capture = Capture::start(&lab.router, LAN, "tcp port 21").unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(public(21))).unwrap();
    let reply = control.command("PASV").unwrap();
    let said = capture::tcp_payload_from(&capture.stop().unwrap(), 21);
    assert!(
        String::from_utf8_lossy(&said).ends_with(&reply),
        "{reply:?} is not the end of {:?}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn servers_speak_tls_when_told_to() {
    let lab = Lab::new().unwrap();
    let host = lab.server();
    let settings = Settings {
        tls: true,
        ..Settings::default()
    };
    for kind in Kind::ALL {
        let server = FtpServer::start(kind, host, &settings).unwrap();
        server.offer("file.txt", "secret").unwrap();
        let target = server.target_at(server.address());
        for client in Client::ALL
            .into_iter()
            .filter(|it| kind.speaks_tls_with(*it))
        {
            let session = client
                .perform(host, &target, Mode::Pasv, Job::Fetch("/download/file.txt"))
                .and_then(Session::expect_success)
                .unwrap_or_else(|error| panic!("{kind:?} {client:?}: {error:#}"));
            assert_eq!(session.content, b"secret", "{kind:?} {client:?}");
        }
    }
}

#[test]
fn without_a_gateway_nothing_answers_on_the_public_address() {
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let session = Client::Curl
        .perform(
            lab.client(),
            &server.target_at(public(21)),
            Mode::Pasv,
            Job::List("/download"),
        )
        .unwrap();
    assert!(!session.outcome.success());
    assert!(
        session.transcript.contains("refused"),
        "{}",
        session.transcript
    );
}

#[test]
fn with_plain_nat_the_client_is_sent_to_an_address_it_cannot_reach() {
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    for client in Client::ALL {
        let session = client
            .perform(
                lab.client(),
                &server.target_at(public(21)),
                Mode::Pasv,
                Job::Fetch("/download/file.txt"),
            )
            .unwrap();
        assert!(!session.outcome.success(), "{client:?}");
        assert!(
            session.outcome.took < SHORT,
            "{client:?} {:?}",
            session.outcome.took
        );
        assert!(
            session
                .replies("227 ")
                .any(|reply| reply.contains("10,0,0,5")),
            "{client:?}: {}",
            session.transcript
        );
    }
}

#[test]
fn the_kernels_own_helper_works_in_the_lab() {
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("file.txt", "through the kernel").unwrap();
    lab.router.nft(firewall::KERNEL_HELPER).unwrap();
    let session = Client::Curl
        .perform(
            lab.client(),
            &server.target_at(public(21)),
            Mode::Pasv,
            Job::Fetch("/download/file.txt"),
        )
        .and_then(Session::expect_success)
        .unwrap();
    assert_eq!(session.content, b"through the kernel");
    assert!(
        session
            .replies("227 ")
            .all(|reply| reply.contains("198,51,100,1")),
        "{}",
        session.transcript
    );
}

#[test]
fn scratch_folders_go_away() {
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("file", "content").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    drop(scratch);
    assert!(!file.exists());
}
