//! Routes that go, come back, and are chosen by rules.

use std::{net::SocketAddr, thread, time::Duration};

use ftp_nat_tests::{
    client::Client,
    control::{Control, connect},
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    process,
    server::{FtpServer, Kind, Settings},
    transfers,
    uplinks::{Provider, far_host},
};

use crate::{ALL_MODES, LIMIT, ON_WAN, PUBLISH, REDIRECT, STACK, all_right, published};

const CONTENT: &[u8] = b"as it was stored\n";

/// How long a route is away.
const AWAY: Duration = Duration::from_secs(2);

/// A route that is away as a data connection begins, and back before its SYN has been repeated for the
/// second time: it comes about, in both directions, whatever its first SYN met.
#[test]
fn a_route_is_away_while_a_data_connection_begins() {
    const TO_CLIENT: &str = "198.51.100.0/24 dev wan src 198.51.100.1";
    const TO_SERVER: &str = "10.0.0.0/24 dev lan src 10.0.0.1";
    for (datapath, rules, routes) in [
        (
            REDIRECT,
            firewall::DROP_FORWARDED,
            &[TO_CLIENT, TO_SERVER][..],
        ),
        // A router that has no route to the server says so, and the client gives up at once.
        (STACK, firewall::ACCEPT_ALL, &[TO_CLIENT]),
    ] {
        let lab = Lab::new().unwrap();
        lab.router.nft(rules).unwrap();
        let client = lab.client();
        let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let arguments = [&ON_WAN[..], &PUBLISH, datapath].concat();
        let gateway = Gateway::start(&lab.router, &arguments).unwrap();
        let target = server.target_at((WAN_ADDRESS, 21).into());
        for route in routes {
            let away = || lab.router.ip(&format!("route del {route}")).unwrap();
            let back = || lab.router.ip(&format!("route add {route}")).unwrap();
            let mut session = Control::log_in(client, &target).unwrap();
            let address = session.announce("PASV").unwrap();
            away();
            let data = thread::scope(|scope| {
                let dials = scope.spawn(|| connect(client, address));
                thread::sleep(AWAY);
                back();
                dials.join().unwrap()
            });
            let data = data.unwrap_or_else(|error| {
                panic!("{datapath:?}, {route}: {error:#}\n{}", gateway.log())
            });
            let content = session.fetch_over(&data, "/download/small.txt").unwrap();
            assert_eq!(content, CONTENT);

            // The server's own connection. The stack would refuse it with an ICMP error.
            if datapath == STACK {
                continue;
            }
            let own = SocketAddr::new(client.v4.into(), 0);
            let listener = client
                .namespace
                .run(|| Ok(std::net::TcpListener::bind(own)?))
                .unwrap();
            socket2::SockRef::from(&listener)
                .set_read_timeout(Some(LIMIT))
                .unwrap();
            let port = listener.local_addr().unwrap().port();
            let reply = session.command(&format!("EPRT |1|{}|{port}|", client.v4));
            assert!(reply.unwrap().starts_with("200"));
            session.send("RETR /download/small.txt\r\n").unwrap();
            away();
            thread::sleep(AWAY);
            back();
            let (data, _) = listener.accept().unwrap();
            let content = ftp_nat_tests::control::read_all(&data).unwrap();
            assert_eq!(content, CONTENT, "{datapath:?}, {route}");
        }
    }
}

/// The main table knows no way to the servers: only what comes from outside is routed there.
#[test]
fn routes_by_the_interface_that_a_packet_comes_by() {
    let lab = Lab::new().unwrap();
    lab.router
        .ip("route del 10.0.0.0/24 dev lan\n\
             route add 10.0.0.0/24 dev lan src 10.0.0.1 table 7\n\
             rule add iif wan lookup 7\n\
             route del fd00:10::/64 dev lan\n\
             route add fd00:10::/64 dev lan table 7")
        .unwrap();
    let mut ip = lab.router.command("ip").unwrap();
    let outcome = process::run(
        ip.args(["-6", "rule", "add", "iif", "wan", "lookup", "7"]),
        LIMIT,
    );
    outcome.unwrap().expect_success().unwrap();
    // Which interface that is no route of this machine's own says.
    let arguments = [REDIRECT, &["--lan", "lan"]].concat();
    drop(published(&lab, firewall::DROP_FORWARDED, &arguments));
}

/// Two providers' boxes, each with the factory's address 192.168.1.1, on two interfaces.
#[test]
fn two_uplinks_whose_routers_have_the_same_address() {
    let lab = Lab::new().unwrap();
    let second = lab
        .attach_host(
            "wan2",
            ["203.0.113.1", "203.0.113.20"].map(|it| it.parse().unwrap()),
            ["2001:db8:2::1", "2001:db8:2::20"].map(|it| it.parse().unwrap()),
        )
        .unwrap();
    let provider = |host, networks| Provider { host, networks };
    let far = far_host([
        provider(lab.client(), ["192.168.1.2/32", "2001:db8:1::/64"]),
        provider(&second, ["192.168.1.3/32", "2001:db8:2::/64"]),
    ])
    .unwrap();
    for host in [lab.client(), &second] {
        host.namespace
            .ip("addr add 192.168.1.1/24 dev eth0")
            .unwrap();
    }
    lab.router
        .ip("addr del 198.51.100.1/24 dev wan\n\
             addr del 203.0.113.1/24 dev wan2\n\
             addr add 192.168.1.2/24 dev wan\n\
             addr add 192.168.1.3/24 dev wan2\n\
             route add 0.0.0.0/0 via 192.168.1.1 dev wan")
        .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let arguments = [
        "--wan",
        "wan",
        "--wan",
        "wan2",
        "--publish",
        "192.168.1.2:21=10.0.0.5:21",
        "--publish",
        "192.168.1.3:21=10.0.0.5:21",
    ];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    for public in ["192.168.1.2:21", "192.168.1.3:21"] {
        let address = public.parse().unwrap();
        let failures = transfers::by(&[Client::Curl], &far, &server, address, &ALL_MODES).unwrap();
        all_right(&failures, &gateway);
    }
}

/// The address is taken from one interface and given to another one of the same network, in the middle of
/// a session.
#[test]
fn an_address_that_moves_to_another_interface() {
    let lab = Lab::new().unwrap();
    let client = lab.client();
    let name = client.namespace.name();
    lab.router
        .ip(&format!(
            "link add wan2 type veth peer name eth1 netns {name}\nlink set wan2 up"
        ))
        .unwrap();
    client
        .namespace
        .ip(
            "link add switch type bridge\nlink set switch up\nlink set eth1 up\n\
             link set eth0 master switch\nlink set eth1 master switch\n\
             addr del 198.51.100.20/24 dev eth0\naddr add 198.51.100.20/24 dev switch",
        )
        .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    let wans = ["--wan", "wan", "--wan", "wan2"];
    let arguments = [&wans[..], &PUBLISH[..2]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut session = Control::log_in(client, &server.target_at((WAN_ADDRESS, 21).into())).unwrap();
    let mut fetch = |when: &str| {
        let content = session.fetch(client, "PASV", "/download/small.txt");
        let content = content.unwrap_or_else(|e| panic!("{when}: {e:#}\n{}", gateway.log()));
        assert_eq!(content, CONTENT, "{when}");
    };
    fetch("before");
    for (from, to) in [("wan", "wan2"), ("wan2", "wan")] {
        lab.router
            .ip(&format!(
                "addr del 198.51.100.1/24 dev {from}\naddr add 198.51.100.1/24 dev {to}"
            ))
            .unwrap();
        // What a gratuitous ARP does.
        client.namespace.ip("neigh flush all").unwrap();
        fetch(to);
    }
}
