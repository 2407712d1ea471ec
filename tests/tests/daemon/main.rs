//! The daemon as operators have it: its configuration and reloads, what it tells, the network that
//! changes around it, its privileges.

mod asked;
mod audit;
mod busy;
mod change;
mod check;
mod ended;
mod events;
mod interfaces;
mod lifetimes;
mod listed;
mod log;
mod machine;
mod metrics;
mod privileges;
mod reload;
mod repairs;
mod systemd;
mod traced;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::Control,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

/// The small file's path, and what is in it.
const SMALL: &str = "/download/small.txt";
const CONTENT: &[u8] = b"as it was stored\n";

/// A configuration that publishes the first server inside.
const ONE_SERVER: &str = r#"
[gateway]
wan = ["wan"]
[[publish]]
public = "198.51.100.1:21"
server = "10.0.0.5:21"
"#;

/// A vsftpd with a small file.
fn vsftpd(host: &Host, content: &[u8]) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
    server.offer("small.txt", content).unwrap();
    server
}

/// A configuration file that can be changed.
struct ConfigFile {
    folder: Scratch,
}

impl ConfigFile {
    fn new(text: &str) -> Self {
        let folder = Scratch::new().unwrap();
        let file = Self { folder };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        self.folder.write("ftp-nat.toml", text).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ftp-nat.toml")
    }

    /// A gateway that runs with it.
    fn run<'lab>(&self, lab: &'lab Lab) -> Gateway<'lab> {
        self.run_with(lab, &[])
    }

    /// And with arguments besides.
    fn run_with<'lab>(&self, lab: &'lab Lab, arguments: &[&str]) -> Gateway<'lab> {
        let path = self.path();
        let arguments = [&["--config", path.to_str().unwrap()], arguments].concat();
        Gateway::start(&lab.router, &arguments).unwrap()
    }
}

/// Fetches the small file in a session of its own.
fn fetch(lab: &Lab, server: &FtpServer, verb: &str) -> anyhow::Result<Vec<u8>> {
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC))?;
    control.fetch(lab.client(), verb, SMALL)
}

/// Looks again and again until there is something to see.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        let patience = Duration::from_secs(45);
        assert!(start.elapsed() < patience, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
