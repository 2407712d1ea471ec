//! `ftp-nat probe`, a client that names what breaks FTP: each of the six causes is built in the
//! lab, with a real server, and must be named.

mod causes;
mod encrypted;
mod healthy;
mod intercepted;
mod rude;
mod usage;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use ftp_nat_tests::{
    lab::{Host, WAN_ADDRESS},
    process::{self, Outcome},
    tools::Tools,
};
use serde_json::Value;

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

/// Longer than any probe here may take.
const PATIENCE: Duration = Duration::from_secs(40);

fn binary() -> PathBuf {
    Tools::get().unwrap().binary
}

/// `ftp-nat probe` on a host.
fn command(host: &Host, words: &[&str]) -> Command {
    let mut command = host.namespace.command(binary()).unwrap();
    command.arg("probe").args(words);
    command
}

fn run(mut command: Command) -> Outcome {
    let outcome = process::run(&mut command, PATIENCE).unwrap();
    println!("{}{}", outcome.text(), outcome.stderr);
    outcome
}

fn code(outcome: &Outcome) -> Option<i32> {
    outcome.status.and_then(|status| status.code())
}

/// What a probe found out.
struct Probed {
    code: Option<i32>,
    json: Value,
}

impl Probed {
    /// Runs it with `--json`.
    fn on(host: &Host, words: &[&str]) -> Self {
        let outcome = run(command(host, &[words, &["--json"]].concat()));
        let json = serde_json::from_slice(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", outcome.text(), outcome.stderr));
        Self {
            code: code(&outcome),
            json,
        }
    }

    /// What it says of a mode.
    fn verdict(&self, mode: &str) -> &str {
        let modes = self.json["seen"]["modes"].as_array().unwrap();
        let attempt = modes.iter().find(|attempt| attempt["mode"] == mode);
        attempt.unwrap_or_else(|| panic!("{mode} was not tried"))["verdict"]
            .as_str()
            .unwrap()
    }

    /// The first finding's number, and how sure it is.
    fn first_cause(&self) -> (Option<u64>, &str) {
        let first = &self.json["findings"][0];
        (
            first["cause"].as_u64(),
            first["certainty"].as_str().unwrap_or_default(),
        )
    }

    /// All that speaks for the first finding.
    fn evidence(&self) -> String {
        let all = self.json["findings"][0]["evidence"].as_array();
        let texts = all.into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The places of the first finding's remedies, and what to do there.
    fn fixes(&self) -> String {
        let all = self.json["findings"][0]["fixes"].as_array();
        let texts = all
            .into_iter()
            .flatten()
            .map(|fix| format!("{}: {}", fix["at"], fix["what"]));
        texts.collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn assert_works(&self, modes: &[&str]) {
        assert_eq!(self.code, Some(0), "{:#}", self.json);
        assert_eq!(self.json["verdict"], "works", "{:#}", self.json);
        for mode in modes {
            assert_eq!(self.verdict(mode), "works", "{mode}");
        }
        let tried = self.json["seen"]["modes"].as_array().map(Vec::len);
        assert_eq!(tried, Some(modes.len()));
    }

    /// That the first cause is this one, with certainty.
    #[track_caller]
    fn assert_cause(&self, cause: u64, certainty: &str) {
        assert_eq!(self.code, Some(1), "{:#}", self.json);
        assert_eq!(self.json["verdict"], "broken");
        assert_eq!(
            self.first_cause(),
            (Some(cause), certainty),
            "{:#}",
            self.json["findings"]
        );
    }
}
