//! Interfaces without an Ethernet header. Here they are tun; WireGuard and PPPoE are tried by
//! `cargo xtask vm --scene tunnels`.

use ftp_nat_tests::{
    lab::Lab,
    medium::Medium,
    server::{FtpServer, Kind, Settings},
};

use crate::{
    PUBLIC,
    scene::Scene,
    stage::{Fault, Stage},
};

/// Plays a scene over these media, and breaks it.
fn play(
    scene: &Scene,
    media: [Medium; 2],
    broken: &'static str,
    mended: &'static str,
    found: &'static [&'static str],
) {
    let lab = Lab::over(media[0], media[1]).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    let faults = [
        Fault {
            at: &lab.router,
            broken,
            mended,
            found,
        },
        Fault::not_forwarding(&lab.router),
        Fault::no_way_back(&lab.server().namespace),
    ];
    played.diagnoses(scene, &lab.router, &faults);
    drop(server);
    played.is_found("server-refuses");
}

#[test]
fn a_tunnel_as_wan() {
    play(
        &Scene::named("A tunnel or PPP as WAN"),
        [Medium::Tun, Medium::Veth],
        "ip link set wan down",
        "ip link set wan up",
        &["interface-down"],
    );
}

#[test]
fn a_tunnel_to_the_servers() {
    play(
        &Scene::named("A tunnel to the servers"),
        [Medium::Veth, Medium::Tun],
        "ip link set lan down",
        "ip link set lan up",
        &["interface-down", "no-route"],
    );
}
