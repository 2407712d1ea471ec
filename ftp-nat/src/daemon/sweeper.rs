//! The sweep's rhythm.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use log::{debug, warn};
use tokio::{sync::watch::Receiver, task::spawn_blocking, time::sleep};

use super::hub::Hub;
use crate::{
    clock::Clock,
    flow::State,
    lifetime::Lifetimes,
    maps::Maps,
    policy::Policy,
    sweep::{Report, sweep},
};

/// Rest between two sweeps.
const REST: Duration = Duration::from_secs(5);
/// And so many times what the last one took: sweeping a million flows takes half a second, and may
/// take no more than a few hundredths of one CPU.
const REST_FACTOR: u32 = 25;

/// What all sweeps of this daemon have done together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Sweeps.
    pub sweeps: u64,
    /// The time they took.
    pub took: Duration,
    /// The time that the last one took.
    pub last: Duration,
    /// Connections that ended, by state.
    pub ended: [u64; State::ALL.len()],
    /// Mappings that nobody used in time.
    pub mappings_expired: u64,
    /// Mappings whose session ended.
    pub mappings_dropped: u64,
    /// Sessions that ended.
    pub sessions: u64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.sweeps += 1;
        self.took += report.took;
        self.last = report.took;
        for (total, ended) in self.ended.iter_mut().zip(report.ended) {
            *total += ended;
        }
        self.mappings_expired += report.mappings_expired;
        self.mappings_dropped += report.mappings_dropped;
        self.sessions += report.sessions;
    }
}

/// The totals, as the sweeper updates them and others read them.
#[derive(Clone, Debug, Default)]
pub struct Sweeps(Arc<Mutex<Totals>>);

impl Sweeps {
    /// What has been done so far.
    pub fn totals(&self) -> Totals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, report: &Report) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.add(report);
    }
}

/// Sweeps from now on, the first time at once: there may be much that is overdue.
pub(super) fn start(
    maps: Arc<Maps>,
    policies: Receiver<Arc<Policy>>,
    lifetimes: Receiver<Lifetimes>,
    clock: Clock,
    hub: Arc<Hub>,
) -> Sweeps {
    let sweeps = Sweeps::default();
    let totals = sweeps.clone();
    tokio::spawn(async move {
        loop {
            let mut rest = REST;
            let (maps, policy) = (Arc::clone(&maps), Arc::clone(&policies.borrow()));
            // With a million flows it takes a while: the other tasks go on.
            let lifetimes = *lifetimes.borrow();
            let hub = Arc::clone(&hub);
            let swept = spawn_blocking(move || {
                let mut tell = |event: &_, ended| hub.tell(event, ended);
                sweep(&maps, &policy, &lifetimes, &clock, &mut tell)
            })
            .await;
            match swept {
                Ok(Ok(report)) => {
                    tell(&report);
                    totals.add(&report);
                    rest = rest.max(report.took * REST_FACTOR);
                }
                Ok(Err(error)) => warn!("sweep: {error:#}"),
                Err(error) => warn!("sweep: {error}"),
            }
            sleep(rest).await;
        }
    });
    sweeps
}

fn tell(report: &Report) {
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
