//! Networks where nothing is translated: only a firewall stands in the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ftp_nat_tests::{
    lab::Lab,
    server::{FtpServer, Kind, Settings},
};

use crate::{
    scene::Scene,
    stage::{Fault, Stage},
};

/// The addresses of the host inside that the outside knows.
const INSIDE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)), 21),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 5)),
        21,
    ),
];

/// A lab whose host inside has addresses that are routed.
fn lab() -> Lab {
    let lab = Lab::new().unwrap();
    lab.router
        .ip("addr add 203.0.113.1/28 dev lan\naddr add 2001:db8:5::1/64 dev lan nodad")
        .unwrap();
    let inside = &lab.server().namespace;
    inside
        .ip("addr add 203.0.113.5/28 dev eth0\n\
             addr add 2001:db8:5::5/64 dev eth0 nodad\n\
             route replace 0.0.0.0/0 via 203.0.113.1 src 203.0.113.5\n\
             route replace ::/0 via 2001:db8:5::1 src 2001:db8:5::5")
        .unwrap();
    let outside = &lab.client().namespace;
    outside
        .ip("route add 203.0.113.0/28 via 198.51.100.1\n\
             route add 2001:db8:5::/64 via 2001:db8:1::1")
        .unwrap();
    lab
}

#[test]
fn servers_with_public_addresses() {
    let scene = Scene::named("Servers with public addresses behind a firewall");
    let lab = lab();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let [v4, v6] = INSIDE;
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![
            (Some("IPv4"), lab.client(), v4),
            (Some("IPv6"), lab.client(), v6),
        ],
        server: &server,
    });
    let faults = [
        Fault {
            at: &lab.server().namespace,
            broken: "ip route del default",
            mended: "ip route add default via 203.0.113.1 src 203.0.113.5",
            found: &["no-way-back"],
        },
        Fault {
            at: &lab.router,
            broken: "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
            mended: "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            found: &["forwarding-off"],
        },
        Fault {
            at: &lab.router,
            broken: "ip addr del 203.0.113.1/28 dev lan",
            mended: "ip addr add 203.0.113.1/28 dev lan",
            found: &["no-route"],
        },
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    drop(server);
    played.is_found("server-refuses");
}

#[test]
fn servers_with_public_addresses_through_the_stack() {
    let scene = Scene::named("Servers with public addresses, through the stack");
    let lab = lab();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let [v4, v6] = INSIDE;
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![
            (Some("IPv4"), lab.client(), v4),
            (Some("IPv6"), lab.client(), v6),
        ],
        server: &server,
    });
    let at_router = |broken, mended, found| Fault {
        at: &lab.router,
        broken,
        mended,
        found,
    };
    let faults = [
        at_router(
            "ip rule add fwmark 0x40/0xf0 lookup 100",
            "ip rule del fwmark 0x40/0xf0 lookup 100",
            &["mark-collides"],
        ),
        at_router(
            "nft insert rule inet filter forward meta mark set 0",
            "",
            &["firewall-drops-control", "firewall-drops-data"],
        ),
        at_router(
            "nft add table ip6 guard; \
             nft add chain ip6 guard pre '{ type filter hook prerouting priority -300; }'; \
             nft add rule ip6 guard pre iifname wan tcp dport != 21 drop",
            "",
            &["firewall-drops-data"],
        ),
        at_router(
            "nft flush chain inet filter forward; \
             nft add rule inet filter forward ct state established,related accept; \
             nft add rule inet filter forward meta mark and 0x40 == 0x40 accept",
            "",
            // In active mode servers connect, and they may not: that is a note.
            &[],
        ),
        at_router(
            "nft flush chain inet filter forward; \
             nft add rule inet filter forward iifname lan accept; \
             nft add rule inet filter forward iifname wan tcp dport 21 accept",
            "",
            &["firewall-drops-data"],
        ),
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    // The rules of those who have no ftp-nat.
    scene.rules(&lab.router, "nft");
    played.is_found("firewall-drops-data");
}

#[test]
fn clients_with_public_addresses() {
    let scene = Scene::named("Clients with public addresses behind a firewall");
    let lab = lab();
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    let v6 = SocketAddr::new(outside.v6.into(), 21);
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![
            (Some("IPv4"), lab.server(), server.address()),
            (Some("IPv6"), lab.server(), v6),
        ],
        server: &server,
    });
    let at_router = |broken, mended, found| Fault {
        at: &lab.router,
        broken,
        mended,
        found,
    };
    let faults = [
        Fault::not_forwarding(&lab.router),
        at_router(
            "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
            "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            &["forwarding-off"],
        ),
        at_router(
            "ip addr del 203.0.113.1/28 dev lan",
            "ip addr add 203.0.113.1/28 dev lan",
            &["no-route"],
        ),
        at_router(
            "nft add table ip nat; \
             nft add chain ip nat post '{ type nat hook postrouting priority 100; }'; \
             nft add rule ip nat post oifname wan masquerade",
            "",
            &["clients-translated"],
        ),
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    scene.rules(&lab.router, "nft helper");
    played.is_found("kernel-helper");
}
