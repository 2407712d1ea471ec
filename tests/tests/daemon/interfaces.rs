//! Interfaces, addresses and routes that come, go and change: followed without a restart.

use std::net::SocketAddr;

use ftp_nat_tests::{
    control::Control,
    gateway::Gateway,
    lab::{Lab, Plan},
};

use crate::{CONTENT, ConfigFile, ONE_SERVER, SMALL, fetch, vsftpd, wait_for};

/// The server at the WAN's address, whatever that is.
const BY_INTERFACE: &str = r#"
[gateway]
wan = ["wan"]
[[publish]]
public = "wan:21"
server = "10.0.0.5:21"
"#;

/// Plugs the router's outside cable in, anew or for the first time.
fn plug_in_wan(lab: &Lab) {
    let (router, client) = (lab.router.name(), lab.client().namespace.name());
    lab.router
        .ip(&format!(
            "link add wan netns {router} type veth peer name eth0 netns {client}\n\
             link set wan up\naddress add 198.51.100.1/24 dev wan"
        ))
        .unwrap();
    lab.client()
        .namespace
        .ip("link set eth0 up\naddress add 198.51.100.20/24 dev eth0")
        .unwrap();
}

fn plug_in_lan(lab: &Lab) {
    let (router, server) = (lab.router.name(), lab.server().namespace.name());
    lab.router
        .ip(&format!(
            "link add lan netns {router} type veth peer name eth0 netns {server}\n\
             link set lan up\naddress add 10.0.0.1/24 dev lan"
        ))
        .unwrap();
    lab.server()
        .namespace
        .ip("link set eth0 up\naddress add 10.0.0.5/24 dev eth0\nroute add default via 10.0.0.1")
        .unwrap();
}

/// Waits until all three programs are attached.
fn wait_for_programs(gateway: &Gateway<'_>) {
    wait_for("three programs", || {
        let status = gateway.json(&["status"]).unwrap();
        let programs = status["gateways"][0]["programs"].as_array().unwrap().len();
        (programs == 3).then_some(())
    });
}

#[test]
fn interfaces_that_go_and_come_back_by_the_same_name_are_attached_to_again() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    for (interface, plug_in) in [
        ("wan", plug_in_wan as fn(&Lab)),
        ("lan", plug_in_lan as fn(&Lab)),
    ] {
        lab.router.ip(&format!("link delete {interface}")).unwrap();
        wait_for("the loss to be noticed", || {
            let status = gateway.json(&["status"]).unwrap();
            let programs = status["gateways"][0]["programs"].as_array().unwrap();
            let is_gone = programs.iter().all(|it| it["interface"] != interface);
            is_gone.then_some(())
        });
        plug_in(&lab);
        wait_for_programs(&gateway);
        for verb in ["PASV", "EPSV"] {
            assert_eq!(fetch(&lab, &server, verb).unwrap(), CONTENT, "{interface}");
        }
    }
}

#[test]
fn interfaces_that_are_not_there_at_the_start_are_waited_for() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    for interface in ["wan", "lan"] {
        lab.router.ip(&format!("link delete {interface}")).unwrap();
    }
    let gateway = ConfigFile::new(BY_INTERFACE).run(&lab);
    let log = gateway.log();
    for named in [
        "there is no interface wan",
        "waiting for it",
        "attached: nothing yet",
    ] {
        assert!(log.contains(named), "{named} is not in:\n{log}");
    }
    plug_in_lan(&lab);
    plug_in_wan(&lab);
    wait_for_programs(&gateway);
    let fetched = wait_for("the address to be published", || {
        fetch(&lab, &server, "PASV").ok()
    });
    assert_eq!(fetched, CONTENT);
}

#[test]
fn an_address_that_changes_is_followed_and_announced() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(BY_INTERFACE).run(&lab);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    lab.router
        .ip("address delete 198.51.100.1/24 dev wan\naddress add 198.51.100.7/24 dev wan")
        .unwrap();
    let public: SocketAddr = "198.51.100.7:21".parse().unwrap();
    let mut control = wait_for("the new address", || {
        Control::log_in(lab.client(), &server.target_at(public)).ok()
    });
    let address = control.announce("PASV").unwrap();
    assert_eq!(address.ip(), public.ip());
    let data = ftp_nat_tests::control::connect(lab.client(), address).unwrap();
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    let status = gateway.json(&["status"]).unwrap();
    let published = status["gateways"][0]["published"].as_array().unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0]["public"], "198.51.100.7");
}

#[test]
fn a_route_that_moves_takes_the_server_and_its_connections_along() {
    let lab = Lab::with(Plan {
        inside: 2,
        ..Plan::default()
    })
    .unwrap();
    // The second host inside is a router on the way to the server's own network.
    let server = vsftpd(lab.server(), CONTENT);
    lab.server()
        .namespace
        .ip("address add 10.1.0.5/32 dev lo")
        .unwrap();
    lab.router.ip("route add 10.1.0.5 via 10.0.0.6").unwrap();
    lab.inside[1]
        .namespace
        .sysctl("net.ipv4.ip_forward", "1")
        .unwrap();
    lab.inside[1]
        .namespace
        .ip("route add 10.1.0.5 via 10.0.0.5")
        .unwrap();
    let text = ONE_SERVER.replace("10.0.0.5:21", "10.1.0.5:21");
    let gateway = ConfigFile::new(&text).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(crate::PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    // The way by the second host ends; the straight one takes its place.
    lab.router
        .ip("route replace 10.1.0.5 via 10.0.0.5")
        .unwrap();
    lab.inside[1]
        .namespace
        .ip("route replace blackhole 10.1.0.5")
        .unwrap();
    for verb in ["PASV", "EPSV"] {
        assert_eq!(control.fetch(lab.client(), verb, SMALL).unwrap(), CONTENT);
    }
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    drop(gateway);
}
