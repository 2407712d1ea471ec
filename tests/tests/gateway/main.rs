//! The gateway's life and its manners, in the lab: what outlives the daemon, what `unload` leaves,
//! what is refused, who may enter, what is shown, and how packets go through the stack.

mod daemon_death;
mod fast;
mod kernel;
mod kernel_nat;
mod odd_ports;
mod pipelined;
mod policy;
mod refusals;
mod shown;
mod stack;
mod swallowed;
mod transfers;
mod unload;
mod who_may_enter;

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    lab::{Lab, WAN_ADDRESS},
    server::{FtpServer, Kind, Settings},
};

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

/// What ftp-nat is told.
const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

/// Long enough for whatever must happen, in an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every small file contains.
const CONTENT: &[u8] = b"as it was stored\n";

/// A vsftpd inside with a small file, `/download/small.txt`.
fn vsftpd(lab: &Lab) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

/// The small file's path.
const SMALL: &str = "/download/small.txt";

/// Looks again and again until there is something to see.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
