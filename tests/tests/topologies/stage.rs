//! Playing a scene: every cell of its table is tried, and the doctor is asked.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

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

/// One thing that is broken on purpose, and what the doctor has to say about it.
pub struct Fault<'n> {
    /// The machine on which the commands run.
    pub at: &'n Namespace,
    /// The shell's lines that break it.
    pub broken: &'static str,
    /// Those that mend it; the scene's rules of the firewall are set anew besides.
    pub mended: &'static str,
    /// All errors and warnings that are found then.
    pub found: &'static [&'static str],
}

impl<'n> Fault<'n> {
    /// Forwarding of IPv4 is off at a router.
    pub fn not_forwarding(router: &'n Namespace) -> Self {
        Self {
            at: router,
            broken: "echo 0 > /proc/sys/net/ipv4/ip_forward",
            mended: "echo 1 > /proc/sys/net/ipv4/ip_forward",
            found: &["forwarding-off"],
        }
    }

    /// A server of the lab's has no way back to its clients.
    pub fn no_way_back(server: &'n Namespace) -> Self {
        Self {
            at: server,
            broken: "ip route del default",
            mended: "ip route add default via 10.0.0.1",
            found: &["no-way-back"],
        }
    }
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

/// What the doctor has seen, a line each.
fn seen(report: &Value) -> String {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|it| format!("\n    {}", it["seen"])).collect()
}

/// Runs lines of a shell on a machine.
#[track_caller]
fn shell(at: &Namespace, lines: &str) {
    let mut command = at.command("sh").unwrap();
    let outcome = process::run(command.args(["-ec", lines]), LIMIT).unwrap();
    outcome.expect_success().unwrap();
}

impl Scene {
    /// That this change of the scene's configuration is found, and nothing else.
    #[track_caller]
    pub fn diagnoses_configuration(
        &self,
        router: &Namespace,
        change: impl FnOnce(&str) -> String,
        found: &[&str],
    ) {
        let changed = Self::with_toml(self, change);
        let toml = changed.block("toml").unwrap();
        assert_ne!(self.block("toml"), Some(toml));
        let (named, report) = changed.start(router).errors_and_warnings();
        assert_eq!(named, found, "{toml}\n{}", seen(&report));
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

    /// That the doctor names this as an error or a warning, and nothing else.
    #[track_caller]
    pub fn is_found(&self, name: &str) {
        let (found, report) = self.errors_and_warnings();
        assert!(
            found == [name],
            "{name} was not found, or not alone: {report:#}"
        );
    }

    /// The names of all errors and warnings, and all that the doctor said.
    fn errors_and_warnings(&self) -> (Vec<String>, Value) {
        let (findings, report) = self.findings();
        let found: BTreeSet<_> = findings
            .into_iter()
            .filter(|(_, severity)| severity != "note")
            .map(|(name, _)| name)
            .collect();
        (found.into_iter().collect(), report)
    }

    /// The same, once it is this, or after a while: the daemon follows a changed network in a moment.
    fn wait_to_find(&self, expected: &[&str]) -> (Vec<String>, Value) {
        let start = Instant::now();
        loop {
            let (found, report) = self.errors_and_warnings();
            if found == expected || start.elapsed() > LONG {
                return (found, report);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Breaks one thing after the other: each is found, and nothing else. Once all is mended, nothing is.
    #[track_caller]
    pub fn diagnoses(&self, scene: &Scene, router: &Namespace, faults: &[Fault<'_>]) {
        let mut wrong = String::new();
        for fault in faults {
            shell(fault.at, fault.broken);
            let (found, report) = self.wait_to_find(fault.found);
            if found != fault.found {
                let seen = seen(&report);
                wrong += &format!(
                    "\n{}\n  has to be {:?}, is {found:?}{seen}",
                    fault.broken, fault.found
                );
            }
            shell(fault.at, fault.mended);
            scene.rules(router, "nft ftp-nat");
        }
        assert!(wrong.is_empty(), "{}:{wrong}", scene.title);
        let (found, report) = self.wait_to_find(&[]);
        assert!(found.is_empty(), "{report:#}\n{}", self.gateway.log());
    }
}
