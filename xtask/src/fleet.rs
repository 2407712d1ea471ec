//! What docs/fleet.md promises, tried: two gateways that share their sessions, with a real Redis and a
//! real keepalived, while the addresses move between them.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use ftp_nat_tests::{
    fleet::{
        Fleet,
        moves::{Files, Move, Rounds, Stage},
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
        let failures = rounds.0.iter().flat_map(|it| &it.failures);
        for failure in failures {
            println!("{name}: {failure}");
        }
        rows.push(format!("| {name} | {rounds} |"));
    }
    println!("| scene | result |\n| --- | --- |\n{}", rows.join("\n"));
    let summary = format!("{moves} moves, {broken} with a file or session that failed");
    if broken > 0 {
        bail!("{summary}");
    }
    println!("{summary}");
    Ok(())
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
