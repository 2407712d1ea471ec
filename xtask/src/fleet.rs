//! What docs/fleet.md promises, tried: two gateways that share their sessions, with a real Redis and a
//! real keepalived, while the addresses move between them.

use std::{fmt::Display, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use ftp_nat_tests::{
    fleet::{
        Fleet,
        client::Files,
        figures,
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
        let rounds = step(name, || play(how, length, count))?;
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

/// Transfers with and without sharing, in turn, and how soon the other gateway knew of them.
fn sharing(turns: usize) -> anyhow::Result<Vec<String>> {
    let mut ratios = Vec::new();
    let mut latest = figures::Shared::default();
    let mut alone = 0.0;
    for turn in 1..=turns {
        let name = format!("transfers, shared and alone, turn {turn}");
        let (shared, lone) = step(&name, || {
            anyhow::Ok((
                figures::transfers(CLIENTS, true, TURN)?,
                figures::transfers(CLIENTS, false, TURN)?,
            ))
        })?;
        ratios.push(shared.rate / lone.rate);
        latest = shared;
        alone = lone.rate;
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = format!(
        "{:.2} (median of {turns} turns, {:.2} to {:.2}; {:.0} and {:.0} a second in the last one)",
        ratios[turns / 2],
        ratios[0],
        ratios[turns - 1],
        latest.rate,
        alone
    );
    let delay = format!(
        "p50 {:.2} ms, p99 {:.2} ms of {} records, at {:.0} transfers a second; {} batches lost",
        latest.median * 1000.0,
        latest.p99 * 1000.0,
        latest.records,
        latest.rate,
        latest.lost
    );
    Ok(vec![
        row(
            "transfers a second, shared to alone",
            "at least 0.9",
            &ratio,
        ),
        row(
            "from an event to the other gateway's tables",
            "p50 below 0.3 ms, p99 below 1 ms",
            &delay,
        ),
    ])
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
        .args(["--test", "fleet", "--", "outages::", "forged::"])
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

fn play(how: Move, length: usize, count: usize) -> anyhow::Result<Rounds> {
    let fleet = Fleet::new()?;
    let mut stage = Stage::set(&fleet, "")?;
    let fetching = stage.fetch(&Files {
        length,
        rest: Duration::ZERO,
    })?;
    let rounds = (0..count).map(|_| stage.play(how, &fetching));
    let rounds = Rounds(rounds.collect::<anyhow::Result<_>>()?);
    fetching.stop()?;
    Ok(rounds)
}
