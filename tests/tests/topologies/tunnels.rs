//! Interfaces without an Ethernet header. Here they are tun; WireGuard and PPPoE are tried by
//! `cargo xtask vm --scene tunnels`.

use ftp_nat_tests::{
    lab::Lab,
    medium::Medium,
    server::{FtpServer, Kind, Settings},
};

use crate::{PUBLIC, scene::Scene, stage::Stage};

/// Plays a scene over these media; `broken` breaks it, and is found as `finding`.
fn play(title: &Scene, media: [Medium; 2], broken: fn(&Lab), finding: &str) {
    let lab = Lab::over(media[0], media[1]).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let played = title.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    broken(&lab);
    played.is_found(finding);
}

#[test]
fn a_tunnel_as_wan() {
    play(
        &Scene::named("A tunnel or PPP as WAN"),
        [Medium::Tun, Medium::Veth],
        |lab| lab.router.ip("link set wan down").unwrap(),
        "interface-down",
    );
}

#[test]
fn a_tunnel_to_the_servers() {
    play(
        &Scene::named("A tunnel to the servers"),
        [Medium::Veth, Medium::Tun],
        |lab| {
            // The far end answers by another way.
            let away = "route replace 0.0.0.0/0 via 127.0.0.2 dev lo";
            lab.server().namespace.ip(away).unwrap();
        },
        "no-way-back",
    );
}
