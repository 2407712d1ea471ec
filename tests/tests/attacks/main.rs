//! Attacks, each tried on the wire with a legitimate client beside it. What is shown is always
//! the same: the attack gains nothing, and the legitimate client notices nothing.
//!
//! The tests run over ftp-nat; with [`ATTACKED_VARIABLE`] set to `kernel` the same packets meet the
//! kernel's own helper instead (`cargo xtask compare --attacks`).

mod bounces;
mod browsers;
mod endings;
mod errors;
mod floods;
mod guests;
mod handshakes;
mod hops;
mod openings;
mod own_ports;
mod printed;
mod ranges;
mod recorder;
mod second_syns;
mod secret;
mod smuggling;
mod sources;
mod storms;
mod windows;

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    attack::{numbers, segment::Segment, wire::Wire},
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS},
    server::{FtpServer, Kind, Settings},
};

/// Names who is attacked: `kernel` for the kernel's own helper, otherwise ftp-nat.
const ATTACKED_VARIABLE: &str = "FTP_NAT_LAB_ATTACKED";

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

/// What ftp-nat is told.
const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

/// The small file's path, and what is in it.
const SMALL: &str = "/download/small.txt";
const CONTENT: &[u8] = b"as it was stored\n";

/// Two hosts outside, the legitimate client and the attacker, whom the router takes for its way to
/// the world; two inside, the server and a neighbour of it.
fn lab() -> Lab {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 2,
    })
    .unwrap();
    lab.router
        .ip(&format!("route add default via {}", attacker(&lab).v4))
        .unwrap();
    lab
}

/// The legitimate client.
fn client(lab: &Lab) -> &Host {
    &lab.outside[0]
}

/// The stranger. What the router sends to invented addresses arrives at this host and ends there.
fn attacker(lab: &Lab) -> &Host {
    &lab.outside[1]
}

/// A host beside the server that nobody has published.
fn neighbour(lab: &Lab) -> &Host {
    &lab.inside[1]
}

/// Who publishes the server.
struct Publisher<'lab> {
    /// ftp-nat, unless the kernel's own helper does.
    gateway: Option<Gateway<'lab>>,
}

/// Whether the kernel's own helper is attacked instead of ftp-nat.
fn attacks_kernel() -> bool {
    std::env::var(ATTACKED_VARIABLE).is_ok_and(|who| who == "kernel")
}

/// Ends a test that means nothing over the kernel's own helper, which judges no PORT.
fn needs_judgement_of_ports() {
    assert!(
        !attacks_kernel(),
        "not applicable: the kernel's helper lets every PORT reach the server"
    );
}

/// Publishes the lab's server at [`PUBLIC`]; `arguments` are ftp-nat's own.
fn publish<'lab>(lab: &'lab Lab, arguments: &[&str]) -> Publisher<'lab> {
    if attacks_kernel() {
        lab.router.nft(firewall::KERNEL_HELPER).unwrap();
        return Publisher { gateway: None };
    }
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let arguments = [&RUN[..], arguments].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    Publisher {
        gateway: Some(gateway),
    }
}

impl Publisher<'_> {
    /// How many sessions, mappings or flows ftp-nat has in its tables.
    fn count(&self, of: &str) -> Option<usize> {
        let gateway = self.gateway.as_ref()?;
        let those_that_have_ended = (of != "mappings").then_some("--all");
        let words: Vec<_> = [of, "--count"]
            .into_iter()
            .chain(those_that_have_ended)
            .collect();
        let count = gateway.ask(&words).unwrap().expect_success().unwrap();
        Some(count.text().trim().parse().unwrap())
    }

    /// Asserts what `ftp-nat` lists, where it is that is attacked.
    #[track_caller]
    fn assert_count(&self, of: &str, wanted: usize) {
        if let Some(count) = self.count(of) {
            assert_eq!(count, wanted, "{of}");
        }
    }
}

/// A vsftpd with a small file.
fn vsftpd(lab: &Lab) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// A session of the legitimate client.
fn log_in(lab: &Lab, server: &FtpServer) -> Control {
    Control::log_in(client(lab), &server.target_at(PUBLIC)).unwrap()
}

/// Fetches in a session, passively both ways.
fn fetch(lab: &Lab, control: &mut Control) -> anyhow::Result<()> {
    for verb in ["PASV", "EPSV"] {
        let content = control.fetch(client(lab), verb, SMALL).context(verb)?;
        ensure!(content == CONTENT, "{verb}: another content");
    }
    Ok(())
}

/// That the session is read: the client can fetch, and the server never hears a PORT for a third
/// host.
fn use_session(lab: &Lab, control: &mut Control) -> anyhow::Result<()> {
    let [a, b, c, d] = attacker(lab).v4.octets();
    let reply = control.command(&format!("PORT {a},{b},{c},{d},195,80"))?;
    ensure!(
        reply.starts_with('5'),
        "the server takes a PORT for a third host: {reply}"
    );
    fetch(lab, control)
}

/// What went wrong in the cases of a table, each with its name.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, case: &str, result: anyhow::Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{case}: {error:#}"));
        }
    }

    #[track_caller]
    fn assert_none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// The two ends of the legitimate client's control connection and the next numbers there.
struct Known {
    client: SocketAddr,
    seq: u32,
    ack: u32,
    /// The client's timestamp (RFC 7323) of this moment.
    timestamp: u32,
}

impl Known {
    fn of(control: &Control) -> Self {
        let (seq, ack) = numbers::next(control.stream()).unwrap();
        Self {
            client: control.local_address().unwrap(),
            seq,
            ack,
            timestamp: numbers::timestamp(control.stream()).unwrap(),
        }
    }

    /// A segment that claims to be the client's, its numbers that far from the right ones.
    fn as_client(&self, flags: u8, seq: i64, ack: i64) -> Segment {
        Segment {
            options: timestamp_options(self.timestamp),
            ..Segment::new(
                self.client,
                PUBLIC,
                flags,
                away(self.seq, seq),
                away(self.ack, ack),
            )
        }
    }

    /// A segment that claims to be the server's, as the inside sees it.
    fn as_server(&self, lab: &Lab, flags: u8, seq: i64, ack: i64) -> Segment {
        Segment::new(
            lab.server().at(21),
            self.client,
            flags,
            away(self.ack, seq),
            away(self.seq, ack),
        )
    }
}

/// TCP options with nothing but this timestamp (RFC 7323, appendix A).
fn timestamp_options(timestamp: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &timestamp.to_be_bytes(), &[0; 4]].concat()
}

fn away(number: u32, by: i64) -> u32 {
    number.wrapping_add(by as u32)
}

/// Time for what was sent to arrive everywhere.
fn settle() {
    thread::sleep(Duration::from_millis(100));
}

/// The attacker's way to the router.
fn attackers_wire(lab: &Lab) -> Wire {
    Wire::from_outside(lab, attacker(lab)).unwrap()
}

/// Looks again and again until there is something to see.
fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < patience, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
