//! What docs/fleet.md promises, tried: two gateways that share their sessions, with a real Redis and a
//! real keepalived, while the addresses move between them.

use std::time::Duration;

use anyhow::bail;
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

use crate::progress::step;

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
}

/// The small files' length in bytes.
const SMALL: usize = 20_000;

/// Plays all scenes and prints a table; fails unless nothing failed in any of them.
///
/// # Errors
///
/// When a scene cannot be played, or something failed in it.
pub(crate) fn run(tools: Tools, arguments: &Arguments) -> anyhow::Result<()> {
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
        rows.push(format!("| {name} | {rounds} |"));
    }
    if arguments.turns > 0 {
        rows.extend(sharing(arguments.turns)?);
    }
    if arguments.newcomer > 0 {
        rows.push(newcomer(arguments.newcomer)?);
    }
    println!("| scene | result |\n| --- | --- |\n{}", rows.join("\n"));
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
    Ok(vec![
        format!(
            "| transfers a second, shared to alone | {:.2} (median of {turns} turns, {:.2} to {:.2}; {:.0} and {:.0} \
             a second in the last one) |",
            ratios[turns / 2],
            ratios[0],
            ratios[turns - 1],
            latest.rate,
            alone
        ),
        format!(
            "| from an event to the other gateway's tables, at {:.0} transfers a second | p50 {:.2} ms, p99 {:.2} ms \
             of {} records; {} batches lost |",
            latest.rate,
            latest.median * 1000.0,
            latest.p99 * 1000.0,
            latest.records,
            latest.lost
        ),
    ])
}

fn newcomer(connections: usize) -> anyhow::Result<String> {
    let figures = step("a newcomer", || figures::newcomer(connections))?;
    Ok(format!(
        "| a newcomer with {} connections | ready {:.2} s after its programs were attached, {:.2} s with none; \
         {:.0} records/s were told and installed, {} batches lost |",
        figures.connections,
        figures.full.as_secs_f64(),
        figures.empty.as_secs_f64(),
        figures.rate,
        figures.lost
    ))
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
