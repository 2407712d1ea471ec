//! What may be asked of a running daemon, and its answers: lines of JSON on the socket of its WAN's
//! name (see [`crate::ipc::connection`]), behind the line in which it says who it is.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use serde::de::DeserializeOwned;

use crate::{
    cli::Selection,
    cluster::status::Status,
    datapath::pins::{Gateway, Pins},
    ipc::{
        connection,
        message::{Hello, Refused, Request},
        runtime_dir::RuntimeDir,
        trust::Trust,
    },
    metrics::Family,
    output::failure::Failure,
};

/// The longest line of an answer: that of a reload can name thousands of changes or mistakes.
const ANSWER_MAX: u64 = 16 << 20;

/// A daemon on the line.
pub struct Line {
    /// Who it is.
    pub hello: Hello,
    stream: BufReader<UnixStream>,
}

/// The daemons that are asked for, one each.
///
/// # Errors
///
/// When there is none.
pub fn daemons(selection: &Selection) -> Result<Vec<Line>, Failure> {
    let pins = Pins::here(&selection.state_dir)?;
    let (dir, trust) = (RuntimeDir::here()?, Trust::of(pins.state_dir()));
    let mut lines: Vec<Line> = Vec::new();
    for wan in dir.wans() {
        if !selection.wan.is_empty() && !selection.wan.contains(&wan) {
            continue;
        }
        let Some((hello, stream)) = connection::open(&dir, &wan, trust) else {
            continue;
        };
        let is_known = lines.iter().any(|line| line.hello.gateway == hello.gateway);
        if !is_known && Path::new(&hello.state_dir) == pins.state_dir() {
            lines.push(Line { hello, stream });
        }
    }
    if lines.is_empty() {
        let which = if selection.wan.is_empty() {
            String::new()
        } else {
            format!(" for {}", selection.wan.join(", "))
        };
        return Err(Failure::NotRunning(format!(
            "no ftp-nat daemon answers{which} in this network namespace, with pins below {}: only \
             a running one can tell; `ftp-nat status` shows what is loaded",
            pins.state_dir().display()
        )));
    }
    Ok(lines)
}

/// How long a daemon may take to read its tables.
const TABLES_PATIENCE: Duration = Duration::from_secs(10);

/// The metrics of the daemon that runs a gateway; none where none answers.
pub fn metrics(gateway: &Gateway, state_dir: &Path) -> Option<Vec<Family>> {
    ask(gateway, state_dir, Request::Metrics)
}

/// What the daemon that runs a gateway knows of its cluster; none where none answers, or it is in none.
pub fn cluster(gateway: &Gateway, state_dir: &Path) -> Option<Status> {
    ask(gateway, state_dir, Request::Cluster)
}

fn ask<T: DeserializeOwned>(gateway: &Gateway, state_dir: &Path, request: Request) -> Option<T> {
    let selection = Selection {
        wan: gateway.wans(),
        state_dir: state_dir.to_owned(),
    };
    let mut daemon = daemons(&selection).ok()?.pop()?;
    daemon.send(request, Some(TABLES_PATIENCE)).ok()?;
    daemon.answer().ok()?
}

impl Line {
    /// Sends a request.
    ///
    /// # Errors
    ///
    /// When the daemon is gone.
    pub fn send(&mut self, request: Request, patience: Option<Duration>) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(&request).context("cannot write the request")?;
        text.push('\n');
        let stream = self.stream.get_mut();
        stream.set_read_timeout(patience)?;
        stream
            .write_all(text.as_bytes())
            .context("the daemon has gone away")
    }

    /// The next line of its answer; none at the end.
    ///
    /// # Errors
    ///
    /// When it cannot be understood, or says that the request was not.
    pub fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let mut line = String::new();
        let read = (&mut self.stream).take(ANSWER_MAX).read_line(&mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context("the daemon does not answer"),
        }
        if let Ok(Refused { error }) = serde_json::from_str(&line) {
            return Err(anyhow!("the daemon says: {error}"));
        }
        serde_json::from_str(&line).map(Some).with_context(|| {
            format!(
                "cannot understand the daemon (ftp-nat {}?)",
                self.hello.version
            )
        })
    }
}
