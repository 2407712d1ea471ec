//! Real clients reach real servers through ftp-nat, while the router's firewall forwards nothing.

use std::net::SocketAddr;

use ftp_nat_tests::{
    client::Mode,
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS, WAN_ADDRESS_V6},
    server::{FtpServer, Kind, Settings},
    transfers,
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
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let failures = transfers::all(lab.client(), &server, public, modes).unwrap();
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
