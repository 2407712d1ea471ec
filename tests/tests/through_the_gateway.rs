//! Real clients reach real servers through ftp-nat, while the router's firewall forwards nothing.

use std::net::SocketAddr;

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

const RUN: [&str; 6] = [
    "--wan",
    "wan",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

/// Every client in every mode that it knows, against one server, at one of the router's addresses.
fn passes(kind: Kind, public: SocketAddr, modes: &[Mode]) {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(kind, lab.server(), &Settings::default()).unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    server.offer("file.bin", &content).unwrap();
    let scratch = Scratch::new().unwrap();
    let local = scratch.write("local.bin", &content).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();

    let mut failures = Vec::new();
    for client in Client::ALL {
        for &mode in modes {
            let name = format!("{client:?}-{mode:?}.bin");
            let path = format!("/upload/{name}");
            for job in [
                Job::Fetch("/download/file.bin"),
                Job::Store(&local, &path),
                Job::List("/download"),
            ] {
                if !client.can(public, mode, job) {
                    continue;
                }
                let result = client
                    .perform(lab.client(), &server.target_at(public), mode, job)
                    .and_then(Session::expect_success);
                let is_right = |session: &Session| match job {
                    Job::Fetch(_) => session.content == content,
                    Job::Store(..) => server.stored(&name).is_ok_and(|stored| stored == content),
                    Job::List(_) => String::from_utf8_lossy(&session.content).contains("file.bin"),
                };
                match result {
                    Ok(session) if is_right(&session) => (),
                    Ok(session) => failures.push(format!(
                        "{client:?} {mode:?} {job:?}: another content\n{}",
                        session.transcript
                    )),
                    Err(error) => failures.push(format!("{client:?} {mode:?} {job:?}: {error:#}")),
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{}\nthe gateway said:\n{}",
        failures.join("\n\n"),
        gateway.log()
    );
}

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);
const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(WAN_ADDRESS_V6), 21);
const PASSIVE: [Mode; 2] = [Mode::Pasv, Mode::Epsv];
const ACTIVE: [Mode; 2] = [Mode::Port, Mode::Eprt];

#[test]
fn passive_transfers_pass_to_vsftpd() {
    passes(Kind::Vsftpd, V4, &PASSIVE);
}

#[test]
fn passive_transfers_pass_to_proftpd() {
    passes(Kind::Proftpd, V4, &PASSIVE);
}

#[test]
fn passive_transfers_pass_to_pure_ftpd() {
    passes(Kind::PureFtpd, V4, &PASSIVE);
}

#[test]
fn passive_transfers_pass_to_pyftpdlib() {
    passes(Kind::Pyftpdlib, V4, &PASSIVE);
}

#[test]
fn active_transfers_pass_from_vsftpd() {
    passes(Kind::Vsftpd, V4, &ACTIVE);
}

#[test]
fn active_transfers_pass_from_pyftpdlib() {
    passes(Kind::Pyftpdlib, V4, &ACTIVE);
}

#[test]
fn passive_transfers_pass_over_ipv6() {
    passes(Kind::Vsftpd, V6, &[Mode::Epsv]);
}

#[test]
fn active_transfers_pass_over_ipv6() {
    passes(Kind::Vsftpd, V6, &[Mode::Eprt]);
}
