//! Interfaces, addresses and routes that come, go and change: followed without a restart.

use std::{io::Read as _, net::SocketAddr, thread, time::Duration};

use ftp_nat_tests::{
    control::{Control, connect},
    gateway::Gateway,
    lab::{Lab, Plan},
    namespace::Namespace,
    process,
};
use rustix::process::Signal;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd, wait_for};

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
    wait_for("the programs of WAN, LAN and loopback interface", || {
        let status = gateway.json(&["status"]).unwrap();
        let programs = status["gateways"][0]["programs"].as_array().unwrap().len();
        (programs == 4).then_some(())
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
    let data = connect(lab.client(), address).unwrap();
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
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
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

/// The resets that a host's own stack has sent.
fn resets(host: &Namespace) -> u64 {
    let mut cat = host.command("cat").unwrap();
    cat.arg("/proc/net/snmp");
    let text = process::run(&mut cat, Duration::from_secs(10))
        .unwrap()
        .text();
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let names = tcp.next().unwrap().split(' ');
    let mut both = names.zip(tcp.next().unwrap().split(' '));
    let (_, count) = both.find(|(name, _)| *name == "OutRsts").unwrap();
    count.parse().unwrap()
}

fn rename_and_back(lab: &Lab, interface: &str) {
    for (old, new) in [(interface, "other"), ("other", interface)] {
        lab.router
            .ip(&format!("link set {old} down\nlink set {old} name {new}"))
            .unwrap();
        // A daemon that is awake follows.
        thread::sleep(Duration::from_millis(400));
        lab.router.ip(&format!("link set {new} up")).unwrap();
        thread::sleep(Duration::from_millis(400));
    }
}

/// What befalls an interface, how the programs are attached to it, and what is done.
type Mishap = (&'static str, &'static str, fn(&Lab));

const MISHAPS: [Mishap; 5] = [
    ("the WAN made anew", "auto", |lab| {
        lab.router.ip("link delete wan").unwrap();
        plug_in_wan(lab);
    }),
    ("the LAN made anew", "auto", |lab| {
        lab.router.ip("link delete lan").unwrap();
        plug_in_lan(lab);
    }),
    ("the WAN renamed and back", "auto", |lab| {
        rename_and_back(lab, "wan")
    }),
    ("the LAN renamed and back", "auto", |lab| {
        rename_and_back(lab, "lan")
    }),
    ("the WAN renamed and back", "clsact", |lab| {
        rename_and_back(lab, "wan")
    }),
];

/// How long the daemon sleeps meanwhile: on a busy machine a client's first repetition, after a fifth of a second, may
/// come to an interface that nobody can reach yet.
const ASLEEP: Duration = Duration::from_millis(1500);

#[test]
fn connections_outlive_an_interface_that_is_made_anew_or_renamed() {
    const MEBIBYTE: usize = 1 << 20;
    for (what, how, befall) in MISHAPS {
        let lab = Lab::new().unwrap();
        let content: Vec<u8> = (0..8 * MEBIBYTE).map(|at| (at % 251) as u8).collect();
        let server = vsftpd(lab.server(), &content);
        let gateway = ConfigFile::new(ONE_SERVER).run_with(&lab, &["--attach", how]);
        let hosts = [
            &lab.router,
            &lab.client().namespace,
            &lab.server().namespace,
        ];
        let before = hosts.map(resets);
        let mut resting = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let data = control.announce("PASV").unwrap();
        let mut data = connect(lab.client(), data).unwrap();
        control.send(format!("RETR {SMALL}\r\n")).unwrap();
        control.expect("150").unwrap();
        // The download goes on, slowly, while it happens and for a while after.
        let mut fetched = vec![0; MEBIBYTE];
        data.read_exact(&mut fetched).unwrap();
        // While the daemon sleeps, what comes meets an interface without its programs.
        gateway.signal(Signal::STOP).unwrap();
        befall(&lab);
        resting.send("NOOP\r\n").unwrap();
        thread::sleep(ASLEEP);
        gateway.signal(Signal::CONT).unwrap();
        data.set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        data.read_to_end(&mut fetched).unwrap();
        control.expect("226").unwrap();
        assert!(fetched == content, "{what}");
        resting.expect("200").unwrap();
        assert_eq!(hosts.map(resets), before, "{what}");
        if what == "the WAN made anew" {
            let dropped = gateway.metric("dropped_packets_total", "reason=\"unattached\"");
            assert!(dropped.unwrap() > 0);
        }
        // And as fast as it happens where the daemon is awake.
        befall(&lab);
        resting.send("NOOP\r\n").unwrap();
        resting.expect("200").unwrap();
        let content = resting.fetch(lab.client(), "EPSV", SMALL).unwrap();
        assert!(content == fetched, "{what}");
        assert_eq!(hosts.map(resets), before, "{what}");
    }
}

#[test]
fn a_wan_by_another_name_is_not_taken_for_an_inside_interface() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), b"");
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    // While connections leave by an interface, programs for the inside stay there.
    let resting = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    rename_and_back(&lab, "wan");
    // This client comes by the WAN and by nothing else: when the interface is made anew, with the WAN's
    // programs, its connection is known there.
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    wait_for_programs(&gateway);
    lab.router.ip("link delete wan").unwrap();
    plug_in_wan(&lab);
    for _ in 0..3 {
        control.send("NOOP\r\n").unwrap();
        control.expect("200").unwrap();
    }
    drop(resting);
}

/// One that has another name when the daemon starts again: it stays outside, and what lives goes on.
#[test]
fn a_wan_that_got_another_name_while_no_daemon_ran_is_not_taken_for_an_inside_interface() {
    for how in ["auto", "clsact"] {
        let lab = Lab::new().unwrap();
        let server = vsftpd(lab.server(), b"");
        let config = ConfigFile::new(ONE_SERVER);
        let mut gateway = config.run_with(&lab, &["--attach", how]);
        let mut resting = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let rename = |old: &str, new: &str| {
            let lines =
                format!("link set {old} down\nlink set {old} name {new}\nlink set {new} up");
            lab.router.ip(&lines).unwrap();
        };
        // Again under the other name: the pins are named after it then.
        for (old, new) in [("wan", "other"), ("other", "other2"), ("other2", "wan")] {
            gateway.kill().unwrap();
            rename(old, new);
            gateway.restart().unwrap();
            let what = format!("{new}, {how}");
            resting.send("NOOP\r\n").unwrap();
            if let Err(error) = resting.expect("200") {
                panic!("{what}: {error:#}\n{}", gateway.log());
            }
            let mut control =
                Control::log_in(lab.client(), &server.target_at(PUBLIC)).expect(&what);
            control.fetch(lab.client(), "EPSV", SMALL).expect(&what);
            let status = gateway.json(&["status"]).unwrap();
            let hooks = status["gateways"][0]["programs"].as_array().unwrap();
            let here: Vec<_> = hooks.iter().filter(|it| it["interface"] == new).collect();
            assert!(!here.is_empty(), "{what}: {status:#}");
            for hook in here {
                let program = hook["name"].as_str().unwrap();
                assert!(program.starts_with("wan"), "{what}: {hook}");
            }
        }
    }
}
