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
/// The same when room is short: then half of one CPU.
const REST_FACTOR_IN_NEED: u32 = 1;

/// When the next sweep comes.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    /// Not before this time has passed, whatever is refused.
    least: Duration,
    /// After this time, if nothing is refused.
    usual: Duration,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            least: REST_LEAST,
            usual: REST,
        }
    }
}

/// What the last sweep left behind it, and when.
#[derive(Clone, Copy)]
struct Left {
    fills: [Fill; 4],
    at: Instant,
}

/// Whether room is short after this sweep: a table, or a client's share, is more than half full.
fn is_tight(report: &Report) -> bool {
    let is_over = |fill: &Fill| fill.left > fill.room / 2;
    report.is_share_tight || report.fills.iter().any(is_over)
}

/// How long to rest after a sweep, before which there was another one that left `before`, `since` ago.
fn rest(report: &Report, before: &[Fill; 4], since: Duration) -> Rest {
    let least = REST_LEAST.max(report.took * REST_FACTOR_IN_NEED);
    let usual = if is_tight(report) {
        REST_IN_NEED
    } else {
        let grown = before.iter().zip(&report.fills);
        let half_full = grown.filter_map(|(before, now)| half_full(before, now, since));
        let usual = REST.max(report.took * REST_FACTOR);
        half_full.fold(usual, Duration::min)
    };
    Rest {
        least,
        usual: usual.max(least),
    }
}

/// When a table that goes on growing as it did will be half full; None: it does not grow.
fn half_full(before: &Fill, now: &Fill, since: Duration) -> Option<Duration> {
    let grown = now.found.checked_sub(before.left).filter(|it| *it > 0)?;
    let free = (now.room / 2).saturating_sub(now.left);
    // Whoever grows that slowly reaches it in no time that matters.
    Duration::try_from_secs_f64(since.as_secs_f64() * free as f64 / grown as f64).ok()
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
                    is_in_need = is_tight(&report);
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
            fills: [
                TABLE,
                TABLE,
                Fill {
                    found,
                    left,
                    ..TABLE
                },
                TABLE,
            ],
            took: Duration::from_millis(took),
            ..Report::default()
        }
    }

    #[test]
    fn the_fuller_a_table_gets_the_sooner_it_is_swept_again() {
        let millis = |it: Rest| (it.least.as_millis(), it.usual.as_millis());
        for (before, found, left, took, since, wanted) in [
            // Nothing to do.
            (0, 0, 0, 1, 5, (250, 5_000)),
            // Much to read, and nothing grows.
            (600_000, 600_000, 600_000, 800, 20, (800, 20_000)),
            // It shrinks.
            (700_000, 600_000, 600_000, 800, 20, (800, 20_000)),
            // It grows slowly, from nothing, and fast: 600,000 in 5 s, 400,000 more to the half.
            (599_000, 600_000, 600_000, 800, 20, (800, 20_000)),
            (0, 600_000, 600_000, 800, 5, (800, 3_333)),
            (0, 900_000, 900_000, 800, 5, (800, 800)),
            // What came went with this sweep: half a second to the half at most from 950,000.
            (950_000, 1_450_000, 950_000, 100, 5, (250, 500)),
            // More than half full.
            (900_000, 1_100_000, 1_100_000, 800, 5, (800, 1_000)),
            (900_000, 1_100_000, 1_100_000, 10, 5, (250, 1_000)),
        ] {
            let before = [
                TABLE,
                TABLE,
                Fill {
                    left: before,
                    ..TABLE
                },
                TABLE,
            ];
            let rest = rest(
                &report(found, left, took),
                &before,
                Duration::from_secs(since),
            );
            assert_eq!(
                millis(rest),
                wanted,
                "{found} found, {left} left in {took} ms"
            );
        }
    }

    #[test]
    fn a_share_that_is_half_full_is_need_too() {
        let mut report = report(0, 0, 1);
        assert!(!is_tight(&report));
        report.is_share_tight = true;
        assert!(is_tight(&report));
        let rest = rest(&report, &[TABLE; 4], Duration::from_secs(5));
        assert_eq!(rest.usual, REST_IN_NEED);
    }
}
