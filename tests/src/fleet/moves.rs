//! A client fetches a file again and again through two gateways while the addresses move between them.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};
use serde_json::{Value, json};

use super::{Fleet, PUBLIC};
use crate::{
    gateway::Gateway,
    process::{self, Running},
    server::{FtpServer, Kind, Settings},
};

const LOOP: &str = include_str!("loop.py");
const LIMIT: Duration = Duration::from_secs(30);

/// The server's passive range.
const RANGE: RangeInclusive<u16> = 50_000..=54_999;

/// What happens to the gateway that has the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// All its cables are pulled at once, as when its power fails.
    Cut,
    /// keepalived is stopped there.
    Stopped,
    /// Its daemon is started anew, as an upgrade does; the addresses may stay.
    Restarted,
}

/// What the client fetches.
#[derive(Clone, Debug)]
pub struct Files {
    /// The length of each in bytes.
    pub length: usize,
    /// How long it rests before each.
    pub rest: Duration,
}

/// What a move did to the client.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Files or sessions that failed, and why.
    pub failures: Vec<String>,
    /// From the cut, or the order to stop, until the other gateway had the addresses; zero: they stayed.
    pub takeover: Duration,
    /// The longest time that a file took.
    pub longest: Duration,
    /// How many files were fetched.
    pub files: u64,
}

/// What all moves did.
#[derive(Clone, Debug, Default)]
pub struct Rounds(pub Vec<Round>);

impl Rounds {
    /// In how many something failed.
    #[must_use]
    pub fn broken(&self) -> usize {
        self.0.iter().filter(|it| !it.failures.is_empty()).count()
    }

    /// The median of something.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Round) -> Duration) -> Duration {
        let mut all: Vec<_> = self.0.iter().map(of).collect();
        all.sort();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.0.iter().map(|it| it.longest).max();
        write!(
            f,
            "{} moves, {} broken; {} files; takeover {:.2} s, longest time of a file {:.2} s (medians), \
             {:.2} s at most",
            self.0.len(),
            self.broken(),
            self.0.iter().map(|it| it.files).sum::<u64>(),
            self.median(|it| it.takeover).as_secs_f64(),
            self.median(|it| it.longest).as_secs_f64(),
            longest.unwrap_or_default().as_secs_f64(),
        )
    }
}

/// The scene: both gateways, keepalived at both, and the client that fetches.
pub struct Stage<'lab> {
    fleet: &'lab Fleet,
    /// The gateways, by router.
    pub gateways: [Gateway<'lab>; 2],
    keepalived: [Option<Running>; 2],
    server: FtpServer,
}

impl<'lab> Stage<'lab> {
    /// Starts everything but the client, with this more in both configurations.
    ///
    /// # Errors
    ///
    /// When something does not start, or does not get ready.
    pub fn set(fleet: &'lab Fleet, more: &str) -> anyhow::Result<Self> {
        let settings = Settings {
            passive_ports: Some(RANGE),
            ..Settings::default()
        };
        let server = FtpServer::start(Kind::Pyftpdlib, &fleet.server, &settings)?;
        let (first, last) = (RANGE.start(), RANGE.end());
        let more = format!("passive_ports = \"{first}-{last}\"\n{more}");
        let gateways = [fleet.gateway(0, &more)?, fleet.gateway(1, &more)?];
        let stage = Self {
            fleet,
            gateways,
            keepalived: [None, None],
            server,
        };
        let mut stage = stage;
        for place in [0, 1] {
            stage.wait_until_ready(place)?;
            stage.keepalived[place] = Some(fleet.keepalived(place, &stage.gateways[place])?);
        }
        fleet.master().with_context(|| stage.logs())?;
        Ok(stage)
    }

    /// What keepalived and the gateways have said.
    #[must_use]
    pub fn logs(&self) -> String {
        let keepalived = self.keepalived.iter().flatten().map(Running::log);
        keepalived
            .chain(self.gateways.iter().map(Gateway::log))
            .collect()
    }

    /// Waits until a gateway has all that the other one knows.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub fn wait_until_ready(&self, place: usize) -> anyhow::Result<()> {
        let gateway = &self.gateways[place];
        eventually("ready", || {
            Ok(gateway.ask(&["cluster", "ready"])?.success())
        })
    }

    /// Starts the client.
    ///
    /// # Errors
    ///
    /// When it is not logged in soon.
    pub fn fetch(&self, files: &Files) -> anyhow::Result<Fetching> {
        let path = self.server.path_of("file");
        let mut command = std::process::Command::new("python3");
        command
            .args(["-c", MAKE])
            .arg(&path)
            .arg(files.length.to_string());
        let made = process::run(&mut command, Duration::from_secs(60))?.expect_success()?;
        let address: SocketAddr = (PUBLIC, 21).into();
        let target = self.server.target_at(address);
        let job = json!({
            "host": PUBLIC.to_string(), "port": 21, "user": target.user, "password": target.password,
            "path": "/download/file", "rest": files.rest.as_secs_f64(),
            "md5": made.text().trim(), "block": if files.length > 1 << 20 { 1 << 20 } else { 8192 },
        });
        let mut command = self.fleet.client.namespace.command("python3")?;
        command.args(["-c", LOOP, &job.to_string()]);
        let mut running = Running::start(&mut command)?;
        running.wait_for("started", LIMIT)?;
        Ok(Fetching { running })
    }

    /// Moves the addresses away from the gateway that has them, and waits until the client has fetched
    /// on and the gateway is back.
    ///
    /// # Errors
    ///
    /// When the addresses do not move, or the gateway does not come back. What fails at the client is
    /// in the result.
    pub fn play(&mut self, how: Move, fetching: &Fetching) -> anyhow::Result<Round> {
        let master = self.fleet.master().with_context(|| self.logs())?;
        self.wait_until_ready(1 - master)?;
        eventually("the client and the server use that gateway", || {
            self.fleet.is_used(master)
        })?;
        let start = monotonic();
        match how {
            Move::Cut => self.fleet.cable(master, false)?,
            Move::Stopped => {
                let keepalived = self.keepalived[master].as_ref();
                keepalived.context("it runs")?.signal(Signal::TERM)?;
            }
            Move::Restarted => self.gateways[master].restart()?,
        }
        let mut takeover = Duration::ZERO;
        if how != Move::Restarted {
            self.fleet
                .wait_for_address(1 - master)
                .with_context(|| self.logs())?;
            takeover = monotonic().saturating_sub(start);
        }
        // Only now: it waits a second before it ends.
        if how == Move::Stopped
            && let Some(keepalived) = self.keepalived[master].take()
        {
            keepalived.stop(LIMIT)?;
        }
        let moved = monotonic();
        // A file that began now has ended.
        eventually("the client goes on", || {
            Ok(fetching
                .lines()
                .iter()
                .any(|it| it.at > moved && (it.files.is_some() || it.failure.is_some())))
        })?;
        thread::sleep(Duration::from_millis(1500));
        match how {
            Move::Cut => self.fleet.cable(master, true)?,
            Move::Stopped => {
                self.keepalived[master] =
                    Some(self.fleet.keepalived(master, &self.gateways[master])?);
            }
            Move::Restarted => {}
        }
        thread::sleep(Duration::from_millis(500));
        self.wait_until_ready(master)?;
        let lines: Vec<_> = fetching
            .lines()
            .into_iter()
            .filter(|it| it.at > start)
            .collect();
        let counts = || lines.iter().filter_map(|it| it.files);
        Ok(Round {
            failures: lines.iter().filter_map(|it| it.failure.clone()).collect(),
            takeover,
            longest: lines.iter().map(|it| it.took).max().unwrap_or_default(),
            files: counts().max().unwrap_or(0) - counts().min().unwrap_or(0),
        })
    }
}

/// Makes a file of that length and prints its MD5 digest.
const MAKE: &str = "
import hashlib, random, sys
block = random.Random(1).randbytes(1 << 20)
left, digest = int(sys.argv[2]), hashlib.md5()
with open(sys.argv[1], 'wb') as file:
    while left > 0:
        part = block[:left]
        file.write(part)
        digest.update(part)
        left -= len(part)
print(digest.hexdigest())
";

/// The client.
#[derive(Debug)]
pub struct Fetching {
    running: Running,
}

/// What the client has told.
#[derive(Debug)]
struct Line {
    at: Duration,
    took: Duration,
    files: Option<u64>,
    failure: Option<String>,
}

impl Fetching {
    fn lines(&self) -> Vec<Line> {
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

    /// Ends it behind the file that is under way; gives all that failed, ever.
    ///
    /// # Errors
    ///
    /// When it does not end, or has said something else.
    pub fn stop(self) -> anyhow::Result<Vec<String>> {
        let lines = self.lines();
        let (_, log) = self.running.stop(LIMIT)?;
        ensure!(log.contains("\"over\""), "the client broke off:\n{log}");
        Ok(lines.into_iter().filter_map(|it| it.failure).collect())
    }
}

fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Waits until something holds.
fn eventually(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > LIMIT {
            bail!("not within {LIMIT:?}: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
