//! What happened: counted, and what must not happen, in words.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::progress::say;

/// How many violations are kept.
const KEPT: usize = 50;
/// How many faults before a violation are told with it.
const TOLD: usize = 6;

/// Seconds since 1970, as `tcpdump -tt` tells them.
fn clock() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{:.3}", now.unwrap_or_default().as_secs_f64())
}

/// What happened so far.
#[derive(Debug)]
pub(super) struct Record(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Whether each fault is told with its time when it is made.
    tells_faults: bool,
    sessions: u64,
    files: u64,
    bytes: u64,
    /// Connections that were refused or unanswered while an interface had no programs.
    refused: u64,
    attacks: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
    /// The last ones, and when they were made.
    faults: Vec<(Instant, &'static str)>,
    /// Until when new connections may fail: an interface is away, or has no programs.
    excused_until: Option<Instant>,
}

impl Record {
    /// Nothing yet.
    pub(super) fn new(tells_faults: bool) -> Self {
        Self(Mutex::new(Kept {
            tells_faults,
            ..Kept::default()
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is over in which all was right.
    pub(super) fn session(&self) {
        self.kept().sessions += 1;
    }

    /// A file was compared and is whole.
    pub(super) fn file(&self, bytes: usize) {
        let mut kept = self.kept();
        kept.files += 1;
        kept.bytes += bytes as u64;
    }

    /// An attack was made.
    pub(super) fn attack(&self, name: &'static str) {
        *self.kept().attacks.entry(name).or_default() += 1;
    }

    /// A fault is made.
    pub(super) fn fault(&self, name: &'static str) {
        let mut kept = self.kept();
        if kept.tells_faults {
            say(&format!("soak: {}: {name}", clock()));
        }
        kept.faults.push((Instant::now(), name));
        let from = kept.faults.len().saturating_sub(TOLD);
        kept.faults.drain(..from);
    }

    /// Something does not hold.
    pub(super) fn violation(&self, what: String) {
        let mut kept = self.kept();
        let faults = kept.faults.iter();
        let before: Vec<_> = faults
            .map(|(at, name)| format!("{name} {} s before", at.elapsed().as_secs()))
            .collect();
        let what = format!("{what} ({})", before.join(", "));
        if kept.violations.len() < KEPT {
            say(&format!("soak: {}: does not hold: {what}", clock()));
            kept.violations.push(what);
        }
    }

    /// For so long, new connections may fail.
    pub(super) fn excuse(&self, how_long: Duration) {
        let until = Instant::now() + how_long;
        let mut kept = self.kept();
        kept.excused_until = kept.excused_until.max(Some(until));
    }

    /// A connection that was begun at `start` could not be made.
    pub(super) fn not_connected(&self, start: Instant, why: String) {
        let mut kept = self.kept();
        if kept.excused_until.is_some_and(|until| until > start) {
            kept.refused += 1;
            return;
        }
        drop(kept);
        self.violation(why);
    }

    /// All that did not hold.
    pub(super) fn violations(&self) -> Vec<String> {
        self.kept().violations.clone()
    }

    /// How much was done.
    pub(super) fn summary(&self) -> String {
        let kept = self.kept();
        format!(
            "{} sessions, {} files of {} MB whole, {} connections refused while an interface had \
             no programs, {} attacks, {} violations",
            kept.sessions,
            kept.files,
            kept.bytes >> 20,
            kept.refused,
            kept.attacks.values().sum::<u64>(),
            kept.violations.len()
        )
    }

    /// Each kind of attack, and how often it was made.
    pub(super) fn attacks(&self) -> String {
        let kept = self.kept();
        let all = kept.attacks.iter();
        let all: Vec<_> = all.map(|(name, count)| format!("{name} {count}")).collect();
        all.join(", ")
    }
}
