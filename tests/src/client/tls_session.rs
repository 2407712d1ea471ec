//! A control connection by TLS that a test speaks on itself, driven by a small script.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::task::Target;
use crate::lab::Host;

const SCRIPT: &str = include_str!("tls_session.py");

/// A control connection that has gone over to TLS and logged in. Dropping it resets nothing: the
/// client ends, and its kernel closes the connection.
#[derive(Debug)]
pub struct TlsSession {
    client: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl TlsSession {
    /// Logs in at `target` from `host`.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn log_in(host: &Host, target: &Target) -> anyhow::Result<Self> {
        let job = json!({
            "host": target.address.ip().to_string(),
            "port": target.address.port(),
            "user": target.user,
            "password": target.password,
        });
        let mut command = host.namespace.command("python3")?;
        let mut client = command
            .args(["-c", SCRIPT, &job.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let (Some(commands), Some(replies)) = (client.stdin.take(), client.stdout.take()) else {
            bail!("python3 has no pipes");
        };
        let mut session = Self {
            client,
            commands,
            replies: BufReader::new(replies),
        };
        session.reply().context("cannot log in by TLS")?;
        Ok(session)
    }

    /// Sends a command; its reply.
    ///
    /// # Errors
    ///
    /// When the connection has ended, or the server refuses.
    pub fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        writeln!(self.commands, "{command}")?;
        self.reply()
            .with_context(|| format!("no reply to {command}"))
    }

    /// Asks for a passive port by EPSV; its number.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub fn passive_port(&mut self) -> anyhow::Result<u16> {
        let reply = self.ask("EPSV")?;
        let port = reply.split('|').nth(3).and_then(|it| it.parse().ok());
        port.with_context(|| format!("no port in {reply:?}"))
    }

    fn reply(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            bail!("the client has ended");
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for TlsSession {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.client.kill());
        drop(self.client.wait());
    }
}
