//! The ports of a server that speaks TLS. Nobody on the way can read which of them it announces: the
//! kernel's helper needs the whole range open to everybody, as an administrator writes it.

use std::io;

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session, TlsSession},
    scratch::Scratch,
};

use super::{
    secret::{Secret, knock},
    *,
};

/// A port of the range that the server never announces. Something else listens there.
const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 50_009);

/// A server by TLS that is published with its range, a listener of the same machine within that range,
/// and the legitimate client's session.
struct Range<'lab> {
    lab: &'lab Lab,
    server: FtpServer,
    secret: Secret,
    session: TlsSession,
    _publisher: Publisher<'lab>,
}

impl<'lab> Range<'lab> {
    fn open(lab: &'lab Lab) -> Self {
        let settings = Settings {
            tls: true,
            passive_ports: Some(50_000..=50_008),
            announce: Some(WAN_ADDRESS),
            ..Settings::default()
        };
        let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
        server.offer("small.txt", CONTENT).unwrap();
        let inside = lab.server();
        let secret = Secret::at(&inside.namespace, inside.at(OTHER.port()), "a trap");
        let publisher = if attacks_kernel() {
            let publisher = publish(lab, &[]);
            lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
            publisher
        } else {
            lab.router.nft(firewall::DROP_FORWARDED).unwrap();
            let scratch = Scratch::new().unwrap();
            let text = "[gateway]\nwan = [\"wan\"]\n[[publish]]\npublic = \"198.51.100.1:21\"\n\
                        server = \"10.0.0.5:21\"\npassive_ports = \"50000-50009\"\n";
            let file = scratch.write("ftp-nat.toml", text).unwrap();
            let words = ["--config", file.to_str().unwrap()];
            let gateway = Gateway::start(&lab.router, &words).unwrap();
            Publisher {
                gateway: Some(gateway),
            }
        };
        let session = TlsSession::log_in(client(lab), &server.target_at(PUBLIC)).unwrap();
        Self {
            lab,
            server,
            secret,
            session,
            _publisher: publisher,
        }
    }

    /// Where the server waits for the legitimate client's next data connection.
    fn announced(&mut self) -> SocketAddr {
        (WAN_ADDRESS, self.session.passive_port().unwrap()).into()
    }

    /// The legitimate client is served still, and nobody has met the listener.
    #[track_caller]
    fn ends_unharmed(mut self, mut failures: Failures) {
        failures.note("the listener", self.secret.keep());
        let announced = self.announced();
        failures.note(
            "the session",
            connect(client(self.lab), announced).map(drop),
        );
        let target = self.server.target_at(PUBLIC);
        let fetched = Client::Curl
            .perform(client(self.lab), &target, Mode::Epsv, Job::Fetch(SMALL))
            .and_then(Session::expect_success);
        failures.note("another session", fetched.map(drop));
        failures.assert_none();
    }
}

fn connect(host: &Host, address: SocketAddr) -> anyhow::Result<std::net::TcpStream> {
    let limit = Duration::from_secs(1);
    host.namespace
        .run(|| Ok(std::net::TcpStream::connect_timeout(&address, limit)?))
}

/// That this host meets what a closed port shows.
fn is_closed(host: &Host, address: SocketAddr) -> anyhow::Result<()> {
    match connect(host, address) {
        Ok(_) => anyhow::bail!("{} reaches {address}", host.v4),
        Err(error) => {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            ensure!(
                kind == Some(io::ErrorKind::ConnectionRefused),
                "{address}: {error:#}"
            );
            Ok(())
        }
    }
}

#[test]
fn a_client_without_a_session_meets_closed_ports() {
    let lab = lab();
    let mut range = Range::open(&lab);
    let mut failures = Failures::default();
    let announced = range.announced();
    for address in [announced, OTHER] {
        failures.note("no session", is_closed(attacker(&lab), address));
    }
    range.ends_unharmed(failures);
}

#[test]
fn a_session_in_clear_text_opens_no_port_of_the_range() {
    let lab = lab();
    let mut range = Range::open(&lab);
    let mut failures = Failures::default();
    let target = range.server.target_at(PUBLIC);
    let _clear = Control::log_in(attacker(&lab), &target).unwrap();
    let announced = range.announced();
    for address in [announced, OTHER] {
        failures.note("clear text", is_closed(attacker(&lab), address));
    }
    range.ends_unharmed(failures);
}

/// The stranger has a session too: what the server answers is good for one connection.
#[test]
fn a_session_opens_nothing_after_its_answer_is_used() {
    let lab = lab();
    let range = Range::open(&lab);
    let mut failures = Failures::default();
    let target = range.server.target_at(PUBLIC);
    let mut own = TlsSession::log_in(attacker(&lab), &target).unwrap();
    let announced = (WAN_ADDRESS, own.passive_port().unwrap()).into();
    let used = connect(attacker(&lab), announced);
    failures.note("its own", used.map(drop));
    failures.note("nothing said", is_closed(attacker(&lab), OTHER));
    range.ends_unharmed(failures);
}

#[test]
fn a_client_with_a_session_meets_closed_ports_outside_the_range() {
    let lab = lab();
    let range = Range::open(&lab);
    let mut failures = Failures::default();
    let inside = lab.server();
    let beside = Secret::at(&inside.namespace, inside.at(50_010), "beside the range");
    let target = range.server.target_at(PUBLIC);
    let mut own = TlsSession::log_in(attacker(&lab), &target).unwrap();
    own.passive_port().unwrap();
    for port in [49_999, 50_010, 22] {
        let address = (WAN_ADDRESS, port).into();
        failures.note("outside", is_closed(attacker(&lab), address));
    }
    failures.note("beside", beside.keep());
    range.ends_unharmed(failures);
}

#[test]
fn a_session_that_has_ended_opens_nothing() {
    let lab = lab();
    let range = Range::open(&lab);
    let mut failures = Failures::default();
    let target = range.server.target_at(PUBLIC);
    let mut own = TlsSession::log_in(attacker(&lab), &target).unwrap();
    own.passive_port().unwrap();
    drop(own);
    settle();
    failures.note("ended", is_closed(attacker(&lab), OTHER));
    range.ends_unharmed(failures);
}

#[test]
fn a_flood_of_connections_to_the_range_gets_one_through() {
    let lab = lab();
    let range = Range::open(&lab);
    let mut failures = Failures::default();
    let target = range.server.target_at(PUBLIC);
    let mut own = TlsSession::log_in(attacker(&lab), &target).unwrap();
    let announced = (WAN_ADDRESS, own.passive_port().unwrap()).into();
    failures.note("its own", connect(attacker(&lab), announced).map(drop));
    for _ in 0..100 {
        knock(attacker(&lab), OTHER);
    }
    range.ends_unharmed(failures);
}
