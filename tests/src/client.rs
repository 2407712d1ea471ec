//! Real FTP clients on a host of the lab.
//!
//! Some clients distrust the address in a 227 and connect to the control connection's address
//! instead, which hides a wrong one. Here every client is made to believe what it reads.

mod curl;
mod ftplib;
mod lftp;
mod task;
mod tls_session;
mod tnftp;
mod wget;

use std::{fs, net::SocketAddr, time::Duration};

use self::task::{JOB_LIMIT, PATIENCE, Task};
pub use self::{
    task::{Job, Mode, Target, TlsVersion},
    tls_session::TlsSession,
};
use crate::{
    lab::Host,
    process::{self, Outcome},
    scratch::Scratch,
};

/// An FTP client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// curl.
    Curl,
    /// Python's ftplib.
    Ftplib,
    /// lftp.
    Lftp,
    /// wget, which only fetches.
    Wget,
    /// tnftp, the BSD systems' ftp.
    Tnftp,
}

/// What came of a job.
#[derive(Debug)]
pub struct Session {
    /// How the client ended, and all that it said.
    pub outcome: Outcome,
    /// The control conversation as the client shows it.
    pub transcript: String,
    /// What was fetched, or the listing.
    pub content: Vec<u8>,
}

impl Session {
    /// The session of a job that had to succeed.
    ///
    /// # Errors
    ///
    /// When it did not; the message has all that the client said.
    pub fn expect_success(mut self) -> anyhow::Result<Self> {
        self.outcome = self.outcome.expect_success()?;
        Ok(self)
    }

    /// The replies with this code, as the client got them.
    pub fn replies<'a>(&'a self, code: &'a str) -> impl Iterator<Item = &'a str> {
        // curl, ftplib and lftp mark a reply; wget and tnftp show it bare.
        const MARKS: [&str; 4] = ["< ", "*resp* '", "<--- ", ""];
        self.transcript.lines().filter_map(move |line| {
            MARKS
                .into_iter()
                .find_map(|mark| line.strip_prefix(mark)?.strip_prefix(code))
                .map(|rest| &line[line.len() - rest.len() - code.len()..])
                .map(|reply| reply.trim_end_matches('\''))
        })
    }
}

impl Client {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Curl,
        Self::Ftplib,
        Self::Lftp,
        Self::Wget,
        Self::Tnftp,
    ];

    /// Whether it can do this job in this mode with a server at this address.
    #[must_use]
    pub fn can(self, server: SocketAddr, mode: Mode, job: Job<'_>) -> bool {
        let has_commands = server.is_ipv4() || matches!(mode, Mode::Epsv | Mode::Eprt);
        has_commands
            && match self {
                Self::Curl | Self::Ftplib => true,
                // The extended commands are a matter of the family to it, except EPSV.
                Self::Lftp => mode != Mode::Eprt || server.is_ipv6(),
                Self::Wget => {
                    let mode_fits = matches!(mode, Mode::Epsv | Mode::Eprt) == server.is_ipv6();
                    mode_fits && matches!(job, Job::Fetch(_))
                }
                Self::Tnftp => !matches!(job, Job::List(_)),
            }
    }

    /// Whether it speaks AUTH TLS.
    #[must_use]
    pub fn speaks_tls(self) -> bool {
        matches!(self, Self::Curl | Self::Ftplib | Self::Lftp)
    }

    /// Does one job in one session, on `host`.
    ///
    /// # Errors
    ///
    /// When the client cannot be started. A job that fails is a session with a bad outcome.
    pub fn perform(
        self,
        host: &Host,
        target: &Target,
        mode: Mode,
        job: Job<'_>,
    ) -> anyhow::Result<Session> {
        self.perform_within(PATIENCE, JOB_LIMIT, host, target, mode, job)
    }

    /// The same, waiting `patience` for a connection or a reply and `limit` for all of it: for
    /// networks that lose much.
    ///
    /// # Errors
    ///
    /// As [`Self::perform`].
    pub fn perform_within(
        self,
        patience: Duration,
        limit: Duration,
        host: &Host,
        target: &Target,
        mode: Mode,
        job: Job<'_>,
    ) -> anyhow::Result<Session> {
        let scratch = Scratch::new()?;
        let task = Task {
            target,
            mode,
            job,
            output: scratch.path().join("content"),
            home: scratch.path(),
            patience,
            limit,
        };
        let mut command = host.namespace.command(self.program())?;
        // Neither settings nor history of the user who runs the lab.
        command.env("HOME", task.home).env("LC_ALL", "C.UTF-8");
        match self {
            Self::Curl => curl::prepare(&mut command, &task),
            Self::Ftplib => ftplib::prepare(&mut command, &task),
            Self::Lftp => lftp::prepare(&mut command, &task),
            Self::Wget => wget::prepare(&mut command, &task),
            Self::Tnftp => tnftp::prepare(&mut command, &task),
        }
        let outcome = process::run(&mut command, limit)?;
        let content = fs::read(&task.output).unwrap_or_default();
        Ok(Session {
            transcript: format!("{}{}", outcome.stderr, outcome.text()),
            outcome,
            content,
        })
    }

    fn program(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Ftplib => "python3",
            Self::Lftp => "lftp",
            Self::Wget => "wget",
            Self::Tnftp => "tnftp",
        }
    }
}
