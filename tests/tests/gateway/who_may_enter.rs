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
    lab::{Host, Lab, Plan, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, RUN, SMALL, vsftpd, wait_for};

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

/// Each fact on a gateway of its own would take the verifier a minute.
#[test]
fn only_the_announced_peer_enters_where_it_was_announced_and_once() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let scene = Scene {
        gateway: &gateway,
        server: &server,
        client: &lab.outside[0],
        stranger: &lab.outside[1],
    };
    scene.a_stranger_at_the_announced_port_stays_outside();
    scene.a_session_of_its_own_does_not_help_a_stranger();
    scene.an_announcement_is_good_for_one_connection();
    scene.nobody_enters_where_nothing_was_announced();

    let metrics = gateway.ask(&["metrics"]).unwrap().text();
    let line = "ftp_nat_denied_packets_total{reason=\"unannounced\"} 8";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

struct Scene<'a> {
    gateway: &'a Gateway<'a>,
    server: &'a FtpServer,
    client: &'a Host,
    stranger: &'a Host,
}

impl Scene<'_> {
    fn log_in(&self, host: &Host) -> Control {
        Control::log_in(host, &self.server.target_at(PUBLIC)).unwrap()
    }

    /// How many SYNs were denied while `work` was done.
    fn denied(&self, work: impl FnOnce()) -> u64 {
        let count = || {
            self.gateway
                .metric("denied_packets_total", "reason=\"unannounced\"")
                .unwrap()
        };
        let before = count();
        work();
        count() - before
    }

    fn a_stranger_at_the_announced_port_stays_outside(&self) {
        let mut control = self.log_in(self.client);
        for verb in ["PASV", "EPSV"] {
            let address = control.announce(verb).unwrap();
            let mappings = self.gateway.json(&["mappings"]).unwrap();
            assert_eq!(mappings[0]["peer"], self.client.v4.to_string());
            let denied = self.denied(|| assert_stays_outside(self.stranger, address));
            assert_eq!(denied, 1, "{verb}");
            // The stranger has not used it up.
            let after = self.gateway.json(&["mappings"]).unwrap();
            assert_eq!(after[0]["public_port"], mappings[0]["public_port"]);
            let data = control::connect(self.client, address).unwrap();
            assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
        }
    }

    fn a_session_of_its_own_does_not_help_a_stranger(&self) {
        let hosts = [self.client, self.stranger];
        let mut controls = hosts.map(|host| self.log_in(host));
        let [one, other] = controls
            .each_mut()
            .map(|control| control.announce("PASV").unwrap());
        assert_ne!(one, other);
        let denied = self.denied(|| {
            assert_stays_outside(self.stranger, one);
            assert_stays_outside(self.client, other);
        });
        assert_eq!(denied, 2);
        for ((control, host), address) in controls.iter_mut().zip(hosts).zip([one, other]) {
            let data = control::connect(host, address).unwrap();
            assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
        }
    }

    fn an_announcement_is_good_for_one_connection(&self) {
        let mut control = self.log_in(self.client);
        let address = control.announce("PASV").unwrap();
        let data = control::connect(self.client, address).unwrap();
        // While the one is there, and when it is over.
        let denied = self.denied(|| assert_stays_outside(self.client, address));
        assert_eq!(denied, 1);
        assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
        let denied = self.denied(|| assert_stays_outside(self.client, address));
        assert_eq!(denied, 1);
    }

    fn nobody_enters_where_nothing_was_announced(&self) {
        let mut control = self.log_in(self.client);
        let used = || self.gateway.metric_in_all("mappings_used_total").unwrap();
        let before = used();
        let address = control.announce("PASV").unwrap();
        let beside = SocketAddr::new(address.ip(), address.port() ^ 1);
        let denied = self.denied(|| assert_stays_outside(self.client, beside));
        assert_eq!(denied, 1);
        // It is open at the public address only.
        let of_another_family = SocketAddr::new(WAN_ADDRESS_V6.into(), address.port());
        let denied = self.denied(|| assert_stays_outside(self.client, of_another_family));
        assert_eq!(denied, 1);
        assert_eq!(used(), before);
        let data = control::connect(self.client, address).unwrap();
        assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);
        assert_eq!(used(), before + 1);
    }
}

#[test]
fn an_announcement_expires() {
    let lab = two_clients();
    let server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let config = scratch
        .write("ftp-nat.toml", "[timeouts]\nmapping = 3\n")
        .unwrap();
    let arguments = [&RUN[..], &["--config", config.to_str().unwrap()]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    assert_eq!(
        gateway.json(&["mappings"]).unwrap()[0]["public_port"],
        address.port()
    );
    wait_for("the announcement to expire", || {
        let mappings = gateway.json(&["mappings"]).unwrap();
        mappings.as_array().unwrap().is_empty().then_some(())
    });
    // What is shown and what is let in go by two clocks that differ by some ticks.
    thread::sleep(Duration::from_millis(500));
    assert_stays_outside(lab.client(), address);
    // Whether the sweep was there before the SYN decides which of the two it is.
    let late = gateway
        .metric("denied_packets_total", "reason=\"expired\"")
        .unwrap();
    let unknown = gateway
        .metric("denied_packets_total", "reason=\"unannounced\"")
        .unwrap();
    assert!(late + unknown > 0);
    assert_eq!(gateway.metric_in_all("mappings_used_total").unwrap(), 0);
    // The session is none the worse for it.
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
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
    assert_eq!(gateway.metric("mappings_remapped_total", "").unwrap(), 1);
    let mappings = gateway.json(&["mappings"]).unwrap();
    for (inside, public_port) in [("10.0.0.5", PORT), ("10.0.0.6", remapped.port())] {
        let mapping = mappings
            .as_array()
            .unwrap()
            .iter()
            .find(|mapping| mapping["inside"] == inside)
            .unwrap();
        assert_eq!(mapping["inside_port"], PORT);
        assert_eq!(mapping["public_port"], public_port);
    }

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
    assert_eq!(gateway.metric("mappings_remapped_total", "").unwrap(), 1);
}
