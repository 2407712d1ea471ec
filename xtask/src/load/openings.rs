//! Data connections that are announced, opened, used and closed without a pause, while the daemon sweeps.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::lab::Lab;

use super::{rows::Rows, watch};
use crate::{
    apt::Installing,
    bench::{
        openings::{Match, OPENINGS, SESSIONS},
        options::Options,
        scene::{Router, Settings},
    },
    ebpf,
    workspace::Workspace,
};

/// Openings a second that are held. Each connection is known for some seconds after its end, and the daemon
/// takes it out: that needs a few microseconds of a CPU, beside all that the ends and the router need.
const RATE: f64 = 20_000.0;
/// Rounds without a pause at most, to see what happens beyond.
const BEYOND: u32 = 200;

pub(super) fn run(
    workspace: &Workspace,
    installing: Installing,
    lasts: Duration,
    room: u32,
) -> anyhow::Result<Rows> {
    let object = ebpf::build(workspace, installing, ebpf::Crate::Bench)?;
    let options = Options::plain(fs::read(object)?);
    let lab = Lab::new()?;
    let settings = Settings {
        connections: Some(room),
        ..Settings::default()
    };
    let mut contest = Match::new(&lab, Router::Redirect, &options, &settings)?;
    let before = watch::memory(contest.gateway()?)?;
    let (mut rounds, mut rates, mut latest, mut fullest) = (0_u32, Vec::new(), Vec::new(), 0);
    let start = Instant::now();
    while start.elapsed() < lasts {
        let round = contest.play(SESSIONS, OPENINGS)?;
        rounds += 1;
        let due = Duration::from_secs_f64(f64::from(rounds * OPENINGS) / RATE);
        thread::sleep(due.saturating_sub(start.elapsed()));
        rates.push(round.rate);
        latest.push(round.setup[round.setup.len() * 99 / 100]);
        // Asking costs what packets would have of this machine.
        if rounds % 50 == 0 {
            let entries = contest.gateway()?.metric("map_entries", "map=\"flows4\"")?;
            fullest = fullest.max(entries);
        }
    }
    let took = start.elapsed();
    let denied = |contest: &Match<'_>| {
        contest
            .gateway()?
            .metric("denied_packets_total", "reason=\"no_room\"")
    };
    let held = denied(&contest)?;
    let beyond = Instant::now();
    let mut unpaced = 0;
    let refused = loop {
        match contest.play(SESSIONS, OPENINGS) {
            Ok(_) => unpaced += 1,
            Err(_) => break true,
        }
        if unpaced == BEYOND {
            break false;
        }
    };
    let (beyond, unpaced) = (beyond.elapsed(), u64::from(unpaced) * u64::from(OPENINGS));
    let (silence, sweeps, sweep) = watch::word(contest.gateway()?)?;
    rates.sort_by(f64::total_cmp);
    latest.sort_by(f64::total_cmp);
    let gateway = contest.gateway()?;
    let openings = u64::from(rounds) * u64::from(OPENINGS);
    let after = denied(&contest)?;
    let middle = rates.len() / 2;
    Ok(vec![
        (
            "data connections",
            format!("{openings} in {:.0} s", took.as_secs_f64()),
        ),
        (
            "a second, pauses of the load generator included",
            format!("{:.0}", openings as f64 / took.as_secs_f64()),
        ),
        (
            "a second, of each round of 12,000",
            format!(
                "{:.0} (median), {:.0} to {:.0}",
                rates[middle],
                rates[0],
                rates[rates.len() - 1]
            ),
        ),
        (
            "from PASV to SYN+ACK, 99 of 100 of a round",
            format!(
                "{:.0} µs (median), {:.0} µs (worst round)",
                latest[middle],
                latest[rates.len() - 1]
            ),
        ),
        (
            "sweeps meanwhile, and how long one took",
            format!("{sweeps}, {sweep:.1?}"),
        ),
        (
            "entries of connections, at most",
            format!("{fullest} of {}", room * 2),
        ),
        ("refused for want of room", held.to_string()),
        (
            "just beyond: without a pause",
            format!(
                "{unpaced} more in {:.0} s, {}",
                beyond.as_secs_f64(),
                match after - held {
                    0 if !refused => "none refused".to_owned(),
                    packets => format!("then {packets} packets counted as `no_room`"),
                }
            ),
        ),
        (
            "`metrics` just after the last one",
            format!("{silence:.1?}"),
        ),
        ("memory before", before),
        ("memory after", watch::memory(gateway)?),
    ])
}
