//! Routers that are set up in other ways: what kind their interfaces are, and where their addresses are.

use std::net::{IpAddr, SocketAddr};

use ftp_nat_tests::{
    client::Client,
    firewall,
    gateway::Gateway,
    lab::{Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    transfers,
};

use crate::{ALL_MODES, ON_WAN, REDIRECT, all_right, masqueraded, published};

/// A lab whose router is changed by these lines of `ip`.
fn lab(router: &str) -> Lab {
    let lab = Lab::new().unwrap();
    lab.router.ip(router).unwrap();
    lab
}

/// Moves the router's addresses from an interface of the lab to another one that is made from it.
fn moved(from: &str, to: &str, [v4, v6]: [&str; 2]) -> String {
    format!(
        "addr del {v4} dev {from}\n\
         addr del {v6} dev {from}\n\
         addr add {v4} dev {to}\n\
         addr add {v6} dev {to} nodad"
    )
}

const OUTSIDE: [&str; 2] = ["198.51.100.1/24", "2001:db8:1::1/64"];
const INSIDE: [&str; 2] = ["10.0.0.1/24", "fd00:10::1/64"];

/// Both roles, redirected.
fn both_roles(router: &str, more: &[&str]) {
    let arguments = [REDIRECT, more].concat();
    let lab = lab(router);
    let used = published(&lab, firewall::DROP_FORWARDED, &arguments)
        .metric_in_all("mappings_used_total")
        .unwrap();
    assert!(used >= 18, "{used}");
    let rules = firewall::MASQUERADE.replace("iifname \"lan\"", "iifname != \"wan\"");
    drop(masqueraded(&lab, &rules, &arguments));
}

#[test]
fn a_bridge_as_lan() {
    both_roles(
        &format!(
            "link add bridge type bridge\nlink set bridge up\nlink set lan master bridge\n{}",
            moved("lan", "bridge", INSIDE)
        ),
        &[],
    );
}

#[test]
fn macvlan_as_lan() {
    both_roles(
        &format!(
            "link add link lan name servers type macvlan mode bridge\nlink set servers up\n{}",
            moved("lan", "servers", INSIDE)
        ),
        &[],
    );
}

/// The lab's `wan` becomes the macvlan's lower interface, under another name. That must not answer for the
/// macvlan's address: what comes by it is no packet of the WAN's.
#[test]
fn macvlan_as_wan() {
    both_roles(
        &format!(
            "link set wan down\nlink set wan name below\nlink set below arp off\nlink set below up\n\
             link add link below name wan type macvlan mode bridge\nlink set wan up\n\
             addr flush dev below\n\
             addr add {} dev wan\naddr add {} dev wan nodad",
            OUTSIDE[0], OUTSIDE[1]
        ),
        &[],
    );
}

/// As hosting providers have it: the address is alone, and the provider's router is on no network of ours.
#[test]
fn an_address_alone_with_a_router_on_link() {
    let lab = lab(
        "addr del 198.51.100.1/24 dev wan\naddr add 198.51.100.1/32 dev wan\n\
         addr del 2001:db8:1::1/64 dev wan\naddr add 2001:db8:1::1/128 dev wan nodad\n\
         route add 0.0.0.0/0 via 172.31.1.1 dev wan onlink\n\
         route add ::/0 via fe80::1 dev wan onlink",
    );
    lab.client()
        .namespace
        .ip("addr add 172.31.1.1/32 dev eth0\n\
             addr add fe80::1/64 dev eth0 nodad")
        .unwrap();
    drop(published(&lab, firewall::DROP_FORWARDED, REDIRECT));
    drop(masqueraded(&lab, firewall::MASQUERADE, REDIRECT));
}

/// Each has a server of its own, and the interface's name stands for the first.
#[test]
fn several_addresses_on_one_interface() {
    let lab = Lab::with(Plan {
        inside: 2,
        ..Plan::default()
    })
    .unwrap();
    lab.router
        .ip("addr add 198.51.100.2/24 dev wan\naddr add 2001:db8:1::2/64 dev wan nodad")
        .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let servers = [0, 1].map(|place: usize| {
        let host = &lab.inside[place];
        let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
        server
            .offer("who.txt", host.v4.to_string().as_bytes())
            .unwrap();
        server
    });
    let more = [
        "--publish",
        "wan:21=10.0.0.5:21",
        "--publish",
        "198.51.100.2:21=10.0.0.6:21",
        "--publish",
        "[2001:db8:1::1]:21=[fd00:10::5]:21",
        "--publish",
        "[2001:db8:1::2]:21=[fd00:10::6]:21",
    ];
    let gateway = Gateway::start(&lab.router, &[&ON_WAN[..], &more].concat()).unwrap();
    for (last, server) in [(1, &servers[0]), (2, &servers[1])] {
        let v4 = IpAddr::from([198, 51, 100, last]);
        let v6 = format!("2001:db8:1::{last}").parse().unwrap();
        for ip in [v4, v6] {
            let address = SocketAddr::new(ip, 21);
            let failures =
                transfers::by(&[Client::Curl], lab.client(), server, address, &ALL_MODES).unwrap();
            all_right(&failures, &gateway);
        }
    }
}

/// The provider gives the line another prefix: `wan:21` is followed, and so is the address that replies
/// name.
#[test]
fn another_prefix_from_the_provider() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let arguments = [
        "--publish",
        "wan:21=10.0.0.5:21",
        "--publish",
        "wan:21=[fd00:10::5]:21",
    ];
    let gateway = Gateway::start(&lab.router, &[&ON_WAN[..], &arguments].concat()).unwrap();
    let works = |address: SocketAddr| {
        let failures =
            transfers::by(&[Client::Curl], lab.client(), &server, address, &ALL_MODES).unwrap();
        all_right(&failures, &gateway);
    };
    works((WAN_ADDRESS, 21).into());
    works((WAN_ADDRESS_V6, 21).into());
    lab.client()
        .namespace
        .ip("addr add 2001:db8:7::20/64 dev eth0 nodad\naddr add 203.0.113.20/24 dev eth0")
        .unwrap();
    lab.router
        .ip(
            "addr add 2001:db8:7::1/64 dev wan nodad\naddr del 2001:db8:1::1/64 dev wan\n\
             addr add 203.0.113.1/24 dev wan\naddr del 198.51.100.1/24 dev wan",
        )
        .unwrap();
    let start = std::time::Instant::now();
    while !gateway
        .ask(&["status"])
        .unwrap()
        .text()
        .contains("2001:db8:7::1")
        || !gateway
            .ask(&["status"])
            .unwrap()
            .text()
            .contains("203.0.113.1:")
    {
        assert!(
            start.elapsed() < std::time::Duration::from_secs(10),
            "{}",
            gateway.ask(&["status"]).unwrap().text()
        );
    }
    works("[2001:db8:7::1]:21".parse().unwrap());
    works("203.0.113.1:21".parse().unwrap());
}

/// The inside is a VRF, and each table has a route to the other side.
#[test]
#[ignore = "needs the kernel's vrf; `cargo xtask vm` runs it"]
fn the_inside_in_a_vrf() {
    let lab = lab(
        "link add red type vrf table 10\nlink set red up\nlink set lan master red\n\
         addr replace 10.0.0.1/24 dev lan\naddr replace fd00:10::1/64 dev lan nodad\n\
         route add 10.0.0.0/24 dev lan\nroute add fd00:10::/64 dev lan\n\
         route add 198.51.100.0/24 dev wan table 10\nroute add 2001:db8:1::/64 dev wan table 10",
    );
    let arguments = [REDIRECT, &["--lan", "lan"]].concat();
    drop(published(&lab, firewall::DROP_FORWARDED, &arguments));
}

/// The WAN is in a VRF, and each table has a route to the other side.
#[test]
#[ignore = "needs the kernel's vrf; `cargo xtask vm` runs it"]
fn the_outside_in_a_vrf() {
    let lab = lab(
        "link add red type vrf table 10\nlink set red up\nlink set wan master red\n\
         addr replace 198.51.100.1/24 dev wan\naddr replace 2001:db8:1::1/64 dev wan nodad\n\
         route add 198.51.100.0/24 dev wan\nroute add 2001:db8:1::/64 dev wan\n\
         route add 10.0.0.0/24 dev lan table 10\nroute add fd00:10::/64 dev lan table 10",
    );
    drop(published(&lab, firewall::DROP_FORWARDED, REDIRECT));
}

/// The address is another machine's until this one takes it over, as VRRP does it: nothing warns meanwhile,
/// and from then on its clients are served.
#[test]
fn a_standby_that_has_not_got_the_address_yet() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let scratch = Scratch::new().unwrap();
    let text = "[gateway]\nwan = [\"wan\"]\nstandby = true\n\
                [[publish]]\npublic = \"198.51.100.9:21\"\nserver = \"10.0.0.5:21\"\n";
    let config = scratch.write("ftp-nat.toml", text).unwrap();
    let config = config.to_str().unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", config]).unwrap();
    let is_well = || {
        let log = gateway.log();
        assert!(!log.contains("warn"), "{log}");
        let doctor = gateway.ask(&["doctor", "--config", config]).unwrap();
        assert!(doctor.success(), "{}", doctor.text());
    };
    is_well();
    lab.router.ip("addr add 198.51.100.9/24 dev wan").unwrap();
    let address = "198.51.100.9:21".parse().unwrap();
    let clients = [Client::Curl];
    let failures = transfers::by(&clients, lab.client(), &server, address, &ALL_MODES).unwrap();
    all_right(&failures, &gateway);
    is_well();
}
