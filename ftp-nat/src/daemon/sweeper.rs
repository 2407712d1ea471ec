//! The sweep's rhythm.

use std::{sync::Arc, time::Duration};

use log::{debug, warn};
use tokio::{
    sync::{Notify, watch::Receiver},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    event_bus::EventBus,
    sweep::{Report, lifetime::Lifetimes, sweep},
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
/// The same when something was refused for want of room: then a fifth of one CPU.
const REST_FACTOR_IN_NEED: u32 = 4;

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
        loop {
            let (mut least, mut usual) = (REST_LEAST, REST_LEAST);
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
                    least = least.max(report.took * REST_FACTOR_IN_NEED);
                    usual = usual.max(report.took * REST_FACTOR);
                    is_in_need = report.is_tight;
                }
                Ok(Err(error)) => warn!("sweep: {error:#}"),
                Err(error) => warn!("sweep: {error}"),
            }
            sleep(least).await;
            let rest = if is_in_need { REST_IN_NEED } else { REST };
            tokio::select! {
                () = sleep(rest.max(usual).saturating_sub(least)) => {}
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
