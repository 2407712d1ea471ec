//! What stays closed, and for how long the rest is open.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use ftp_nat_tests::{
    client::TlsSession,
    control::Control,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind},
};

use crate::{PUBLIC, by_tls, lab, published, start};

/// A server that offers TLS and is published with its range, two clients and a gateway.
struct Scene<'a> {
    server: &'a FtpServer,
    gateway: &'a Gateway<'a>,
    client: &'a Host,
    stranger: &'a Host,
}

fn connect(host: &Host, port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::new(WAN_ADDRESS.into(), port);
    let attempt = host
        .namespace
        .run(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(2))));
    attempt.unwrap()
}

impl Scene<'_> {
    fn log_in(&self, host: &Host) -> TlsSession {
        TlsSession::log_in(host, &self.server.target_at(PUBLIC)).unwrap()
    }

    /// The router itself answers, and refuses, and this is counted.
    #[track_caller]
    fn is_refused(&self, host: &Host, port: u16, reason: &str) {
        let labels = format!("reason=\"{reason}\"");
        let count = || {
            self.gateway
                .metric("denied_packets_total", &labels)
                .unwrap()
        };
        let before = count();
        let error = connect(host, port).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{port}");
        assert_eq!(count(), before + 1, "{reason}");
    }

    #[track_caller]
    fn may_enter(&self, host: &Host, port: u16) -> TcpStream {
        connect(host, port).unwrap_or_else(|error| panic!("{port}: {error}"))
    }
}

/// One gateway for all facts: each gateway takes the verifier a second.
#[test]
fn the_range_is_open_to_live_tls_sessions_and_to_nobody_else() {
    let lab: Lab = lab(2, 1);
    let server = start(Kind::Vsftpd, lab.server(), &by_tls());
    let scratch = Scratch::new().unwrap();
    let timeouts = "[timeouts]\nmapping = 3\n";
    let config = published(&scratch, "", &[(21, lab.server().v4, 21)], timeouts);
    let gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
    let scene = Scene {
        server: &server,
        gateway: &gateway,
        client: &lab.outside[0],
        stranger: &lab.outside[1],
    };
    scene.each_answer_is_good_for_one_connection();
    scene.strangers_meet_a_closed_port();
    scene.a_session_in_clear_text_does_not_open_the_range();
    scene.a_hello_without_an_answer_does_not_open_the_range();
    scene.the_time_passes();
    scene.the_end_of_a_session_closes_the_range();
    scene.a_flood_of_connections_gets_one_through();
}

impl Scene<'_> {
    fn each_answer_is_good_for_one_connection(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        self.is_refused(self.client, 50_100, "outside_range");
        let first = self.may_enter(self.client, port);
        self.is_refused(self.client, port, "nothing_said");
        drop(first);
        let port = session.passive_port().unwrap();
        let _second = self.may_enter(self.client, port);
        let flows = self.gateway.json(&["flows"]).unwrap();
        let passive = flows.as_array().unwrap().iter();
        let passive: Vec<_> = passive.filter(|it| it["kind"] == "passive").collect();
        assert!(
            passive.iter().any(|it| it["public_port"] == port),
            "{flows}"
        );
        let events = self.gateway.ask(&["events"]).unwrap().text();
        assert!(events.contains("used by an answer inside TLS"), "{events}");
    }

    fn strangers_meet_a_closed_port(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        for port in [port, 50_000, 50_099] {
            self.is_refused(self.stranger, port, "no_tls_session");
        }
        let _own = self.may_enter(self.client, port);
    }

    fn a_session_in_clear_text_does_not_open_the_range(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        let target = self.server.target_at(PUBLIC);
        let mut plain = Control::log_in(self.stranger, &target).unwrap();
        assert!(plain.command("NOOP").unwrap().starts_with("200"));
        self.is_refused(self.stranger, port, "no_tls_session");
        // AUTH alone is no TLS, and what follows is none.
        let mut plain = Control::connect(self.stranger, PUBLIC).unwrap();
        assert!(plain.command("AUTH TLS").unwrap().starts_with("234"));
        self.is_refused(self.stranger, port, "no_tls_session");
    }

    /// What begins as a handshake of TLS, and records of application data; the server answers by an
    /// alert.
    fn a_hello_without_an_answer_does_not_open_the_range(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        for auth in [true, false] {
            let connected = self
                .stranger
                .namespace
                .run(|| Ok(TcpStream::connect(PUBLIC)?));
            let mut fake = connected.unwrap();
            fake.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut reply = [0; 512];
            if auth {
                let _ = fake.read(&mut reply).unwrap();
                fake.write_all(b"AUTH TLS\r\n").unwrap();
                let len = fake.read(&mut reply).unwrap();
                assert!(reply[..len].starts_with(b"234"));
            }
            for record in [
                &b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"[..],
                b"\x17\x03\x03\x00\x05hello",
            ] {
                // The server may have ended the connection.
                drop(fake.write_all(record));
                drop(fake.read(&mut reply));
            }
            self.is_refused(self.stranger, port, "no_tls_session");
        }
    }

    fn the_time_passes(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        thread::sleep(Duration::from_millis(3300));
        self.is_refused(self.client, port, "nothing_said");
        let port = session.passive_port().unwrap();
        let _late = self.may_enter(self.client, port);
    }

    fn the_end_of_a_session_closes_the_range(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        drop(session);
        // The client's kernel ends the connection.
        thread::sleep(Duration::from_millis(100));
        self.is_refused(self.client, port, "no_tls_session");
    }

    fn a_flood_of_connections_gets_one_through(&self) {
        let mut session = self.log_in(self.client);
        let port = session.passive_port().unwrap();
        let entered: Vec<_> = (0..200)
            .filter_map(|_| connect(self.client, port).ok())
            .collect();
        assert_eq!(entered.len(), 1);
        let flows = self.gateway.metric("tls_permits_used_total", "").unwrap();
        assert!(flows > 0);
        assert!(session.ask("NOOP").unwrap().starts_with("200"));
    }
}
