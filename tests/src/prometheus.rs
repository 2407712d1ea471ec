//! A real Prometheus, from Debian's package, unpacked and not installed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{
    namespace::Namespace,
    process::{self, Outcome, Running},
    scratch::Scratch,
    tools::Tools,
};

/// The folder beside those of the servers, and the package that is unpacked there.
pub const NAME: &str = "prometheus";

const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 9090;

/// A Prometheus that scrapes one target, every second.
#[derive(Debug)]
pub struct Prometheus<'n> {
    _running: Running,
    namespace: &'n Namespace,
    _folder: Scratch,
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = Tools::get()?.servers.join(NAME).join("usr/bin").join(name);
    if !path.exists() {
        bail!("{} is not there: use `cargo xtask test`", path.display());
    }
    Ok(path)
}

impl<'n> Prometheus<'n> {
    /// Starts it in a namespace and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not get ready; the message has what it said.
    pub fn start(namespace: &'n Namespace, target: SocketAddr) -> anyhow::Result<Self> {
        let folder = Scratch::new()?;
        let config = folder.write(
            "prometheus.yml",
            format!(
                "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: ftp-nat\n    \
                 static_configs:\n      - targets: [\"{target}\"]\n"
            ),
        )?;
        let mut command = namespace.command(program("prometheus")?)?;
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}"));
        let mut running = Running::start(&mut command)?;
        running.wait_for("ready", START_LIMIT)?;
        Ok(Self {
            _running: running,
            namespace,
            _folder: folder,
        })
    }

    /// What a query of its language (PromQL) gives now: each result's labels and value.
    ///
    /// # Errors
    ///
    /// When it does not understand the query.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let mut curl = self.namespace.command("curl")?;
        curl.args(["--silent", "--show-error", "--get", "--data-urlencode"])
            .arg(format!("query={query}"))
            .arg(format!("http://127.0.0.1:{PORT}/api/v1/query"));
        let text = process::run(&mut curl, ANSWER_LIMIT)?
            .expect_success()?
            .text();
        let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        if answer["status"] != "success" {
            bail!("{query}: {text}");
        }
        let results = answer["data"]["result"].as_array().context("no result")?;
        results
            .iter()
            .map(|result| {
                let value = result["value"][1].as_str().context("no value")?;
                Ok((result["metric"].clone(), value.parse()?))
            })
            .collect()
    }
}

/// What `promtool check metrics` says of a text.
///
/// # Errors
///
/// When it cannot be started.
pub fn check_metrics(namespace: &Namespace, text: &str) -> anyhow::Result<Outcome> {
    let folder = Scratch::new()?;
    let file = folder.write("metrics", text)?;
    let mut command = namespace.command("sh")?;
    command
        .args(["-c", "exec \"$0\" check metrics < \"$1\""])
        .arg(program("promtool")?)
        .arg(file);
    process::run(&mut command, ANSWER_LIMIT)
}
