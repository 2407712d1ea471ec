//! FTP over TLS through a gateway under a firewall that forwards nothing: real servers and clients.

mod closed;
mod desktop;
mod documented;
mod open;

use std::net::{Ipv4Addr, SocketAddr};

use ftp_nat_tests::{
    firewall,
    lab::{Host, Lab, Plan, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);

/// What is fetched and stored.
const CONTENT: &[u8] = b"The quick brown fox jumps over the lazy dog.\n";

/// A lab whose router forwards nothing by itself.
fn lab(outside: u8, inside: u8) -> Lab {
    let lab = Lab::with(Plan { outside, inside }).unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab
}

/// TLS, with a range of passive ports and the public address in every reply: no gateway can put it
/// there.
fn by_tls() -> Settings {
    Settings {
        tls: true,
        passive_ports: Some(50_000..=50_099),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    }
}

fn start(kind: Kind, host: &Host, settings: &Settings) -> FtpServer {
    let server = FtpServer::start(kind, host, settings).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// A configuration file that publishes servers with the range of [`by_tls`]: public port, server's
/// address and port. With more keys of `[gateway]`, and more tables.
fn published(
    scratch: &Scratch,
    keys: &str,
    servers: &[(u16, Ipv4Addr, u16)],
    tables: &str,
) -> String {
    let entries = servers.iter().map(|(public, server, port)| {
        format!(
            "[[publish]]\npublic = \"{WAN_ADDRESS}:{public}\"\nserver = \"{server}:{port}\"\n\
             passive_ports = \"50000-50099\"\n"
        )
    });
    let entries: String = entries.collect();
    let text = format!("[gateway]\nwan = [\"wan\"]\n{keys}{entries}{tables}");
    let path = scratch.write("ftp-nat.toml", text).unwrap();
    path.to_str().unwrap().to_owned()
}
