//! What most networks are: servers or clients behind one router.

use ftp_nat_tests::{
    lab::Lab,
    server::{FtpServer, Kind, Settings},
};

use crate::{
    PUBLIC,
    scene::Scene,
    stage::{Fault, Stage},
};

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
            at_router(
                "echo 0 > /proc/sys/net/ipv4/ip_forward",
                "echo 1 > /proc/sys/net/ipv4/ip_forward",
                &["forwarding-off"],
            ),
            at_router(
                "ip route del 10.0.0.0/24 dev lan",
                "ip route add 10.0.0.0/24 dev lan src 10.0.0.1",
                &["no-route"],
            ),
            at_router("ip link set lan down", "ip link set lan up", &["interface-down", "no-route"]),
            at_router(
                "ip route add default via 10.0.0.6 dev lan; echo 1 > /proc/sys/net/ipv4/conf/wan/rp_filter",
                "ip route del default; echo 0 > /proc/sys/net/ipv4/conf/wan/rp_filter",
                &["replies-leave-elsewhere", "reverse-path-filter"],
            ),
            at_router(
                "nft add table ip other; nft add chain ip other pre '{ type nat hook prerouting priority dstnat; }'; \
                 nft add rule ip other pre iifname wan tcp dport 21 dnat to 10.0.0.5",
                "",
                &["second-nat-rule"],
            ),
            Fault {
                at: &lab.server().namespace,
                broken: "ip route del default",
                mended: "ip route add default via 10.0.0.1",
                found: &["no-way-back"],
            },
        ],
    );
    drop(played);
    scene.diagnoses_configuration(
        router,
        |it| it.replace("10.0.0.5", "10.0.0.77"),
        &["no-neighbour"],
    );
    scene.diagnoses_configuration(
        router,
        |it| it.replace("10.0.0.5:21", "10.0.0.5:22"),
        &["server-refuses"],
    );
    scene.diagnoses_configuration(
        router,
        |it| it.replace("wan:21", "203.0.113.9:21"),
        &["public-address-not-here"],
    );
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
    played.diagnoses(
        &scene,
        &lab.router,
        &[
            Fault {
                at: &lab.router,
                broken: "nft flush chain inet filter postrouting",
                mended: "",
                found: &["clients-not-translated"],
            },
            Fault {
                at: &lab.router,
                broken: "echo 0 > /proc/sys/net/ipv4/ip_forward",
                mended: "echo 1 > /proc/sys/net/ipv4/ip_forward",
                found: &["forwarding-off"],
            },
            Fault {
                at: &lab.router,
                broken: "nft add ct helper inet filter ftp '{ type \"ftp\" protocol tcp; }'; \
                         nft add rule inet filter forward tcp dport 21 ct helper set ftp",
                mended: "",
                found: &["kernel-helper"],
            },
        ],
    );
}
