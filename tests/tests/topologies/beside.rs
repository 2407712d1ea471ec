//! What else is on the machine: a server, other programs.

use ftp_nat_tests::{
    client::Mode,
    foreign::Foreign,
    lab::{Host, Lab, WAN, WAN_ADDRESS, WAN_ADDRESS_V6},
    namespace::Namespace,
    server::{FtpServer, Kind, Settings},
};

use crate::{
    PUBLIC,
    scene::Scene,
    stage::{Fault, Stage, fetches},
};

#[test]
fn a_server_on_the_gateway_itself() {
    let scene = Scene::named("A server on the gateway itself, whose input chain is closed");
    let lab = Lab::new().unwrap();
    let here = Host {
        namespace: Namespace::existing(lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    };
    let server = FtpServer::start(Kind::Vsftpd, &here, &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    let at = |broken, mended, found| Fault {
        at: &lab.router,
        broken,
        mended,
        found,
    };
    let used = played.gateway.metric_in_all("mappings_used_total").unwrap();
    assert_eq!(used, 4);
    // Only what was announced: a port that the server listens on by itself stays closed.
    let denied = |played: &crate::stage::Played<'_>| {
        let labels = "reason=\"unannounced\"";
        played
            .gateway
            .metric("denied_packets_total", labels)
            .unwrap()
    };
    let before = denied(&played);
    let elsewhere = (WAN_ADDRESS, 50_000).into();
    assert!(ftp_nat_tests::control::connect(lab.client(), elsewhere).is_err());
    assert!(denied(&played) > before);
    let faults = [
        at(
            "nft flush chain inet filter input; \
             nft add rule inet filter input iifname lo accept; \
             nft add rule inet filter input ct state established accept; \
             nft add rule inet filter input meta mark and 0x40 == 0x40 accept",
            "",
            &["firewall-drops-control"],
        ),
        at(
            "ip link set wan down",
            "ip link set wan up; ip addr replace 2001:db8:1::1/64 dev wan nodad",
            &["interface-down"],
        ),
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    // Without its rule the mark is of no use.
    scene.rules(&lab.router, "nft");
    assert!(fetches(lab.client(), &server, PUBLIC, Mode::Epsv, false).is_err());
    played.is_found("firewall-drops-data");
    scene.rules(&lab.router, "nft ftp-nat");
    drop(server);
    played.is_found("server-refuses");
}

#[test]
fn beside_a_program_that_ends_the_chain() {
    let scene = Scene::named("Beside a TC program that ends the chain");
    let lab = Lab::new().unwrap();
    let _there = Foreign::attach(&lab.router, WAN, "somebody_else").unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    let later = Foreign::attach(&lab.router, WAN, "in_front").unwrap();
    assert!(fetches(lab.client(), &server, PUBLIC, Mode::Epsv, false).is_err());
    played.is_found("program-in-front");
    drop(later);
    played.is_healthy();
    let faults = [
        Fault::not_forwarding(&lab.router),
        Fault::no_way_back(&lab.server().namespace),
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    drop(played);

    let behind = Scene::with_toml(&scene, |toml| toml.replace("first", "last"));
    let played = behind.start(&lab.router);
    assert!(fetches(lab.client(), &server, PUBLIC, Mode::Epsv, false).is_err());
    drop(played);
    let named = "order = { before = \"somebody_else\" }";
    let before = Scene::with_toml(&scene, |toml| toml.replace("order = \"first\"", named));
    let _played = before.start(&lab.router);
    fetches(lab.client(), &server, PUBLIC, Mode::Epsv, true).unwrap();
}

#[test]
fn a_container_that_docker_publishes() {
    let scene = Scene::named("A container that Docker publishes, through the stack");
    let lab = Lab::new().unwrap();
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, lab.client(), PUBLIC)],
        server: &server,
    });
    let faults = [
        Fault {
            at: &lab.router,
            broken: "nft flush chain ip raw PREROUTING; \
                     nft add rule ip raw PREROUTING ip daddr 10.0.0.5 iifname != lan drop",
            mended: "",
            found: &["firewall-drops-data"],
        },
        Fault {
            at: &lab.router,
            broken: "nft flush chain ip nat PREROUTING",
            mended: "",
            found: &["control-not-translated"],
        },
        Fault::not_forwarding(&lab.router),
        Fault::no_way_back(&lab.server().namespace),
    ];
    played.diagnoses(&scene, &lab.router, &faults);
    scene.rules(&lab.router, "nft");
    played.is_found("firewall-drops-data");
}
