//! What operators decide by command, and holds at all gateways of a cluster: who is denied, and which servers
//! of pools are drained.
//!
//! The latest decision about a network or a server counts, by the time of its command. Nobody is allowed this
//! way who was not before: what a configuration denies stays denied.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{install::Outcome, record::Record};
use crate::config::check::NODES;

/// A decision from further in the future is refused: no two clocks differ so much.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// The time, in microseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// Whether a gateway can have this number, and its operator have decided then: in microseconds since 1970.
pub fn can_be(node: u8, time: u64) -> bool {
    let ahead = u64::try_from(AHEAD.as_micros()).unwrap_or(u64::MAX);
    (1..=NODES).contains(&node) && time <= now().saturating_add(ahead)
}

/// Who keeps decisions: the daemon.
pub trait Decisions: Send + Sync {
    /// All that are known here: [`Record::Denied`] and [`Record::Drained`].
    fn all(&self) -> Vec<Record>;

    /// Takes over one that another gateway tells. It is in force soon, and nobody waits for that.
    fn take_over(&self, record: &Record) -> Outcome;
}
