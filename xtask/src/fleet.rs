//! What docs/fleet.md promises, tried: two gateways that share their sessions, with a real Redis and a
//! real keepalived, while the addresses move between them.

use std::{
    fmt::{self, Display, Formatter},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use ftp_nat_tests::{
    fleet::{
        Fleet,
        client::Files,
        figures::{self, Load, PerTransfer, Shared},
        moves::{Move, Rounds, Stage},
    },
    tools::Tools,
};

use crate::{command::cargo, progress::step, workspace::Workspace};

/// How often each scene is played.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Cuts of the master's cables during a session of small files
    #[arg(long, value_name = "N", default_value_t = 20)]
    cuts: usize,
    /// Planned moves: keepalived is stopped at the master
    #[arg(long, value_name = "N", default_value_t = 20)]
    planned: usize,
    /// Restarts of the master's daemon
    #[arg(long, value_name = "N", default_value_t = 10)]
    restarts: usize,
    /// Upgrades of the master's daemon: its binary is replaced, and it is started anew
    #[arg(long, value_name = "N", default_value_t = 10)]
    upgrades: usize,
    /// Another version of the binary: upgrades go to it and back. The same one unless given
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// Cuts during downloads of a large file
    #[arg(long, value_name = "N", default_value_t = 5)]
    large: usize,
    /// The large file's length, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    megabytes: usize,
    /// Turns of the measurement of what sharing costs; 0: it is not measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    turns: usize,
    /// Connections that a newcomer learns; 0: that is not measured
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    newcomer: usize,
    /// Seconds of a hundred thousand records each; 0: they are not told
    #[arg(long, value_name = "S", default_value_t = 5)]
    flood: u64,
    /// How long the engine is away, and both gateways are masters, in seconds; 0: that is not played
    #[arg(long, value_name = "S", default_value_t = 5)]
    outage: u64,
    /// All numbers as docs/fleet.md promises them: this takes hours
    #[arg(long)]
    whole: bool,
}

impl Arguments {
    fn wholly(&self) -> Self {
        Self {
            cuts: 100,
            planned: 100,
            restarts: 100,
            upgrades: 100,
            other: self.other.clone(),
            large: 100,
            megabytes: 1000,
            turns: 5,
            newcomer: 1_000_000,
            flood: 30,
            outage: 60,
            whole: true,
        }
    }
}

/// The small files' length in bytes.
const SMALL: usize = 20_000;

/// Plays all scenes and prints a table; fails unless nothing failed in any of them.
///
/// # Errors
///
/// When a scene cannot be played, or something failed in it.
pub(crate) fn run(
    workspace: &Workspace,
    tools: Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let whole = arguments.wholly();
    let arguments = if arguments.whole { &whole } else { arguments };
    let troubles = match arguments.outage {
        0 => Vec::new(),
        seconds => step(
            "troubles of the engine and of a node, forged records",
            || troubles(workspace, &tools, seconds),
        )?,
    };
    tools.use_here();
    let large = arguments.megabytes * 1_000_000;
    let scenes = [
        (
            "small files, the master is cut off",
            Move::Cut,
            SMALL,
            arguments.cuts,
        ),
        (
            "small files, keepalived is stopped",
            Move::Stopped,
            SMALL,
            arguments.planned,
        ),
        (
            "small files, the daemon is restarted",
            Move::Restarted,
            SMALL,
            arguments.restarts,
        ),
        (
            "small files, the daemon is upgraded",
            Move::Upgraded,
            SMALL,
            arguments.upgrades,
        ),
        (
            "large files, the master is cut off",
            Move::Cut,
            large,
            arguments.large,
        ),
    ];
    let mut rows = Vec::new();
    let (mut moves, mut broken) = (0, 0);
    for (name, how, length, count) in scenes {
        if count == 0 {
            continue;
        }
        let other = arguments.other.as_deref();
        let rounds = step(name, || play(how, length, count, other))?;
        moves += rounds.0.len();
        broken += rounds.broken();
        for round in rounds.0.iter().filter(|it| !it.failures.is_empty()) {
            println!("{name}: {}\n{}", round.failures.join("; "), round.evidence);
        }
        rows.push(row(name, "0 broken", &rounds));
    }
    if arguments.turns > 0 {
        rows.extend(sharing(arguments.turns)?);
    }
    if arguments.newcomer > 100_000 {
        rows.push(newcomer(100_000)?);
    }
    if arguments.newcomer > 0 {
        rows.push(newcomer(arguments.newcomer)?);
    }
    if arguments.flood > 0 {
        rows.push(flood(Duration::from_secs(arguments.flood))?);
    }
    rows.extend(troubles);
    println!(
        "| scene | promise | seen |\n| --- | --- | --- |\n{}",
        rows.join("\n")
    );
    let summary = format!("{moves} moves, {broken} with a file or session that failed");
    if broken > 0 {
        bail!("{summary}");
    }
    println!("{summary}");
    Ok(())
}

/// Clients that transfer small files at once.
const CLIENTS: usize = 3;
/// For how long they do in a turn.
const TURN: Duration = Duration::from_secs(5);
/// Transfers a second at which it is measured how soon the other gateway knows.
const RATE: f64 = 1000.0;

/// Transfers with and without sharing, in turn, what they cost, and how soon the other gateway knew of them.
fn sharing(turns: usize) -> anyhow::Result<Vec<String>> {
    let mut together = Ratios::default();
    let mut apart = Ratios::default();
    let mut delays = Vec::new();
    for turn in 1..=turns {
        let name = format!("transfers, shared and alone, turn {turn}");
        step(&name, || {
            for (ratios, is_apart) in [(&mut together, false), (&mut apart, true)] {
                let load = Load {
                    clients: CLIENTS,
                    rate: None,
                    is_shared: true,
                    is_apart,
                    time: TURN,
                };
                let shared = figures::transfers(&load)?;
                let is_shared = false;
                let alone = figures::transfers(&Load { is_shared, ..load })?;
                ratios.all.push(shared.rate / alone.rate);
                ratios.latest = (shared, alone);
            }
            delays.push(figures::transfers(&Load {
                clients: CLIENTS,
                rate: Some(RATE),
                is_shared: true,
                is_apart: false,
                time: TURN,
            })?);
            anyhow::Ok(())
        })?;
    }
    delays.sort_by(|one, other| one.p99.total_cmp(&other.p99));
    let shown = delays.iter().map(|it| {
        format!(
            "{:.2} / {:.2} ms of {} records at {:.0} transfers a second, {} batches lost",
            it.median * 1000.0,
            it.p99 * 1000.0,
            it.records,
            it.rate,
            it.lost
        )
    });
    let shown: Vec<_> = shown.collect();
    let (shared, alone) = &apart.latest;
    let cost = |it: &PerTransfer| format!("{:.0} µs and {:.1} waits", it.micros, it.waits);
    let costs = format!(
        "alone {}; shared {}, of the other one {}, of the engine {}",
        cost(&alone.gateway),
        cost(&shared.gateway),
        cost(&shared.other),
        cost(&shared.engine)
    );
    Ok(vec![
        row(
            "transfers a second, shared to alone, all on the same processors",
            "at least 0.9",
            &together,
        ),
        row(
            "the same, the other gateway and the engine on a processor of their own",
            "at least 0.9",
            &apart,
        ),
        row("what a transfer costs the gateway's daemon", "", &costs),
        row(
            "from an event to the other gateway's tables",
            "p50 below 0.3 ms, p99 below 1 ms",
            &shown.join("; "),
        ),
    ])
}

/// Transfers a second with sharing, by those without.
#[derive(Default)]
struct Ratios {
    all: Vec<f64>,
    /// What was seen in the last turn: with sharing, and without.
    latest: (Shared, Shared),
}

impl Display for Ratios {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut ratios = self.all.clone();
        ratios.sort_by(f64::total_cmp);
        let turns = ratios.len();
        let (shared, alone) = &self.latest;
        write!(
            f,
            "{:.2} (median of {turns} turns, {:.2} to {:.2}; {:.0} and {:.0} a second in the last one)",
            ratios[turns / 2],
            ratios[0],
            ratios[turns - 1],
            shared.rate,
            alone.rate
        )
    }
}

fn row(scene: &str, promise: &str, seen: &dyn Display) -> String {
    format!("| {scene} | {promise} | {seen} |")
}

/// A hundred thousand records a second.
fn flood(time: Duration) -> anyhow::Result<String> {
    let figures = step("a hundred thousand records a second", || {
        figures::flood(100_000.0, time)
    })?;
    let seen = format!(
        "{} of {} installed, at {:.0} records a second; p50 {:.2} ms, p99 {:.2} ms at the worst moment; {} batches lost",
        figures.installed,
        figures.told,
        figures.rate,
        figures.median * 1000.0,
        figures.p99 * 1000.0,
        figures.lost
    );
    Ok(row(
        "100,000 records a second",
        "none lost, p99 below 5 ms",
        &seen,
    ))
}

/// The tests of what goes wrong around two gateways; gives the lines of the table that they print.
fn troubles(workspace: &Workspace, tools: &Tools, seconds: u64) -> anyhow::Result<Vec<String>> {
    let output = cargo()
        .args(["test", "--locked", "--package", "ftp-nat-tests"])
        .args([
            "--test",
            "fleet",
            "--",
            "outages::",
            "engine_trouble::",
            "forged::",
        ])
        .args(["--nocapture", "--test-threads", "1"])
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env(OUTAGE, seconds.to_string())
        .envs(tools.variables())
        .output()
        .context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    // Behind the test's name, in the same line.
    let rows = said
        .lines()
        .filter_map(|line| line.find("| ").map(|at| line[at..].to_owned()));
    Ok(rows.collect())
}

/// Names to the tests how many seconds an outage lasts.
const OUTAGE: &str = "FTP_NAT_FLEET_SECONDS";

fn newcomer(connections: usize) -> anyhow::Result<String> {
    let figures = step("a newcomer", || figures::newcomer(connections))?;
    let seen = format!(
        "ready {:.2} s after its programs were attached, {:.2} s with none; {:.0} records/s were told and installed, {} \
         batches lost",
        figures.full.as_secs_f64(),
        figures.empty.as_secs_f64(),
        figures.rate,
        figures.lost
    );
    let scene = format!("a newcomer with {} connections", figures.connections);
    Ok(row(&scene, "100,000 in 1 s, 1,000,000 in 10 s", &seen))
}

/// `other`: the version of the binary to which gateways are upgraded.
fn play(how: Move, length: usize, count: usize, other: Option<&Path>) -> anyhow::Result<Rounds> {
    let fleet = Fleet::new()?;
    let mut stage = Stage::set(&fleet, "")?;
    if let Some(other) = other {
        stage.upgrade_to(other);
    }
    let fetching = stage.fetch(&Files {
        length,
        rest: Duration::ZERO,
    })?;
    let rounds = (0..count).map(|_| stage.play(how, &fetching));
    let rounds = Rounds(rounds.collect::<anyhow::Result<_>>()?);
    fetching.stop()?;
    Ok(rounds)
}
