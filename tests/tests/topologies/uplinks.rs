//! Several uplinks: whoever comes by one of them is answered there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ftp_nat_tests::{
    client::Mode,
    lab::{Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    namespace::Namespace,
    server::{FtpServer, Kind, Settings},
    uplinks::{Provider, far_host},
};

use crate::{
    scene::Scene,
    stage::{Fault, Played, Stage, fetches},
};

/// What the first provider has given out, and the second.
const NETWORKS: [[&str; 2]; 2] = [
    ["198.51.100.0/24", "2001:db8:1::/64"],
    ["203.0.113.0/24", "2001:db8:2::/64"],
];
/// The router's addresses at the second provider.
const SECOND: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1),
);

/// Makes good what the kernel removes when the second uplink goes down.
const SECOND_UP: &str = "ip link set wan2 up; ip addr replace 2001:db8:2::1/64 dev wan2 nodad; \
    ip route replace default via 203.0.113.20 table 102; \
    ip -6 route replace default via 2001:db8:2::20 table 102";

/// A router with two uplinks, and a host far away behind them.
struct World {
    far: Host,
    _second: Option<Host>,
    lab: Lab,
}

/// Two uplinks on two interfaces.
fn two_interfaces() -> World {
    let lab = Lab::new().unwrap();
    let (v4, v6) = SECOND;
    let second = lab
        .attach_host(
            "wan2",
            [v4, Ipv4Addr::new(203, 0, 113, 20)],
            [v6, Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x20)],
        )
        .unwrap();
    let [first_networks, second_networks] = NETWORKS;
    let far = far_host([
        Provider {
            host: lab.client(),
            networks: first_networks,
        },
        Provider {
            host: &second,
            networks: second_networks,
        },
    ])
    .unwrap();
    World {
        far,
        _second: Some(second),
        lab,
    }
}

/// Two routers on one network, each for one address.
fn two_routers() -> World {
    let lab = Lab::with(Plan {
        outside: 2,
        ..Plan::default()
    })
    .unwrap();
    let provider = |number: usize, networks| Provider {
        host: &lab.outside[number],
        networks,
    };
    let far = far_host([
        provider(0, ["198.51.100.1/32", "2001:db8:1::1/128"]),
        provider(1, ["198.51.100.2/32", "2001:db8:1::2/128"]),
    ])
    .unwrap();
    World {
        far,
        _second: None,
        lab,
    }
}

/// The rows of a scene's table, with the public ends that they dial.
fn by_providers(
    far: &Host,
    second: (Ipv4Addr, Ipv6Addr),
) -> Vec<(Option<&'static str>, &Host, SocketAddr)> {
    let end = |address: IpAddr| SocketAddr::new(address, 21);
    vec![
        (Some("the first provider"), far, end(WAN_ADDRESS.into())),
        (Some("the second provider"), far, end(second.0.into())),
        (
            Some("the first provider and IPv6"),
            far,
            end(WAN_ADDRESS_V6.into()),
        ),
        (
            Some("the second provider and IPv6"),
            far,
            end(second.1.into()),
        ),
    ]
}

/// Plays a scene whose server is behind the router.
fn play<'w>(
    scene: &Scene,
    world: &'w World,
    second: (Ipv4Addr, Ipv6Addr),
    server: &FtpServer,
) -> Played<'w> {
    scene.play(&Stage {
        router: &world.lab.router,
        clients: by_providers(&world.far, second),
        server,
    })
}

#[test]
fn told_apart_by_source_address() {
    let scene = Scene::named("Two uplinks, told apart by source address");
    let world = two_interfaces();
    let server = FtpServer::start(Kind::Vsftpd, world.lab.server(), &Settings::default()).unwrap();
    let played = play(&scene, &world, SECOND, &server);
    let router = &world.lab.router;
    // The router's own clients come with the address that they dial, for which the rule has another table.
    for (v4, v6) in [(WAN_ADDRESS, WAN_ADDRESS_V6), SECOND] {
        let itself = Host {
            namespace: Namespace::existing(router.name()).unwrap(),
            v4,
            v6,
        };
        for ip in [IpAddr::from(v4), v6.into()] {
            for mode in [Mode::Pasv, Mode::Epsv, Mode::Eprt] {
                let did = fetches(&itself, &server, SocketAddr::new(ip, 21), mode, true);
                assert!(
                    did.is_ok(),
                    "{mode:?} by the router itself, at {ip}: {did:?}"
                );
            }
        }
    }
    let at_router = |broken, mended, found| Fault {
        at: router,
        broken,
        mended,
        found,
    };
    let faults = [
        at_router(
            "ip link set wan2 down",
            SECOND_UP,
            &["configuration", "interface-down"],
        ),
        // Sessions leave as they came, whatever the rules say.
        at_router(
            "ip rule del from 203.0.113.1 lookup 102",
            "ip rule add from 203.0.113.1 lookup 102",
            &[],
        ),
        at_router(
            "echo 0 > /proc/sys/net/ipv4/ip_forward",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            &["forwarding-off"],
        ),
    ];
    played.diagnoses(&scene, router, &faults);
}

#[test]
fn told_apart_by_marks() {
    let scene = Scene::named("Two uplinks, told apart by marks");
    let world = two_interfaces();
    let server = FtpServer::start(Kind::Vsftpd, world.lab.server(), &Settings::default()).unwrap();
    let played = play(&scene, &world, SECOND, &server);
    let router = &world.lab.router;
    let at_router = |broken, mended, found| Fault {
        at: router,
        broken,
        mended,
        found,
    };
    let faults = [
        at_router("nft flush chain inet uplinks prerouting", "", &[]),
        at_router(
            "nft insert rule inet uplinks prerouting iifname wan tcp dport 21 dnat ip to 10.0.0.5 2>/dev/null || \
             { nft add chain inet uplinks pre '{ type nat hook prerouting priority dstnat; }'; \
               nft add rule inet uplinks pre iifname wan tcp dport 21 dnat ip to 10.0.0.5; }",
            "",
            &["second-nat-rule"],
        ),
    ];
    played.diagnoses(&scene, router, &faults);
}

#[test]
fn only_one_default_route() {
    let scene = Scene::named("Two uplinks, and only one default route");
    let world = two_interfaces();
    let server = FtpServer::start(Kind::Vsftpd, world.lab.server(), &Settings::default()).unwrap();
    let played = play(&scene, &world, SECOND, &server);
    let router = &world.lab.router;
    let faults = [
        Fault {
            at: router,
            broken: "ip route del default",
            mended: "ip route add default via 198.51.100.20",
            found: &[],
        },
        Fault {
            at: router,
            broken: "echo 1 > /proc/sys/net/ipv4/conf/wan2/rp_filter",
            mended: "echo 0 > /proc/sys/net/ipv4/conf/wan2/rp_filter",
            found: &["reverse-path-filter"],
        },
        Fault {
            at: &world.lab.server().namespace,
            broken: "ip route del default",
            mended: "ip route add default via 10.0.0.1",
            found: &["no-way-back"],
        },
    ];
    played.diagnoses(&scene, router, &faults);
    drop(played);
    // The routing tables know nothing of the second provider, where they are to decide.
    let by_routes = Scene::with_toml(&scene, |toml| {
        toml.replace("[gateway]", "[gateway]\nsymmetric_return = false")
    });
    let played = by_routes.start(&world.lab.router);
    for (by, host, address) in by_providers(&world.far, SECOND) {
        let is_first = address.ip() == IpAddr::from(WAN_ADDRESS)
            || address.ip() == IpAddr::from(WAN_ADDRESS_V6);
        for mode in [Mode::Epsv, Mode::Eprt] {
            let did = fetches(host, &server, address, mode, is_first);
            assert_eq!(did.is_ok(), is_first, "{mode:?} by {by:?}: {did:?}");
        }
    }
    drop(played);
    // XDP sends them the same way.
    let xdp = Scene::with_toml(&scene, |toml| {
        toml.replace("[gateway]", "[gateway]\ndatapath = \"xdp\"")
    });
    let _played = xdp.start(&world.lab.router);
    for (by, host, address) in by_providers(&world.far, SECOND) {
        for mode in [Mode::Epsv, Mode::Eprt] {
            let did = fetches(host, &server, address, mode, true);
            assert!(did.is_ok(), "{mode:?} by {by:?} with XDP: {did:?}");
        }
    }
}

#[test]
fn through_the_stack() {
    let scene = Scene::named("Two uplinks, through the stack");
    let world = two_interfaces();
    let server = FtpServer::start(Kind::Vsftpd, world.lab.server(), &Settings::default()).unwrap();
    let played = play(&scene, &world, SECOND, &server);
    let router = &world.lab.router;
    let at_router = |broken, mended, found| Fault {
        at: router,
        broken,
        mended,
        found,
    };
    let faults = [
        at_router(
            "nft insert rule inet filter forward meta mark set 0",
            "",
            &["firewall-drops-control", "firewall-drops-data"],
        ),
        at_router(
            "echo 1 > /proc/sys/net/ipv4/conf/wan2/rp_filter",
            "echo 0 > /proc/sys/net/ipv4/conf/wan2/rp_filter",
            &["reverse-path-filter"],
        ),
    ];
    played.diagnoses(&scene, router, &faults);
}

#[test]
fn a_server_on_the_gateway_itself() {
    let scene = Scene::named("A server on the gateway itself, with two uplinks");
    let world = two_interfaces();
    let here = Host {
        namespace: Namespace::existing(world.lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    };
    let server = FtpServer::start(Kind::Vsftpd, &here, &Settings::default()).unwrap();
    let played = play(&scene, &world, SECOND, &server);
    let faults = [
        Fault {
            at: &world.lab.router,
            broken: "nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'; \
                     nft add rule inet filter input ct state established accept; \
                     nft add rule inet filter input tcp dport 21 accept",
            mended: "",
            found: &["firewall-drops-data"],
        },
        Fault {
            at: &world.lab.router,
            broken: "ip link set wan2 down",
            mended: SECOND_UP,
            found: &["interface-down"],
        },
    ];
    played.diagnoses(&scene, &world.lab.router, &faults);
}

#[test]
fn two_routers_on_one_network() {
    let scene = Scene::named("Two routers on one network");
    let world = two_routers();
    let server = FtpServer::start(Kind::Vsftpd, world.lab.server(), &Settings::default()).unwrap();
    let second = (
        Ipv4Addr::new(198, 51, 100, 2),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    );
    let played = play(&scene, &world, second, &server);
    // What is for the first address comes by the second router now, which does not take answers from it.
    let far = &world.far;
    far.namespace
        .ip(
            "route replace 198.51.100.1/32 via 100.64.1.1 src 192.0.2.20\n\
             route replace 2001:db8:1::1/128 via fd00:64:1::1 src 2001:db8:c::20",
        )
        .unwrap();
    let ends = [IpAddr::from(WAN_ADDRESS), WAN_ADDRESS_V6.into()];
    let first = ends.map(|ip| SocketAddr::new(ip, 21));
    for address in first {
        assert!(fetches(far, &server, address, Mode::Epsv, false).is_err());
    }
    drop(played);
    let by_routes = Scene::with_toml(&scene, |toml| {
        toml.replace("[gateway]", "[gateway]\nsymmetric_return = false")
    });
    let played = by_routes.start(&world.lab.router);
    for address in first {
        for mode in [Mode::Pasv, Mode::Epsv, Mode::Eprt] {
            let did = fetches(far, &server, address, mode, true);
            assert!(did.is_ok(), "{mode:?} at {address}: {did:?}");
        }
    }
    let faults = [Fault {
        at: &world.lab.router,
        broken: "ip addr del 198.51.100.2/24 dev wan",
        mended: "ip addr add 198.51.100.2/24 dev wan",
        found: &["public-address-not-here"],
    }];
    played.diagnoses(&scene, &world.lab.router, &faults);
}

#[test]
fn clients_behind_two_uplinks() {
    let scene = Scene::named("Clients behind two uplinks");
    let world = two_interfaces();
    let far = &world.far;
    let server = FtpServer::start(Kind::Vsftpd, far, &Settings::default()).unwrap();
    let client = world.lab.server();
    let played = scene.play(&Stage {
        router: &world.lab.router,
        clients: vec![
            (Some("IPv4"), client, (far.v4, 21).into()),
            (Some("IPv6"), client, (far.v6, 21).into()),
        ],
        server: &server,
    });
    let faults = [
        Fault {
            at: &world.lab.router,
            broken: "nft flush chain inet uplinks postrouting",
            mended: "",
            found: &["clients-not-translated"],
        },
        Fault {
            at: &world.lab.router,
            broken: "ip link set wan2 down",
            mended: SECOND_UP,
            found: &["interface-down"],
        },
    ];
    played.diagnoses(&scene, &world.lab.router, &faults);
}
