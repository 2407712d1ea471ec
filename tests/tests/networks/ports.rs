//! Clients whose source port is in use towards the server already.

use std::net::{SocketAddr, TcpStream};

use ftp_nat_tests::{
    client::Target,
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};
use socket2::{Domain, Socket, Type};

use crate::{LIMIT, ON_WAN};

/// The source port of all clients here.
const PORT: u16 = 40_000;

const CONTENT: &[u8] = b"as it was stored\n";

/// A session whose control connection comes from [`PORT`].
fn log_in(host: &Host, target: &Target) -> Control {
    let own = SocketAddr::new(host.address_like(target.address.ip()), PORT);
    let stream: TcpStream = host
        .namespace
        .run(|| {
            let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&own.into())?;
            socket.connect_timeout(&target.address.into(), LIMIT)?;
            Ok(socket.into())
        })
        .unwrap();
    let mut control = Control::over(stream).unwrap();
    control.command(&format!("USER {}", target.user)).unwrap();
    let reply = control.command(&format!("PASS {}", target.password));
    assert!(reply.unwrap().starts_with("230"));
    control
}

/// A file by each kind of mode.
#[track_caller]
fn fetches(session: &mut Control, host: &Host) {
    for verb in ["PASV", "EPSV"] {
        let content = session.fetch(host, verb, "/download/small.txt").unwrap();
        assert_eq!(content, CONTENT, "{verb}");
    }
    let address = SocketAddr::new(session.local_address().unwrap().ip(), 0);
    let listener = host
        .namespace
        .run(|| Ok(std::net::TcpListener::bind(address)?))
        .unwrap();
    let mine = listener.local_addr().unwrap();
    let reply = session.command(&format!("EPRT |1|{}|{}|", mine.ip(), mine.port()));
    assert!(reply.unwrap().starts_with("200"));
    session.send("RETR /download/small.txt\r\n").unwrap();
    let (data, _) = listener.accept().unwrap();
    assert_eq!(ftp_nat_tests::control::read_all(&data).unwrap(), CONTENT);
    session.expect("150").unwrap();
    session.expect("226").unwrap();
}

/// The ports at which the server sees its clients, without those of data connections.
fn seen_by_server(lab: &Lab) -> Vec<String> {
    let words = ["ss", "-Htn", "state", "established", "sport", "=", ":21"];
    let text = lab.server().run(&words, LIMIT).unwrap().text();
    let peers = text
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    // The server listens by IPv6 for both.
    let mut peers: Vec<_> = peers
        .map(|it| it.replace("[::ffff:", "").replace(']', ""))
        .collect();
    peers.sort();
    peers
}

fn server(lab: &Lab) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// A NAT in front of the clients gives one of them the same port for each of our addresses and ports
/// (RFC 4787, endpoint-independent mapping): they are different connections, and the same for the server.
#[test]
fn one_port_of_a_client_at_three_public_ends_of_a_server() {
    for datapath in [crate::REDIRECT, crate::STACK] {
        let lab = Lab::new().unwrap();
        lab.router.ip("addr add 198.51.100.2/24 dev wan").unwrap();
        let rules = if datapath == crate::REDIRECT {
            firewall::DROP_FORWARDED
        } else {
            firewall::ACCEPT_ALL
        };
        lab.router.nft(rules).unwrap();
        let server = server(&lab);
        let publish = [
            "--publish",
            "198.51.100.1:21=10.0.0.5:21",
            "--publish",
            "198.51.100.2:21=10.0.0.5:21",
            "--publish",
            "198.51.100.1:2121=10.0.0.5:21",
        ];
        let gateway = Gateway::start(&lab.router, &[&ON_WAN[..], &publish, datapath].concat());
        let gateway = gateway.unwrap();
        let client = lab.client();
        let mut sessions = ["198.51.100.1:21", "198.51.100.2:21", "198.51.100.1:2121"]
            .map(|end| log_in(client, &server.target_at(end.parse().unwrap())));
        for session in &mut sessions {
            fetches(session, client);
        }
        // The first one still works when the others have come.
        fetches(&mut sessions[0], client);
        let seen = seen_by_server(&lab);
        assert_eq!(seen.len(), 3, "{seen:?}");
        let own = format!("{}:{PORT}", client.v4);
        assert_eq!(seen.iter().filter(|it| **it == own).count(), 1, "{seen:?}");
        drop(gateway);
    }
}

/// Where the server sees the gateway, all clients have one address.
#[test]
fn one_port_of_three_clients_at_a_server_that_sees_the_gateway() {
    let lab = Lab::with(Plan {
        outside: 3,
        ..Plan::default()
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = server(&lab);
    let scratch = Scratch::new().unwrap();
    // So few ports that they meet.
    let text = "[gateway]\nwan = [\"wan\"]\nremap_ports = \"61000-61003\"\n\
                [[publish]]\npublic = \"wan:21\"\nserver = \"10.0.0.5:21\"\n\
                toward_server = \"gateway\"\n";
    let config = scratch.write("ftp-nat.toml", text).unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", config.to_str().unwrap()]).unwrap();
    let target = server.target_at((WAN_ADDRESS, 21).into());
    let mut sessions: Vec<_> = lab
        .outside
        .iter()
        .map(|client| log_in(client, &target))
        .collect();
    let seen = seen_by_server(&lab);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(
        seen.iter().all(|it| it.starts_with("10.0.0.1:610")),
        "{seen:?}"
    );
    for (session, client) in sessions.iter_mut().zip(&lab.outside) {
        fetches(session, client);
    }
    drop(gateway);
}
