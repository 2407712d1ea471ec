//! Clients on the gateway itself, which dial a public address of it: their packets come by the loopback
//! interface, and nothing is set for them.

use std::net::{IpAddr, SocketAddr};

use ftp_nat_tests::{
    client::Client,
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    namespace::Namespace,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    transfers,
};

use crate::{ALL_MODES, all_right};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(WAN_ADDRESS_V6), 21);

/// What distributions and administrators set, the strictest of each.
const STRICT: [(&str, &str); 5] = [
    ("net.ipv4.conf.all.rp_filter", "1"),
    ("net.ipv4.conf.lo.rp_filter", "1"),
    ("net.ipv4.conf.lo.accept_local", "0"),
    ("net.ipv4.ip_early_demux", "0"),
    ("net.ipv4.tcp_early_demux", "0"),
];

/// One file fetched, one stored and a folder listed in every mode, with these lines in `[gateway]` and in
/// each `[[publish]]`.
fn own_clients(gateway: &str, publish: &str, change: impl FnOnce(&Lab)) {
    let lab = Lab::with(Plan {
        inside: 2,
        ..Plan::default()
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    for (key, value) in STRICT {
        lab.router.sysctl(key, value).unwrap();
    }
    change(&lab);
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let scratch = Scratch::new().unwrap();
    let text = format!(
        "[gateway]\nwan = [\"wan\"]\n{gateway}\n\
         [[publish]]\npublic = \"wan:21\"\nserver = \"10.0.0.5:21\"\n{publish}\n\
         [[publish]]\npublic = \"wan:21\"\nserver = \"[fd00:10::5]:21\"\n{publish}\n"
    );
    let config = scratch.write("ftp-nat.toml", text).unwrap();
    let config = config.to_str().unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", config]).unwrap();
    let itself = Host {
        namespace: Namespace::existing(lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    };
    for address in [V4, V6] {
        for host in [&itself, lab.client()] {
            let clients = [Client::Curl];
            let failures = transfers::by(&clients, host, &server, address, &ALL_MODES).unwrap();
            all_right(&failures, &gateway);
        }
    }
    let doctor = gateway.ask(&["doctor", "--config", config]).unwrap();
    assert!(doctor.success(), "{}", doctor.text());
}

#[test]
fn by_redirect() {
    own_clients("", "", |_| ());
}

#[test]
fn by_xdp() {
    own_clients("datapath = \"xdp\"", "", |_| ());
}

#[test]
fn by_interfaces_that_are_named() {
    own_clients("lan = [\"lan\", \"lo\"]", "", |_| ());
}

#[test]
fn when_the_firewall_sees_the_first_packet() {
    own_clients("first_packet = \"firewall\"", "", |lab| {
        lab.router.nft("flush ruleset").unwrap();
        lab.router.nft(firewall::ACCEPT_ALL).unwrap();
    });
}

#[test]
fn of_a_server_that_sees_the_gateway() {
    own_clients("", "toward_server = \"gateway\"", |_| ());
}

/// A rule of routing that sends what comes from the public address elsewhere, and no way but that.
#[test]
fn where_rules_choose_routes() {
    own_clients("", "", |lab| {
        lab.router
            .ip("route add prohibit 0.0.0.0/0\n\
                 rule add from 198.51.100.1 lookup 98\n\
                 route add 0.0.0.0/0 via 198.51.100.20 table 98")
            .unwrap();
    });
}
