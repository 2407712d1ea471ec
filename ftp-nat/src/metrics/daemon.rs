//! What only the running daemon can tell: its sweeps, its losses, its reloads, itself.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::{
    family::{Family, Kind},
    process,
    transfers::Transfers,
};
use crate::model::flow::State;

/// What became of the configuration's reloads.
#[derive(Debug)]
pub struct Reloads(Mutex<Noted>);

#[derive(Clone, Copy, Debug)]
struct Noted {
    /// When the configuration in effect was loaded, by the start or a reload.
    in_effect_since: Timestamp,
    /// The last reload: when, and whether it went well.
    last: Option<(Timestamp, bool)>,
}

impl Default for Reloads {
    /// None yet: the configuration in effect is that of the start.
    fn default() -> Self {
        Self(Mutex::new(Noted {
            in_effect_since: Timestamp::now(),
            last: None,
        }))
    }
}

impl Reloads {
    /// Notes another one.
    pub fn note(&self, went_well: bool, time: Timestamp) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.last = Some((time, went_well));
        if went_well {
            noted.in_effect_since = time;
        }
    }

    /// When the last one was, and whether it went well; none when there was none.
    pub fn last(&self) -> Option<(Timestamp, bool)> {
        self.noted().last
    }

    fn noted(&self) -> Noted {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody else had removed and the daemon has put back.
#[derive(Debug, Default)]
pub struct Repairs {
    /// Programs attached to interfaces again.
    pub attachments: AtomicU64,
    /// Pins of programs.
    pub programs: AtomicU64,
    /// Pins of maps.
    pub maps: AtomicU64,
}

/// What came of the checks of pools' servers.
#[derive(Debug, Default)]
pub struct Checks {
    /// The server was ready.
    pub passed: AtomicU64,
    /// It was not.
    pub failed: AtomicU64,
}

/// All of it.
pub(super) fn families(
    totals: &Totals,
    losses: &Losses,
    reloads: &Reloads,
    repairs: &Repairs,
    checks: &Checks,
) -> Vec<Family> {
    let mut families = swept(totals);
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    families.push(
        Family::new(
            "events_untold_total",
            Kind::Counter,
            "Events that the daemon could not pass on, by to whom",
        )
        .with(&[("to", "log")], count(&losses.log))
        .with(&[("to", "follower")], count(&losses.followers))
        .with(&[("to", "audit")], count(&losses.audit))
        .with(&[("to", "xferlog")], count(&losses.xferlog)),
    );
    families.push(
        Family::new(
            "repairs_total",
            Kind::Counter,
            "What others had removed and the daemon has put back, by what it was",
        )
        .with(&[("what", "attachment")], count(&repairs.attachments))
        .with(&[("what", "program")], count(&repairs.programs))
        .with(&[("what", "map")], count(&repairs.maps)),
    );
    families.push(
        Family::new(
            "pool_checks_total",
            Kind::Counter,
            "Checks of the servers of pools, by what came of them",
        )
        .with(&[("result", "passed")], count(&checks.passed))
        .with(&[("result", "failed")], count(&checks.failed)),
    );
    let noted = reloads.noted();
    // A start counts as one that went well.
    let went_well = noted.last.is_none_or(|(_, went_well)| went_well);
    families.push(
        Family::new(
            "config_last_reload_successful",
            Kind::Gauge,
            "Whether the last attempt to reload the configuration went well",
        )
        .with(&[], f64::from(u8::from(went_well))),
    );
    families.push(
        Family::new(
            "config_last_reload_success_timestamp_seconds",
            Kind::Gauge,
            "When the configuration in effect was loaded",
        )
        .with(&[], noted.in_effect_since.as_millisecond() as f64 / 1000.0),
    );
    families.extend(process::families());
    families
}

/// The names of the families that only a running daemon has.
pub fn names_of_daemon() -> Vec<String> {
    families(
        &Totals::default(),
        &Losses::default(),
        &Reloads::default(),
        &Repairs::default(),
        &Checks::default(),
    )
    .into_iter()
    .chain(Transfers::default().families())
    .map(|family| family.name)
    .collect()
}

fn swept(totals: &Totals) -> Vec<Family> {
    let mut ended = Family::new(
        "connections_ended_total",
        Kind::Counter,
        "Connections that this daemon has ended, by the state that they were in",
    );
    for (state, count) in State::ALL.iter().zip(totals.ended) {
        ended.add(&[("state", state.name())], count as f64);
    }
    vec![
        ended,
        Family::new(
            "mappings_ended_total",
            Kind::Counter,
            "Mappings that this daemon has ended, by why",
        )
        .with(&[("reason", "expired")], totals.mappings_expired as f64)
        .with(&[("reason", "session")], totals.mappings_dropped as f64),
        Family::new(
            "sessions_ended_total",
            Kind::Counter,
            "Control connections whose end this daemon has seen",
        )
        .with(&[], totals.sessions as f64),
        Family::new(
            "sweep_last_duration_seconds",
            Kind::Gauge,
            "Time that the last sweep through the tables took",
        )
        .with(&[], totals.last.as_secs_f64()),
        Family::new("sweeps_total", Kind::Counter, "Sweeps through the tables")
            .with(&[], totals.sweeps as f64),
        Family::new(
            "sweep_seconds_total",
            Kind::Counter,
            "Time that sweeps through the tables took",
        )
        .with(&[], totals.took.as_secs_f64()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let all = families(
            &Totals::default(),
            &Losses::default(),
            &Reloads::default(),
            &Repairs::default(),
            &Checks::default(),
        );
        for family in all {
            let is_counter = family.kind == Kind::Counter;
            assert_eq!(
                family.name.ends_with("_total"),
                is_counter,
                "{}",
                family.name
            );
            assert!(!family.help.is_empty() && !family.help.ends_with('.'));
        }
    }

    #[test]
    fn a_reload_that_failed_keeps_the_time_of_the_last_that_did_not() {
        let reloads = Reloads::default();
        assert_eq!(reloads.last(), None);
        let then = reloads.noted().in_effect_since;
        let later = then + Duration::from_secs(5);
        reloads.note(false, later);
        assert_eq!(reloads.last(), Some((later, false)));
        assert_eq!(reloads.noted().in_effect_since, then);
        reloads.note(true, later);
        assert_eq!(reloads.last(), Some((later, true)));
        assert_eq!(reloads.noted().in_effect_since, later);
    }
}

/// Events that did not reach everybody.
#[derive(Debug, Default)]
pub struct Losses {
    /// Not logged: there were too many.
    pub log: AtomicU64,
    /// Not told to a follower that was too slow.
    pub followers: AtomicU64,
    /// Not written to the audit log: the disk was full, or too slow.
    pub audit: AtomicU64,
    /// Not written to xferlog, for the same reasons.
    pub xferlog: AtomicU64,
}

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

/// The totals, as the sweeper updates them and others read them.
#[derive(Clone, Debug, Default)]
pub struct Sweeps(Arc<Mutex<Totals>>);

impl Sweeps {
    /// What has been done so far.
    pub fn totals(&self) -> Totals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes another sweep.
    pub fn note(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
