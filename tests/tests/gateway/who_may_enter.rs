//! Only the announced peer enters, only where it was announced, once, and in time.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use ftp_nat_tests::{
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, RUN, SMALL, vsftpd};

/// That the router itself answers, and refuses: nobody translated the SYN.
#[track_caller]
fn assert_stays_outside(host: &Host, address: SocketAddr) {
    let attempt = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(2))))
        .unwrap();
    assert_eq!(
        attempt.map_err(|error| error.kind()).unwrap_err(),
        io::ErrorKind::ConnectionRefused
    );
}

fn two_clients() -> Lab {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab
}

#[test]
fn a_stranger_at_the_announced_port_stays_outside_and_the_peer_enters() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut control = Control::log_in(&lab.outside[0], &server.target_at(PUBLIC)).unwrap();
    for (verb, denied) in [("PASV", 1), ("EPSV", 2)] {
        let address = control.announce(verb).unwrap();
        let mappings = gateway.json(&["mappings"]).unwrap();
        assert_eq!(mappings[0]["peer"], lab.outside[0].v4.to_string());

        assert_stays_outside(&lab.outside[1], address);
        assert_eq!(gateway.counted("denied", "unannounced").unwrap(), denied);
        // The stranger has not used it up.
        let after = gateway.json(&["mappings"]).unwrap();
        assert_eq!(after[0]["public_port"], mappings[0]["public_port"]);

        let data = control::connect(&lab.outside[0], address).unwrap();
        assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    }
    let metrics = gateway.ask(&["metrics"]).unwrap().text();
    let line = "ftp_nat_denied_packets_total{reason=\"unannounced\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_stranger_with_a_session_of_its_own_stays_outside_too() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let target = server.target_at(PUBLIC);
    let [one, other] = &lab.outside[..] else {
        unreachable!("there are two")
    };
    let mut control = Control::log_in(one, &target).unwrap();
    let mut its = Control::log_in(other, &target).unwrap();
    let address = control.announce("PASV").unwrap();
    let its_address = its.announce("PASV").unwrap();
    assert_ne!(address, its_address);
    assert_stays_outside(other, address);
    assert_stays_outside(one, its_address);
    assert_eq!(gateway.counted("denied", "unannounced").unwrap(), 2);
    for (control, host, address) in [(&mut control, one, address), (&mut its, other, its_address)] {
        let data = control::connect(host, address).unwrap();
        assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    }
}

#[test]
fn an_announced_port_is_good_for_one_connection() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    let data = control::connect(lab.client(), address).unwrap();
    assert_stays_outside(lab.client(), address);
    assert_eq!(gateway.counted("denied", "unannounced").unwrap(), 1);
    assert_eq!(gateway.counted("mappings_used", "").unwrap(), 1);
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
    assert_stays_outside(lab.client(), address);
}

#[test]
fn nobody_enters_where_nothing_was_announced() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    // The server would answer on its control port only; this one it has not even announced.
    let near = SocketAddr::new(address.ip(), address.port() ^ 1);
    assert_stays_outside(lab.client(), near);
    // Nor is the announced port open at another of the gateway's addresses, or without asking.
    assert_eq!(gateway.counted("mappings_used", "").unwrap(), 0);
    let data = control::connect(lab.client(), address).unwrap();
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
}

#[test]
fn an_announcement_expires() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let config = scratch
        .write("ftp-nat.toml", "[timeouts]\nmapping = 1\n")
        .unwrap();
    let arguments = [&RUN[..], &["--config", config.to_str().unwrap()]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    assert_eq!(
        gateway.json(&["mappings"]).unwrap()[0]["public_port"],
        address.port()
    );
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(
        gateway.json(&["mappings"]).unwrap().as_array().unwrap().len(),
        0
    );
    assert_stays_outside(lab.client(), address);
    // Whether the sweep was there before the SYN decides which of the two it is.
    let late = gateway.counted("denied", "expired").unwrap();
    let unknown = gateway.counted("denied", "unannounced").unwrap();
    assert!(late + unknown > 0);
    assert_eq!(gateway.counted("mappings_used", "").unwrap(), 0);
    // The session is none the worse for it.
    assert_eq!(
        control.fetch(lab.client(), "PASV", SMALL).unwrap(),
        CONTENT
    );
}

#[test]
fn a_servers_port_is_kept_unless_the_peer_has_it_already() {
    const PORT: u16 = 50_000;
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 2,
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let settings = Settings {
        passive_ports: Some(PORT..=PORT),
        ..Settings::default()
    };
    let servers = [0, 1].map(|index| {
        let server = FtpServer::start(Kind::Vsftpd, &lab.inside[index], &settings).unwrap();
        server
            .offer("small.txt", format!("of server {index}\n"))
            .unwrap();
        server
    });
    let arguments = [&RUN[..], &["--publish", "198.51.100.1:2121=10.0.0.6:21"]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let second = SocketAddr::new(PUBLIC.ip(), 2121);
    let client = lab.client();
    let mut one = Control::log_in(client, &servers[0].target_at(PUBLIC)).unwrap();
    let mut other = Control::log_in(client, &servers[1].target_at(second)).unwrap();

    let address = one.announce("PASV").unwrap();
    let remapped = other.announce("PASV").unwrap();
    assert_eq!(address.port(), PORT);
    assert!(
        (61_000..=65_535).contains(&remapped.port()),
        "{remapped} is not of the range for remaps"
    );
    assert_eq!(gateway.counted("mappings_remapped", "").unwrap(), 1);
    let mappings = gateway.json(&["mappings"]).unwrap();
    assert_eq!(mappings[0]["inside"], "10.0.0.5");
    assert_eq!(mappings[1]["inside"], "10.0.0.6");
    assert_eq!(mappings[1]["inside_port"], PORT);
    assert_eq!(mappings[1]["public_port"], remapped.port());

    // The later one first.
    let data = control::connect(client, remapped).unwrap();
    assert_eq!(other.fetch_over(&data, SMALL).unwrap(), b"of server 1\n");
    let data = control::connect(client, address).unwrap();
    assert_eq!(one.fetch_over(&data, SMALL).unwrap(), b"of server 0\n");

    // Another peer has that port free.
    let mut one = Control::log_in(&lab.outside[0], &servers[0].target_at(PUBLIC)).unwrap();
    let mut other = Control::log_in(&lab.outside[1], &servers[1].target_at(second)).unwrap();
    let address = one.announce("EPSV").unwrap();
    assert_eq!(other.announce("EPSV").unwrap(), address);
    assert_eq!(address.port(), PORT);
    let data = control::connect(&lab.outside[1], address).unwrap();
    assert_eq!(other.fetch_over(&data, SMALL).unwrap(), b"of server 1\n");
    let data = control::connect(&lab.outside[0], address).unwrap();
    assert_eq!(one.fetch_over(&data, SMALL).unwrap(), b"of server 0\n");
    assert_eq!(gateway.counted("mappings_remapped", "").unwrap(), 1);
}
