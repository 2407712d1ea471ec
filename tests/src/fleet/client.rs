//! A client that fetches a file again and again in one session, through whichever gateway has the addresses.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

use super::{Fleet, PUBLIC};
use crate::{
    process::{self, Running},
    server::{FtpServer, Kind, Settings},
};

const LOOP: &str = include_str!("loop.py");
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The server's passive range.
const RANGE: RangeInclusive<u16> = 50_000..=54_999;

/// Starts the server; `tls`: one that offers it, and whose clients use it.
///
/// # Errors
///
/// As [`FtpServer::start`].
pub fn serve(fleet: &Fleet, tls: bool) -> anyhow::Result<FtpServer> {
    let settings = Settings {
        passive_ports: Some(RANGE),
        tls,
        // Within TLS nobody rewrites it.
        announce: tls.then_some(PUBLIC),
        ..Settings::default()
    };
    let kind = if tls { Kind::Vsftpd } else { Kind::Pyftpdlib };
    FtpServer::start(kind, &fleet.server, &settings)
}

/// The line of the gateways' configuration that has the server's passive range.
#[must_use]
pub fn passive_ports() -> String {
    format!("passive_ports = \"{}-{}\"\n", RANGE.start(), RANGE.end())
}

/// What the client fetches.
#[derive(Clone, Debug)]
pub struct Files {
    /// The length of each in bytes.
    pub length: usize,
    /// How long it rests before each.
    pub rest: Duration,
}

/// Makes a file of that length and prints its MD5 digest.
const MAKE: &str = "
import hashlib, os, random, sys
block = random.Random(1).randbytes(1 << 20)
left, digest = int(sys.argv[2]), hashlib.md5()
with open(sys.argv[1] + '.new', 'wb') as file:
    while left > 0:
        part = block[:left]
        file.write(part)
        digest.update(part)
        left -= len(part)
os.rename(sys.argv[1] + '.new', sys.argv[1])
print(digest.hexdigest())
";

/// The client.
#[derive(Debug)]
pub struct Fetching {
    running: Running,
}

/// What the client has told.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Duration,
    pub(super) took: Duration,
    pub(super) files: Option<u64>,
    pub(super) failure: Option<String>,
}

impl Fetching {
    /// Logs in and begins to fetch.
    ///
    /// # Errors
    ///
    /// When it is not logged in soon.
    pub fn start(fleet: &Fleet, server: &FtpServer, files: &Files) -> anyhow::Result<Self> {
        Self::start_at_rate(fleet, server, files, None)
    }

    /// The same with so many files a second at most, at even distances: who is late catches up.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_at_rate(
        fleet: &Fleet,
        server: &FtpServer,
        files: &Files,
        rate: Option<f64>,
    ) -> anyhow::Result<Self> {
        let path = server.path_of("file");
        let mut command = std::process::Command::new("python3");
        command
            .args(["-c", MAKE])
            .arg(&path)
            .arg(files.length.to_string());
        let made = process::run(&mut command, Duration::from_secs(60))?.expect_success()?;
        let address: SocketAddr = (PUBLIC, 21).into();
        let target = server.target_at(address);
        let job = json!({
            "host": PUBLIC.to_string(), "port": 21, "user": target.user, "password": target.password,
            "path": "/download/file", "tls": target.tls, "rest": files.rest.as_secs_f64(), "rate": rate,
            "md5": made.text().trim(), "block": if files.length > 1 << 20 { 1 << 20 } else { 8192 },
        });
        let mut command = fleet.client.namespace.command("python3")?;
        command.args(["-c", LOOP, &job.to_string()]);
        let mut running = Running::start(&mut command)?;
        running.wait_for("started", LIMIT)?;
        Ok(Self { running })
    }

    /// How many files it has fetched, as far as it has told.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.lines()
            .iter()
            .filter_map(|it| it.files)
            .max()
            .unwrap_or(0)
    }

    /// What it has told so far.
    pub(super) fn lines(&self) -> Vec<Line> {
        let log = self.running.log();
        let values = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let seconds = |value: &Value| Duration::try_from_secs_f64(value.as_f64()?).ok();
        values
            .filter_map(|value| {
                Some(Line {
                    at: seconds(&value["at"])?,
                    took: seconds(&value["took"]).unwrap_or_default(),
                    files: value["files"].as_u64(),
                    failure: value["failure"].as_str().map(str::to_owned),
                })
            })
            .collect()
    }

    /// All that failed so far.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.lines()
            .into_iter()
            .filter_map(|it| it.failure)
            .collect()
    }

    /// Ends it behind the file that is under way; gives all that failed, ever.
    ///
    /// # Errors
    ///
    /// When it does not end, or has said something else.
    pub fn stop(mut self) -> anyhow::Result<Vec<String>> {
        self.running.signal(Signal::TERM)?;
        self.running.wait_for("over", LIMIT)?;
        Ok(self.failures())
    }
}

pub(super) fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits until something holds.
///
/// # Errors
///
/// When it does not soon.
pub fn eventually(
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > LIMIT {
            bail!("not within {LIMIT:?}: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
