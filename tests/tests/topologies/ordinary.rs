//! What most networks are: servers or clients behind one router.

use ftp_nat_tests::{
    lab::Lab,
    server::{FtpServer, Kind, Settings},
};

use crate::{PUBLIC, scene::Scene, stage::Stage};

#[test]
fn a_server_behind_a_router() {
    let scene = Scene::named("A server behind a router");
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    lab.router.sysctl("net.ipv4.ip_forward", "0").unwrap();
    played.is_found("forwarding-off");
}

#[test]
fn clients_behind_a_router() {
    let scene = Scene::named("Clients behind a router");
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.client(), &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.server(), server.address())],
        server: &server,
    });
    lab.router
        .nft("flush chain inet filter postrouting")
        .unwrap();
    played.is_found("clients-not-translated");
}
