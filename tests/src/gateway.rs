//! ftp-nat itself, running on the lab's router.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    namespace::Namespace,
    process::{self, Outcome, Running},
    scratch::{PinFolder, Scratch},
    tools::Tools,
};

/// How long the daemon may take until its programs are attached, on a machine that is at other work too.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end, and a read-only command to answer: with a million connections in the tables,
/// on a machine that is at other work too.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// A running daemon. Dropping it ends the daemon and removes its pins.
#[derive(Debug)]
pub struct Gateway<'lab> {
    daemon: Option<Running>,
    router: &'lab Namespace,
    binary: PathBuf,
    arguments: Vec<String>,
    /// What the daemon finds in its environment.
    environment: Vec<(String, String)>,
    pins: PinFolder,
    /// Where it keeps its lists of denied and allowed networks, unless it is told where. The default is
    /// the machine's: what one test denies would keep out another one's clients.
    lists: Scratch,
}

impl<'lab> Gateway<'lab> {
    /// Starts `ftp-nat run` with `arguments` on the lab's router and waits until it is ready.
    /// Without `--config` among them there is no configuration file, whatever /etc has.
    ///
    /// # Errors
    ///
    /// When it does not get ready; the message has what it said.
    pub fn start(router: &'lab Namespace, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(router, arguments, &[])
    }

    /// The same with these variables in the daemon's environment.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_in(
        router: &'lab Namespace,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut gateway = Self {
            daemon: None,
            router,
            binary: Tools::get()?.binary,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: environment.iter().map(owned).collect(),
            pins: PinFolder::new()?,
            lists: Scratch::new()?,
        };
        gateway.restart()?;
        Ok(gateway)
    }

    /// Starts the daemon again on the pins that are there: after [`Self::kill`] or [`Self::stop`].
    /// One that still runs is stopped first.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon = None;
        let mut command = self.command(&["run"])?;
        if !self.arguments.iter().any(|word| word == "--config") {
            command.args(["--config", "/dev/null"]);
        }
        if !self.names_lists() {
            let file = self.lists.path().join("lists.json");
            command.arg("--lists-file").arg(file);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut daemon = Running::start(&mut command)?;
        daemon.wait_for("ready", START_LIMIT)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Puts another binary in the place of its own and starts the daemon anew, as a package's upgrade does.
    ///
    /// # Errors
    ///
    /// When it cannot be copied; and as [`Self::start`].
    pub fn upgrade(&mut self, binary: &Path) -> anyhow::Result<()> {
        let place = self.lists.path().join("ftp-nat");
        let new = place.with_extension("new");
        fs::copy(binary, &new).with_context(|| format!("cannot copy {}", binary.display()))?;
        // As dpkg does: the one that runs keeps its file.
        fs::rename(&new, &place)?;
        self.binary = place;
        self.restart()
    }

    /// Whether its arguments or its configuration say where its lists are.
    fn names_lists(&self) -> bool {
        let configuration = self.configuration();
        let text = configuration.and_then(|file| fs::read_to_string(file).ok());
        self.arguments.iter().any(|word| word == "--lists-file")
            || text.is_some_and(|text| text.contains("lists_file"))
    }

    /// A command of ftp-nat that looks at this gateway.
    ///
    /// # Errors
    ///
    /// When the router's namespace is gone.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.router.command(&self.binary)?;
        command.args(words).arg("--state-dir").arg(self.pins.path());
        Ok(command)
    }

    /// Runs a command of ftp-nat to its end: `gateway.ask(&["flows"])`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn ask(&self, words: &[&str]) -> anyhow::Result<Outcome> {
        process::run(&mut self.command(words)?, ANSWER_LIMIT)
    }

    /// What a command of ftp-nat answers with `--json`.
    ///
    /// # Errors
    ///
    /// When it fails, or when its answer is no JSON.
    pub fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        let answer = self.ask(&[words, &["--json"]].concat())?.expect_success()?;
        serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("no JSON: {}", answer.text()))
    }

    /// A counter's value: `gateway.metric("denied_packets_total", "reason=\"bounce\"")`; no labels for one
    /// that has none.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn metric(&self, name: &str, labels: &str) -> anyhow::Result<u64> {
        let text = self.ask(&["metrics"])?.expect_success()?.text();
        let wanted = match labels {
            "" => format!("ftp_nat_{name} "),
            labels => format!("ftp_nat_{name}{{{labels}}} "),
        };
        text.lines()
            .find_map(|line| line.strip_prefix(&wanted)?.parse().ok())
            .with_context(|| format!("there is no {wanted}in:\n{text}"))
    }

    /// The sum of a metric over all its labels; its name without `ftp_nat_`.
    ///
    /// # Errors
    ///
    /// When there is no such metric.
    pub fn metric_in_all(&self, name: &str) -> anyhow::Result<u64> {
        let text = self.ask(&["metrics"])?.expect_success()?.text();
        let start = format!("ftp_nat_{name}");
        let values: Vec<u64> = text
            .lines()
            .filter_map(|line| {
                let behind = line.strip_prefix(&start)?;
                let is_it = behind.starts_with(['{', ' ']);
                is_it.then(|| behind.rsplit(' ').next()?.parse().ok())?
            })
            .collect();
        ensure!(!values.is_empty(), "there is no {start} in:\n{text}");
        Ok(values.iter().sum())
    }

    /// What the daemon has said since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Running::log).unwrap_or_default()
    }

    /// The daemon's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Running::pid)
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let daemon = self.daemon.as_ref().context("the daemon does not run")?;
        daemon.signal(signal)
    }

    /// Its configuration file, if it was given one.
    #[must_use]
    pub fn configuration(&self) -> Option<PathBuf> {
        let mut words = self.arguments.iter();
        words.find(|word| *word == "--config")?;
        words.next().map(PathBuf::from)
    }

    /// Where its pins are.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.pins.path()
    }

    /// Ends the daemon as an operator would (SIGTERM) and gives what it had said.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end in time.
    pub fn stop(&mut self) -> anyhow::Result<String> {
        let daemon = self.daemon.take().context("the daemon does not run")?;
        Ok(daemon.stop(ANSWER_LIMIT)?.1)
    }

    /// Ends the daemon without a chance to do anything (SIGKILL).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let daemon = self.daemon.take().context("the daemon does not run")?;
        daemon.signal(rustix::process::Signal::KILL)
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        self.daemon = None;
        // Pinned links of a namespace that goes away do no harm, but `unload` is worth the try.
        drop(self.ask(&["unload"]));
    }
}
