//! A terminal that nobody sits at: tmux, with a shell in it.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{namespace::Namespace, process, scratch::Scratch};

/// How long tmux itself may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A terminal with a shell on a namespace's machine; it ends, with all that runs in it, when this
/// value is dropped.
#[derive(Debug)]
pub struct Terminal<'lab> {
    namespace: &'lab Namespace,
    scratch: Scratch,
}

impl<'lab> Terminal<'lab> {
    /// Opens one of this size.
    ///
    /// # Errors
    ///
    /// When tmux does not start.
    pub fn open(namespace: &'lab Namespace, width: u16, height: u16) -> anyhow::Result<Self> {
        let terminal = Self {
            namespace,
            scratch: Scratch::new()?,
        };
        let (width, height) = (width.to_string(), height.to_string());
        let mut command = terminal.command(&["new-session", "-d", "-x", &width, "-y", &height])?;
        // A prompt that can be told from everything else, and no start-up files.
        command.arg("env PS1='lab$ ' ENV= sh");
        process::run(&mut command, ANSWER_LIMIT)?.expect_success()?;
        Ok(terminal)
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.namespace.command("tmux")?;
        command
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.scratch.path().join("tmux"))
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX");
        Ok(command)
    }

    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let outcome = process::run(&mut self.command(words)?, ANSWER_LIMIT)?;
        Ok(outcome.expect_success()?.text())
    }

    /// Presses keys, by tmux's names: `Enter`, `C-c`, `a`.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn press(&self, keys: &[&str]) -> anyhow::Result<()> {
        self.ask(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types a line.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn type_line(&self, line: &str) -> anyhow::Result<()> {
        self.ask(&["send-keys", "-l", line])?;
        self.press(&["Enter"])
    }

    /// Gives it another size.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn resize(&self, width: u16, height: u16) -> anyhow::Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        self.ask(&["resize-window", "-x", &width, "-y", &height])
            .map(drop)
    }

    /// What it shows, without colours.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn text(&self) -> anyhow::Result<String> {
        self.ask(&["capture-pane", "-p"])
    }

    /// What it shows, with the escape sequences of colours, blanks at the ends of lines too.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn coloured(&self) -> anyhow::Result<String> {
        self.ask(&["capture-pane", "-p", "-e", "-N"])
    }

    /// Whether a program has taken the whole screen.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn is_taken(&self) -> anyhow::Result<bool> {
        let state = self.ask(&["display-message", "-p", "#{alternate_on}#{cursor_flag}"])?;
        // Given back, the cursor is seen again.
        Ok(state.trim() != "01")
    }

    /// Waits until it shows what is looked for, and gives all that it shows then.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`; the message has what it shows.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        shows: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let start = Instant::now();
        loop {
            let text = self.text().with_context(|| format!("looking for {what}"))?;
            if shows(&text) {
                return Ok(text);
            }
            if start.elapsed() > limit {
                bail!("the terminal does not show {what} within {limit:?}:\n{text}");
            }
            thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        drop(self.ask(&["kill-server"]));
    }
}
