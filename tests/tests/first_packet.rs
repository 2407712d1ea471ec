//! `first_packet = "firewall"`: who is banned by nftables in its early hooks begins no session,
//! though all other packets go past the firewall.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use ftp_nat_tests::{
    capture::Capture,
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    server::{FtpServer, Kind, Settings},
};

const SMALL: &str = "/download/small.txt";
const CONTENT: &[u8] = b"as it was stored\n";

const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);
const PUBLIC_V6: SocketAddr = SocketAddr::new(IpAddr::V6(WAN_ADDRESS_V6), 21);

const RUN: [&str; 6] = [
    "--wan",
    "wan",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

/// Bans as administrators make them: in front of connection tracking, and at the interface.
const PREROUTING: &str = "
table inet bans {
    set v4 { type ipv4_addr; }
    set v6 { type ipv6_addr; }
    chain early {
        type filter hook prerouting priority raw;
        ip saddr @v4 drop
        ip6 saddr @v6 drop
    }
}
";
const INGRESS: &str = "
table inet bans {
    set v4 { type ipv4_addr; }
    set v6 { type ipv6_addr; }
    chain early {
        type filter hook ingress device \"wan\" priority 0;
        ip saddr @v4 drop
        ip6 saddr @v6 drop
    }
}
";

fn ban(lab: &Lab, what: &str, host: &Host) {
    let (v4, v6) = (host.v4, host.v6);
    let text =
        format!("{what} element inet bans v4 {{ {v4} }}\n{what} element inet bans v6 {{ {v6} }}\n");
    lab.router.nft(&text).unwrap();
}

/// Whether a host gets any answer from an address.
fn is_answered(host: &Host, address: SocketAddr) -> bool {
    let limit = Duration::from_millis(1500);
    let attempt = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, limit)));
    match attempt.unwrap() {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::TimedOut,
    }
}

/// A lab with a ban to be, a gateway with this way of first packets, and a server.
fn scene<R>(bans: &str, way: &str, act: impl FnOnce(&Lab, &FtpServer, &Gateway<'_>) -> R) -> R {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    lab.router.nft(bans).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    let arguments = [&RUN[..], &["--first-packet", way]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    act(&lab, &server, &gateway)
}

fn fetch(host: &Host, control: &mut Control) {
    for verb in ["PASV", "EPSV"] {
        assert_eq!(control.fetch(host, verb, SMALL).unwrap(), CONTENT);
    }
}

/// How many sessions and connections the gateway has, those that have ended included.
fn counts(gateway: &Gateway<'_>) -> [String; 2] {
    ["sessions", "flows"].map(|of| {
        let outcome = gateway.ask(&[of, "--count", "--all"]).unwrap();
        outcome.expect_success().unwrap().text()
    })
}

/// How many packets from the WAN went through the stack.
fn by_stack(gateway: &Gateway<'_>) -> u64 {
    gateway
        .metric("inbound_packets_total", "path=\"stack\"")
        .unwrap()
}

#[test]
fn who_is_banned_in_the_early_hooks_begins_no_session_and_hears_nothing() {
    for bans in [PREROUTING, INGRESS] {
        scene(bans, "firewall", |lab, server, gateway| {
            let [banned, other] = [0, 1].map(|number| &lab.outside[number]);
            let mut before = Control::log_in(banned, &server.target_at(PUBLIC)).unwrap();
            fetch(banned, &mut before);
            assert_eq!(
                by_stack(gateway),
                1,
                "the SYN of the session and nothing else"
            );

            ban(lab, "add", banned);
            let had = counts(gateway);
            let capture =
                Capture::start(&lab.server().namespace, HOST_INTERFACE, "tcp port 21").unwrap();
            for address in [PUBLIC, PUBLIC_V6] {
                assert!(!is_answered(banned, address), "{address}");
            }
            assert!(
                capture.stop().unwrap().is_empty(),
                "the server saw a packet"
            );
            assert_eq!(counts(gateway), had);

            // Others begin sessions, and what there was goes on.
            let mut session = Control::log_in(other, &server.target_at(PUBLIC)).unwrap();
            fetch(other, &mut session);
            let mut session = Control::log_in(other, &server.target_at(PUBLIC_V6)).unwrap();
            assert_eq!(session.fetch(other, "EPSV", SMALL).unwrap(), CONTENT);
            fetch(banned, &mut before);

            ban(lab, "delete", banned);
            let mut again = Control::log_in(banned, &server.target_at(PUBLIC)).unwrap();
            fetch(banned, &mut again);
        });
    }
}

#[test]
fn by_itself_a_redirected_session_is_not_met_by_bans() {
    scene(PREROUTING, "redirect", |lab, server, gateway| {
        let banned = &lab.outside[0];
        ban(lab, "add", banned);
        let mut session = Control::log_in(banned, &server.target_at(PUBLIC)).unwrap();
        fetch(banned, &mut session);
        assert_eq!(by_stack(gateway), 0);
    });
}
