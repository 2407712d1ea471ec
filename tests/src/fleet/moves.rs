//! A client fetches a file again and again through two gateways while the addresses move between them.

use std::{
    fmt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    Fleet,
    client::{Fetching, Files, LIMIT, eventually, monotonic, passive_ports, serve},
};
use crate::{gateway::Gateway, process::Running, server::FtpServer, tools::Tools};

/// What happens to the gateway that has the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// All its cables are pulled at once, as when its power fails.
    Cut,
    /// keepalived is stopped there.
    Stopped,
    /// Its daemon is started anew; the addresses may stay.
    Restarted,
    /// The same with another binary: see [`Stage::upgrade_to`].
    Upgraded,
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
    /// Where something failed: what both gateways know of it.
    pub evidence: String,
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
    /// The binary that a gateway gets at its next upgrade, by router, and the one after that.
    binaries: [[PathBuf; 2]; 2],
}

impl<'lab> Stage<'lab> {
    /// Starts everything but the client, with this more in both configurations.
    ///
    /// # Errors
    ///
    /// When something does not start, or does not get ready.
    pub fn set(fleet: &'lab Fleet, more: &str) -> anyhow::Result<Self> {
        Self::set_with(fleet, serve(fleet, false)?, more)
    }

    /// The same with a server that is there.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub fn set_with(fleet: &'lab Fleet, server: FtpServer, more: &str) -> anyhow::Result<Self> {
        let more = format!("{}{more}", passive_ports());
        let gateways = [fleet.gateway(0, &more)?, fleet.gateway(1, &more)?];
        let own = Tools::get()?.binary;
        let mut stage = Self {
            fleet,
            gateways,
            keepalived: [None, None],
            server,
            binaries: [(); 2].map(|()| [own.clone(), own.clone()]),
        };
        for place in [0, 1] {
            stage.wait_until_ready(place)?;
            stage.keepalived[place] = Some(fleet.keepalived(place, &stage.gateways[place])?);
        }
        fleet.master().with_context(|| stage.logs())?;
        Ok(stage)
    }

    /// From now on gateways are upgraded to this binary and to the usual one by turns.
    pub fn upgrade_to(&mut self, other: &Path) {
        for binaries in &mut self.binaries {
            other.clone_into(&mut binaries[0]);
        }
    }

    /// Gives one gateway another configuration: these keys of its server, beside the usual ones.
    ///
    /// # Errors
    ///
    /// When it does not take it.
    pub fn reconfigure(&self, place: usize, more: &str) -> anyhow::Result<()> {
        let more = format!("{}{more}", passive_ports());
        self.fleet.reconfigure(place, &self.gateways[place], &more)
    }

    /// What keepalived and the gateways have said.
    #[must_use]
    pub fn logs(&self) -> String {
        let keepalived = self.keepalived.iter().flatten().map(Running::log);
        keepalived
            .chain(self.gateways.iter().map(Gateway::log))
            .collect()
    }

    /// What counts at both gateways, and what they and keepalived have said last.
    fn evidence(&self, master: usize) -> anyhow::Result<String> {
        let mut text = format!("the master was {master}\n");
        for gateway in &self.gateways {
            let metrics = gateway.ask(&["metrics"])?.text();
            for line in metrics.lines() {
                let is_told = [
                    "dropped_",
                    "denied_",
                    "passed_",
                    "cluster_",
                    "connections_taken",
                ]
                .iter()
                .any(|name| line.starts_with(&format!("ftp_nat_{name}")));
                if is_told && !line.ends_with(" 0") {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            text.push_str(&last_lines(&gateway.log(), 12));
        }
        for keepalived in self.keepalived.iter().flatten() {
            text.push_str(&last_lines(&keepalived.log(), 12));
        }
        Ok(text)
    }

    /// Starts the client.
    ///
    /// # Errors
    ///
    /// When it is not logged in soon.
    pub fn fetch(&self, files: &Files) -> anyhow::Result<Fetching> {
        Fetching::start(self.fleet, &self.server, files)
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

    /// What a gateway knows of its cluster.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn cluster(&self, place: usize) -> anyhow::Result<Value> {
        Ok(self.gateways[place].json(&["cluster", "status"])?[0].take())
    }

    /// How many batches of the other one a gateway has found missing.
    #[must_use]
    pub fn lost(&self, place: usize) -> u64 {
        let status = self.cluster(place).unwrap_or_default();
        status["lost"].as_u64().unwrap_or(0)
    }

    /// Stops a gateway's daemon in the middle of whatever it does, or has it go on.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn stop_daemon(&self, place: usize, is_stopped: bool) -> anyhow::Result<()> {
        let pid = self.gateways[place].pid().context("a daemon runs")?;
        let pid = Pid::from_raw(pid as i32).context("a process")?;
        let signal = if is_stopped {
            Signal::STOP
        } else {
            Signal::CONT
        };
        Ok(kill_process(pid, signal)?)
    }

    /// Waits until both gateways have all of each other, by the engine.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub fn wait_until_caught_up(&self) -> anyhow::Result<()> {
        eventually("both have caught up", || {
            for place in [0, 1] {
                let status = self.cluster(place)?;
                let peer = &status["peers"][0];
                if status["is_connected"] != true
                    || peer["is_alive"] != true
                    || peer["is_caught_up"] != true
                {
                    return Ok(false);
                }
            }
            Ok(true)
        })
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
            Move::Upgraded => {
                self.gateways[master].upgrade(&self.binaries[master][0])?;
                self.binaries[master].reverse();
            }
        }
        let mut takeover = Duration::ZERO;
        let moves = matches!(how, Move::Cut | Move::Stopped);
        if moves {
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
        // The addresses have time to move back and forth; without a move some hundred files more are enough.
        thread::sleep(Duration::from_millis(if moves { 1500 } else { 500 }));
        match how {
            Move::Cut => self.fleet.cable(master, true)?,
            Move::Stopped => {
                self.keepalived[master] =
                    Some(self.fleet.keepalived(master, &self.gateways[master])?);
            }
            Move::Restarted | Move::Upgraded => {}
        }
        if moves {
            thread::sleep(Duration::from_millis(500));
        }
        self.wait_until_ready(master)?;
        let lines: Vec<_> = fetching
            .lines()
            .into_iter()
            .filter(|it| it.at > start)
            .collect();
        let counts = || lines.iter().filter_map(|it| it.files);
        let failures: Vec<_> = lines
            .iter()
            .filter_map(|it| {
                let at = it.at.saturating_sub(start).as_secs_f64();
                let took = it.took.as_secs_f64();
                Some(format!(
                    "at {at:.2} s, after {took:.2} s: {}",
                    it.failure.as_ref()?
                ))
            })
            .collect();
        let evidence = if failures.is_empty() {
            String::new()
        } else {
            self.evidence(master)?
        };
        Ok(Round {
            failures,
            evidence,
            takeover,
            longest: lines.iter().map(|it| it.took).max().unwrap_or_default(),
            files: counts().max().unwrap_or(0) - counts().min().unwrap_or(0),
        })
    }
}

fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let first = lines.len().saturating_sub(most);
    lines[first..]
        .iter()
        .flat_map(|line| [line, "\n"])
        .collect()
}
