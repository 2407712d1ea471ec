//! Connections whose two ends are both translated.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ftp_nat_tests::{
    client::Mode,
    lab::{HOST_INTERFACE, Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    namespace::Namespace,
    server::{FtpServer, Kind, Settings},
};

use crate::{
    PUBLIC,
    scene::Scene,
    stage::{Fault, Stage, fetches},
};

/// Where clients find a published server over IPv6.
const PUBLIC_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(WAN_ADDRESS_V6), 21);

/// Makes good what the kernel removes when that interface goes down.
const DMZ_UP: &str = "ip link set dmz up; ip addr replace fd00:17::1/64 dev dmz nodad";

const ALL_MODES: [Mode; 4] = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt];

/// The server works over IPv6 too, in the modes that it has.
#[track_caller]
fn works_over_v6(host: &Host, server: &FtpServer) {
    for mode in ALL_MODES {
        let did = fetches(host, server, PUBLIC_V6, mode, true);
        assert!(did.is_ok(), "{mode:?} over IPv6: {did:?}");
    }
}

#[test]
fn the_public_address_from_behind_the_router() {
    let scene = Scene::named("The public address from behind the router");
    let lab = Lab::with(Plan {
        inside: 2,
        ..Plan::default()
    })
    .unwrap();
    let container = lab
        .attach_host(
            "dmz",
            [Ipv4Addr::new(172, 17, 0, 1), Ipv4Addr::new(172, 17, 0, 2)],
            [
                Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0xfd00, 0x17, 0, 0, 0, 0, 0, 2),
            ],
        )
        .unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let neighbour = &lab.inside[1];
    let itself = Host {
        namespace: Namespace::existing(lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    };
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![
            (Some("a client of the server's network"), neighbour, PUBLIC),
            (Some("a container"), &container, PUBLIC),
            (Some("the router itself"), &itself, PUBLIC),
            (Some("a client outside"), lab.client(), PUBLIC),
        ],
        server: &server,
    });
    for host in [neighbour, &container, &itself, lab.client()] {
        works_over_v6(host, &server);
    }
    // Nobody but those that it has to.
    let log = played.gateway.log();
    assert!(!log.contains("no room"), "{log}");
    let router = &lab.router;
    let at_router = |broken, mended, found| Fault {
        at: router,
        broken,
        mended,
        found,
    };
    played.diagnoses(
        &scene,
        router,
        &[
            at_router("ip link set dmz down", DMZ_UP, &["interface-down"]),
            Fault::not_forwarding(router),
            Fault::no_way_back(&lab.server().namespace),
        ],
    );
}

#[test]
fn a_server_whose_default_route_is_elsewhere() {
    let scene = Scene::named("A server whose default route is elsewhere");
    let lab = Lab::new().unwrap();
    lab.server()
        .namespace
        .ip(&format!(
            "route del 0.0.0.0/0\nroute del ::/0\nroute add 0.0.0.0/0 via 10.0.0.254 dev \
             {HOST_INTERFACE} onlink\nroute add ::/0 via fd00:10::254 dev {HOST_INTERFACE} onlink"
        ))
        .unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    let played = scene.start(&lab.router);
    works_over_v6(lab.client(), &server);
    played.diagnoses(
        &scene,
        &lab.router,
        &[
            Fault {
                at: &lab.router,
                broken: "nft add chain inet filter srcnat \
                         '{ type nat hook postrouting priority srcnat; }'; \
                         nft add rule inet filter srcnat oifname lan masquerade",
                mended: "",
                found: &[],
            },
            Fault {
                at: &lab.router,
                broken: "ip addr del 10.0.0.1/24 dev lan; ip addr add 10.0.0.1/32 dev lan",
                mended: "ip addr del 10.0.0.1/32 dev lan; ip addr add 10.0.0.1/24 dev lan",
                found: &["no-route"],
            },
        ],
    );
    drop(played);
    // Without the key the servers answer past this router.
    let without = |it: &str| it.replace("toward_server = \"gateway\"\n", "");
    scene.diagnoses_configuration(&lab.router, without, &["no-way-back"]);
}
