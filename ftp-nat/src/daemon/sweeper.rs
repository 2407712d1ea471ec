//! The sweep's rhythm.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use log::{debug, warn};
use tokio::{
    sync::{Notify, watch::Receiver},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    event_bus::EventBus,
    sweep::{Fill, Report, lifetime::Lifetimes, sweep},
};
use crate::{
    datapath::maps::Maps,
    kernel::clock::Clock,
    metrics::{Sweeps, Totals},
    policy::Policy,
};

/// Rest between two sweeps.
const REST: Duration = Duration::from_secs(5);

/// The same while a table, or a client's share of one, is more than half full.
const REST_IN_NEED: Duration = Duration::from_secs(1);

/// When something was refused for want of room, the next sweep comes at once, but not sooner.
const REST_LEAST: Duration = Duration::from_millis(250);

/// And so many times what the last one took: sweeping a million flows takes half a second, and may
/// take no more than a few hundredths of one CPU.
const REST_FACTOR: u32 = 25;
/// The same while a table fills, or when something was refused for want of room: then half of one CPU.
const REST_FACTOR_IN_NEED: u32 = 1;

/// When the next sweep comes, and how.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    /// Not before this time has passed, whatever is refused.
    least: Duration,
    /// After this time, if nothing is refused.
    usual: Duration,
    /// Whether a table, or a client's share, is more than half full, or will be then.
    is_tight: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            least: REST_LEAST,
            usual: REST,
            is_tight: false,
        }
    }
}

/// What the last sweep left behind it, and when.
#[derive(Clone, Copy)]
struct Left {
    fills: [Fill; 4],
    at: Instant,
}

/// How long to rest after a sweep, before which there was another one that left `before`, `since` ago.
fn rest(report: &Report, before: &[Fill; 4], since: Duration) -> Rest {
    let least = REST_LEAST.max(report.took * REST_FACTOR_IN_NEED);
    let is_over = |entries: u64, fill: &Fill| entries > fill.room / 2;
    let is_tight = report.is_share_tight || report.fills.iter().any(|it| is_over(it.left, it));
    let rest = if is_tight { REST_IN_NEED } else { REST };
    let usual = rest.max(report.took * REST_FACTOR);
    let grown = || before.iter().zip(&report.fills);
    let fills = grown().filter_map(|(before, now)| fills(before, now, since));
    let usual = fills.fold(usual, Duration::min).max(least);
    let will_be = |before: &Fill, now: &Fill| {
        now.left + (pace(before, now, since) * usual.as_secs_f64()) as u64
    };
    Rest {
        least,
        usual,
        is_tight: is_tight || grown().any(|(before, now)| is_over(will_be(before, now), now)),
    }
}

/// How many entries came in a second since the last sweep.
fn pace(before: &Fill, now: &Fill, since: Duration) -> f64 {
    now.found.saturating_sub(before.left) as f64 / since.as_secs_f64().max(0.001)
}

/// When half of what is free in a table will be taken; None: in no time that matters.
fn fills(before: &Fill, now: &Fill, since: Duration) -> Option<Duration> {
    let free = now.room.saturating_sub(now.left) as f64 / 2.0;
    Duration::try_from_secs_f64(free / pace(before, now, since)).ok()
}

/// Sweeps from now on, the first time at once: there may be much that is overdue. `need` is notified
/// when something was refused for want of room.
pub(super) fn start(
    maps: Arc<Maps>,
    policies: Receiver<Arc<Policy>>,
    lifetimes: Receiver<Lifetimes>,
    clock: Clock,
    bus: Arc<EventBus>,
    need: Arc<Notify>,
) -> Sweeps {
    let sweeps = Sweeps::default();
    let totals = sweeps.clone();
    tokio::spawn(async move {
        let mut is_in_need = false;
        let mut left = Left {
            fills: Default::default(),
            at: Instant::now(),
        };
        loop {
            let mut pause = Rest::default();
            let (maps, policy) = (Arc::clone(&maps), Arc::clone(&policies.borrow()));
            // With a million flows it takes a while: the other tasks go on.
            let mut lifetimes = *lifetimes.borrow();
            if is_in_need {
                lifetimes = lifetimes.in_need();
            }
            let bus = Arc::clone(&bus);
            let swept = spawn_blocking(move || {
                let mut tell = |event: &_, ended| bus.publish(event, ended);
                sweep(&maps, &policy, &lifetimes, &clock, &mut tell)
            })
            .await;
            match swept {
                Ok(Ok(report)) => {
                    log_sweep(&report);
                    totals.note(|totals| add(totals, &report));
                    let now = Instant::now();
                    pause = rest(&report, &left.fills, now - left.at);
                    is_in_need = pause.is_tight;
                    left = Left {
                        fills: report.fills,
                        at: now,
                    };
                }
                Ok(Err(error)) => warn!("sweep: {error:#}"),
                Err(error) => warn!("sweep: {error}"),
            }
            sleep(pause.least).await;
            tokio::select! {
                () = sleep(pause.usual.saturating_sub(pause.least)) => {}
                () = need.notified() => is_in_need = true,
            }
        }
    });
    sweeps
}

/// Adds what a sweep has done to the totals.
fn add(totals: &mut Totals, report: &Report) {
    totals.sweeps += 1;
    totals.took += report.took;
    totals.last = report.took;
    for (total, ended) in totals.ended.iter_mut().zip(report.ended) {
        *total += ended;
    }
    totals.mappings_expired += report.mappings_expired;
    totals.mappings_dropped += report.mappings_dropped;
    totals.sessions += report.sessions;
}

fn log_sweep(report: &Report) {
    let idle = Report {
        took: report.took,
        fills: report.fills,
        ..Report::default()
    };
    if *report == idle {
        return;
    }
    debug!(
        "swept in {:?}: {} connections, {} mappings expired, {} dropped, {} sessions, {} ports",
        report.took,
        report.ended.iter().sum::<u64>(),
        report.mappings_expired,
        report.mappings_dropped,
        report.sessions,
        report.ports
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Fill = Fill {
        found: 0,
        left: 0,
        room: 2_000_000,
    };

    fn report(found: u64, left: u64, took: u64) -> Report {
        Report {
            fills: in_flows(Fill {
                found,
                left,
                ..TABLE
            }),
            took: Duration::from_millis(took),
            ..Report::default()
        }
    }

    fn in_flows(fill: Fill) -> [Fill; 4] {
        [TABLE, TABLE, fill, TABLE]
    }

    #[test]
    fn the_faster_a_table_fills_the_sooner_it_is_swept_again() {
        for (before, found, left, took, since, wanted) in [
            // Nothing to do.
            (0, 0, 0, 1, 5, (250, 5_000, false)),
            // Much to read, and nothing grows.
            (600_000, 600_000, 600_000, 800, 20, (800, 20_000, false)),
            // It shrinks.
            (700_000, 600_000, 600_000, 800, 20, (800, 20_000, false)),
            // It grows slowly.
            (599_000, 600_000, 600_000, 800, 20, (800, 20_000, false)),
            // Fast: 120,000 a second, and half of 1,400,000 are free.
            (0, 600_000, 600_000, 800, 5, (800, 5_833, true)),
            // Faster than it can be swept.
            (0, 1_900_000, 1_900_000, 3_000, 1, (3_000, 3_000, true)),
            // What comes goes with each sweep; before the next one it will be more than half full.
            (950_000, 1_450_000, 950_000, 100, 5, (250, 5_000, true)),
            // More than half full, and nothing grows.
            (
                1_500_000,
                1_500_000,
                1_500_000,
                1_000,
                25,
                (1_000, 25_000, true),
            ),
            (1_500_000, 1_500_000, 1_500_000, 10, 5, (250, 1_000, true)),
        ] {
            let before = in_flows(Fill {
                left: before,
                ..TABLE
            });
            let report = report(found, left, took);
            let rest = rest(&report, &before, Duration::from_secs(since));
            let seen = (
                rest.least.as_millis(),
                rest.usual.as_millis(),
                rest.is_tight,
            );
            assert_eq!(seen, wanted, "{found} found, {left} left in {took} ms");
        }
    }

    #[test]
    fn a_share_that_is_half_full_is_need_too() {
        let mut report = report(0, 0, 1);
        let after = |report: &Report| rest(report, &[TABLE; 4], Duration::from_secs(5));
        assert!(!after(&report).is_tight);
        report.is_share_tight = true;
        let rest = after(&report);
        assert!(rest.is_tight);
        assert_eq!(rest.usual, REST_IN_NEED);
    }
}
