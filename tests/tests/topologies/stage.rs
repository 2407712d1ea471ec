//! Playing a scene: every cell of its table is tried, and the doctor is asked.

use std::{net::SocketAddr, time::Duration};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    gateway::Gateway,
    lab::Host,
    namespace::Namespace,
    process,
    scratch::Scratch,
    server::FtpServer,
};
use serde_json::Value;

use crate::scene::Scene;

/// How long a client waits for a connection that does not come.
const SHORT: Duration = Duration::from_secs(2);
/// How long one that comes may take.
const LONG: Duration = Duration::from_secs(5);
/// How long a client's job may take, and the doctor.
const LIMIT: Duration = Duration::from_secs(40);

/// What every small file contains.
const CONTENT: &[u8] = b"as it was stored\n";

/// Who fetches from whom in a scene.
pub struct Stage<'l, 's> {
    /// The machine that ftp-nat runs on.
    pub router: &'l Namespace,
    /// The clients of the table's rows, with the words behind `by`, and where they dial.
    pub clients: Vec<(Option<&'static str>, &'s Host, SocketAddr)>,
    /// The server.
    pub server: &'s FtpServer,
}

/// A scene with ftp-nat in it.
pub struct Played<'l> {
    /// ftp-nat.
    pub gateway: Gateway<'l>,
    config: String,
    /// The configuration's file.
    _scratch: Scratch,
}

impl Scene {
    /// Plays it: the three columns of its table one after the other. With ftp-nat, the doctor must
    /// find nothing, before and after.
    #[track_caller]
    pub fn play<'l>(&self, stage: &Stage<'l, '_>) -> Played<'l> {
        stage.server.offer("small.txt", CONTENT).unwrap();
        for line in self.block("ip").unwrap_or_default().lines() {
            let mut ip = stage.router.command("ip").unwrap();
            let outcome = process::run(ip.args(line.split_whitespace()), LIMIT).unwrap();
            outcome.expect_success().unwrap();
        }
        for (column, mark) in ["nft", "nft helper"].into_iter().enumerate() {
            self.rules(stage.router, mark);
            self.column(stage, column);
        }
        self.rules(stage.router, "nft ftp-nat");
        let played = self.start(stage.router);
        played.is_healthy();
        self.column(stage, 2);
        played.is_healthy();
        played
    }

    /// Starts ftp-nat with the scene's configuration.
    #[track_caller]
    pub fn start<'l>(&self, router: &'l Namespace) -> Played<'l> {
        let scratch = Scratch::new().unwrap();
        let path = scratch.write("ftp-nat.toml", self.block("toml").unwrap());
        let config = path.unwrap().display().to_string();
        Played {
            gateway: Gateway::start(router, &["--config", &config]).unwrap(),
            config,
            _scratch: scratch,
        }
    }

    /// Gives the router the rules of this block, or else those of the scene's first.
    pub fn rules(&self, router: &Namespace, mark: &str) {
        let rules = self.block(mark).or(self.block("nft")).unwrap_or_default();
        router.nft(&format!("flush ruleset\n{rules}")).unwrap();
    }

    /// Tries the cells of a column.
    #[track_caller]
    fn column(&self, stage: &Stage<'_, '_>, column: usize) {
        for row in &self.rows {
            let Some(works) = row.works[column] else {
                continue;
            };
            let found = stage
                .clients
                .iter()
                .find(|(by, ..)| *by == row.by.as_deref());
            let Some((_, host, address)) = found else {
                panic!("nobody fetches by {:?}", row.by);
            };
            for mode in &row.modes {
                let did = fetches(host, stage.server, *address, *mode, works);
                assert_eq!(
                    did.is_ok(),
                    works,
                    "{}: {mode:?} by {:?} in column {}: {did:?}",
                    self.title,
                    row.by,
                    column + 1
                );
            }
        }
    }
}

/// Fetches the small file; `expected`: whether that is to be waited for.
pub fn fetches(
    host: &Host,
    server: &FtpServer,
    address: SocketAddr,
    mode: Mode,
    expected: bool,
) -> anyhow::Result<()> {
    let patience = if expected { LONG } else { SHORT };
    let session = Client::Curl
        .perform_within(
            patience,
            // curl waits for the server's connection as long as for all of it.
            if expected { LIMIT } else { 2 * SHORT },
            host,
            &server.target_at(address),
            mode,
            Job::Fetch("/download/small.txt"),
        )
        .and_then(Session::expect_success)?;
    anyhow::ensure!(session.content == CONTENT, "another content");
    Ok(())
}

impl Played<'_> {
    /// What the doctor finds: name and severity of each finding, and all that it said.
    fn findings(&self) -> (Vec<(String, String)>, Value) {
        let words = ["doctor", "--json", "--config", &self.config];
        let mut command = self.gateway.command(&words).unwrap();
        let outcome = process::run(&mut command, LIMIT).unwrap();
        let report: Value = serde_json::from_slice(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        let named = findings.map(|it| (text(it, "name"), text(it, "severity")));
        (named.collect(), report)
    }

    /// That the doctor finds nothing. What was tried without the gateway may go on for a while: a server
    /// repeats the SYNs to its client that did not arrive, and no session of now has announced them.
    #[track_caller]
    pub fn is_healthy(&self) {
        let (mut findings, report) = self.findings();
        findings.retain(|(name, _)| name != "server-dials-uninvited");
        assert!(findings.is_empty(), "{report:#}\n{}", self.gateway.log());
    }

    /// That the doctor names this first of all, and as an error or a warning.
    #[track_caller]
    pub fn is_found(&self, name: &str) {
        let (findings, report) = self.findings();
        let found = findings
            .iter()
            .any(|(it, severity)| it == name && severity != "note");
        assert!(found, "{name} was not found: {report:#}");
    }
}
