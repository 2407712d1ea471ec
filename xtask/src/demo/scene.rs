//! A client, a router and a server, and how ftp-nat is started between them.

use std::net::SocketAddr;

use ftp_nat_tests::{
    lab::{Lab, WAN_ADDRESS},
    server::{FtpServer, Kind, Settings},
};

/// What the client believes to be the server.
pub(super) const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);

/// What ftp-nat is told.
pub(super) const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

/// The lab with a server, and these rules on its router.
pub(super) fn set_up(firewall: Option<&str>) -> anyhow::Result<(Lab, FtpServer)> {
    let lab = Lab::new()?;
    if let Some(rules) = firewall {
        lab.router.nft(rules)?;
    }
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    Ok((lab, server))
}
