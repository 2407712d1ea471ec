//! The same transfers over what networks are made of besides Ethernet cables: VLANs, bonds, network
//! cards with an XDP of their own, tunnels, frames of many sizes, a flowtable beside us.
//!
//! What is marked as ignored needs kernel modules that not every kernel has; `cargo xtask vm` runs
//! it in kernels that have them.

mod own_clients;
mod ports;
mod routers;
mod routes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ftp_nat_tests::{
    client::{Client, Mode},
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, LAN, LAN_ADDRESS, Lab, WAN, WAN_ADDRESS, WAN_ADDRESS_V6},
    medium::Medium,
    namespace::Namespace,
    server::{FtpServer, Kind, Settings},
    transfers,
};

const PUBLISH: [&str; 4] = [
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

const MASQUERADE: [&str; 4] = [
    "--masquerade",
    "10.0.0.0/24",
    "--masquerade",
    "fd00:10::/64",
];

/// The WAN of today's labs: one interface.
const ON_WAN: [&str; 2] = ["--wan", WAN];

/// How long a step may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

const ALL_MODES: [Mode; 4] = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt];

/// How the daemon is told to carry data.
const REDIRECT: &[&str] = &["--datapath", "redirect"];
const STACK: &[&str] = &["--lan", "none"];
const XDP: &[&str] = &["--datapath", "xdp"];

/// One file fetched, one stored and a folder listed in every mode, by IPv4 and by IPv6, from a server
/// that is published; the router forwards nothing but what `rules` let it.
fn published<'l>(lab: &'l Lab, rules: &str, datapath: &[&str]) -> Gateway<'l> {
    lab.router.nft(rules).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let arguments = [&ON_WAN[..], &PUBLISH, datapath].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    for ip in [IpAddr::from(WAN_ADDRESS), WAN_ADDRESS_V6.into()] {
        let address = SocketAddr::new(ip, 21);
        let clients = [Client::Curl];
        let failures = transfers::by(&clients, lab.client(), &server, address, &ALL_MODES).unwrap();
        all_right(&failures, &gateway);
    }
    gateway
}

/// The same from a server outside, for a client whose addresses the kernel translates.
fn masqueraded<'l>(lab: &'l Lab, rules: &str, datapath: &[&str]) -> Gateway<'l> {
    lab.router.nft(rules).unwrap();
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    let arguments = [&ON_WAN[..], &MASQUERADE, datapath].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    for ip in [IpAddr::from(outside.v4), outside.v6.into()] {
        let address = SocketAddr::new(ip, 21);
        let clients = [Client::Curl];
        let failures = transfers::by(&clients, lab.server(), &server, address, &ALL_MODES).unwrap();
        all_right(&failures, &gateway);
    }
    gateway
}

#[track_caller]
fn all_right(failures: &[String], gateway: &Gateway<'_>) {
    assert!(
        failures.is_empty(),
        "{}\nthe gateway said:\n{}",
        failures.join("\n\n"),
        gateway.log()
    );
}

/// Packets that were carried on a way, in both directions.
fn carried(gateway: &Gateway<'_>, path: &str) -> u64 {
    ["inbound", "outbound"]
        .map(|direction| {
            let labels = format!("path=\"{path}\"");
            gateway.metric(&format!("{direction}_packets_total"), &labels)
        })
        .into_iter()
        .sum::<anyhow::Result<u64>>()
        .unwrap()
}

/// Both roles, redirected and by the stack.
fn both_roles(wan: Medium, lan: Medium) {
    for (datapath, path, rules) in [
        (
            REDIRECT,
            "redirect",
            [firewall::DROP_FORWARDED, firewall::MASQUERADE],
        ),
        (
            STACK,
            "stack",
            [firewall::ACCEPT_ALL, firewall::MASQUERADE_MARKED],
        ),
    ] {
        let lab = Lab::over(wan, lan).unwrap();
        let gateway = published(&lab, rules[0], datapath);
        let packets = carried(&gateway, path);
        assert!(packets > 1000, "{wan:?}, {lan:?}: {packets} by {path}");
        drop(gateway);
        drop(lab);
        let lab = Lab::over(wan, lan).unwrap();
        let gateway = masqueraded(&lab, rules[1], datapath);
        let packets = carried(&gateway, path);
        assert!(packets > 300, "{wan:?}, {lan:?}: {packets} by {path}");
    }
}

#[test]
#[ignore = "needs the kernel's 8021q; `cargo xtask vm` runs it"]
fn vlans_as_wan_and_lan() {
    both_roles(Medium::Vlan, Medium::Vlan);
}

#[test]
#[ignore = "needs the kernel's bonding; `cargo xtask vm` runs it"]
fn bonds_as_wan_and_lan() {
    both_roles(Medium::Bond, Medium::Bond);
}

#[test]
#[ignore = "needs the kernel's bonding; `cargo xtask vm` runs it"]
fn a_bond_goes_on_when_its_first_link_fails() {
    let lab = Lab::over(Medium::Bond, Medium::Veth).unwrap();
    drop(published(&lab, firewall::DROP_FORWARDED, REDIRECT));
    lab.router.nft("delete table inet lab").unwrap();
    lab.client()
        .namespace
        .ip("link set eth0-below0 down")
        .unwrap();
    drop(published(&lab, firewall::DROP_FORWARDED, REDIRECT));
}

#[test]
#[ignore = "needs network cards; `cargo xtask vm` plugs them in"]
fn network_cards_as_wan_and_lan() {
    both_roles(Medium::Cards(0), Medium::Cards(1));
}

#[test]
#[ignore = "needs network cards; `cargo xtask vm` plugs them in"]
fn data_goes_by_the_xdp_of_network_cards() {
    let lab = Lab::over(Medium::Cards(0), Medium::Cards(1)).unwrap();
    let gateway = published(&lab, firewall::DROP_FORWARDED, XDP);
    assert!(!gateway.log().contains("no XDP"), "{}", gateway.log());
    let (xdp, redirect) = (carried(&gateway, "xdp"), carried(&gateway, "redirect"));
    assert!(
        xdp > 1000 && xdp > redirect,
        "{xdp} by XDP, {redirect} by TC\n{}",
        gateway.log()
    );
}

#[test]
#[ignore = "needs network cards; `cargo xtask vm` plugs them in"]
fn data_goes_on_by_the_xdp_of_network_cards_though_the_daemon_is_killed() {
    let lab = Lab::over(Medium::Cards(0), Medium::Cards(1)).unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let mut gateway = Gateway::start(&lab.router, &[&ON_WAN[..], &PUBLISH, XDP].concat()).unwrap();
    gateway.kill().unwrap();
    for _ in 0..2 {
        let before = carried(&gateway, "xdp");
        let address = SocketAddr::new(WAN_ADDRESS.into(), 21);
        let clients = [Client::Curl];
        let failures = transfers::by(&clients, lab.client(), &server, address, &ALL_MODES).unwrap();
        all_right(&failures, &gateway);
        assert!(carried(&gateway, "xdp") > before + 100);
        gateway.restart().unwrap();
        assert!(gateway.log().contains("took over"), "{}", gateway.log());
    }
}

#[test]
fn tun_as_wan() {
    both_roles(Medium::Tun, Medium::Veth);
}

#[test]
fn tun_as_lan() {
    both_roles(Medium::Veth, Medium::Tun);
}

#[test]
fn tun_on_both_sides() {
    both_roles(Medium::Tun, Medium::Tun);
}

#[test]
#[ignore = "needs the kernel's wireguard; `cargo xtask vm` runs it"]
fn wireguard_as_wan() {
    both_roles(Medium::Wireguard, Medium::Veth);
}

#[test]
#[ignore = "needs the kernel's wireguard; `cargo xtask vm` runs it"]
fn wireguard_as_lan() {
    both_roles(Medium::Veth, Medium::Wireguard);
}

#[test]
#[ignore = "needs the kernel's pppoe; `cargo xtask vm` runs it"]
fn pppoe_as_wan() {
    both_roles(
        Medium::Pppoe([WAN_ADDRESS, Ipv4Addr::new(198, 51, 100, 20)]),
        Medium::Veth,
    );
}

#[test]
#[ignore = "needs the kernel's pppoe; `cargo xtask vm` runs it"]
fn pppoe_as_lan() {
    both_roles(
        Medium::Veth,
        Medium::Pppoe([LAN_ADDRESS, Ipv4Addr::new(10, 0, 0, 5)]),
    );
}

#[test]
#[ignore = "needs the kernel's nf_flow_table; `cargo xtask vm` runs it"]
fn a_flowtable_beside_us() {
    let lab = Lab::new().unwrap();
    lab.router.nft(FLOWTABLE).unwrap();
    drop(masqueraded(&lab, firewall::MASQUERADE, REDIRECT));
    drop(lab);
    let lab = Lab::new().unwrap();
    lab.router.nft(FLOWTABLE).unwrap();
    drop(masqueraded(&lab, firewall::MASQUERADE_MARKED, STACK));
    drop(lab);
    let lab = Lab::new().unwrap();
    lab.router.nft(FLOWTABLE).unwrap();
    drop(published(&lab, firewall::ACCEPT_ALL, STACK));
}

/// Every TCP connection that the router forwards is handed to the flowtable.
const FLOWTABLE: &str = "
table inet fast {
    flowtable fast {
        hook ingress priority filter
        devices = { wan, lan }
    }
    chain forward {
        type filter hook forward priority filter - 1; policy accept;
        meta l4proto tcp flow add @fast
    }
}
";

#[test]
fn frames_of_every_size_in_and_out() {
    for [wan, lan] in [
        [1500, 9000],
        [9000, 1500],
        [1280, 1500],
        [1500, 1280],
        [1492, 1492],
    ] {
        let lab = Lab::new().unwrap();
        for (namespace, interface, mtu) in ends(&lab, wan, lan) {
            namespace
                .ip(&format!("link set {interface} mtu {mtu}"))
                .unwrap();
            // Nobody hears that a packet was too big: as behind a firewall that drops all ICMP.
            namespace.nft(NO_ICMP).unwrap();
        }
        drop(published(&lab, firewall::DROP_FORWARDED, REDIRECT));
    }
}

/// Both ends of both links, with the largest frame's payload that each is to take.
fn ends(lab: &Lab, wan: u32, lan: u32) -> [(&Namespace, &'static str, u32); 4] {
    [
        (&lab.router, WAN, wan),
        (&lab.client().namespace, HOST_INTERFACE, wan),
        (&lab.router, LAN, lan),
        (&lab.server().namespace, HOST_INTERFACE, lan),
    ]
}

const NO_ICMP: &str = "
table inet silent {
    chain input {
        type filter hook input priority filter; policy accept;
        icmp type { destination-unreachable, time-exceeded } drop
        icmpv6 type { packet-too-big, destination-unreachable, time-exceeded } drop
    }
    chain output {
        type filter hook output priority filter; policy accept;
        icmp type { destination-unreachable, time-exceeded } drop
        icmpv6 type { packet-too-big, destination-unreachable, time-exceeded } drop
    }
}
";
