//! What operators decide by command, and holds at all gateways of a cluster: who is denied, and which servers
//! of pools are drained.
//!
//! The latest decision about a network or a server counts, by the time of its command. Nobody is allowed this
//! way who was not before: what a configuration denies stays denied.

use super::{install::Outcome, record::Record};

/// Who keeps decisions: the daemon.
pub trait Decisions: Send + Sync {
    /// All that are known here: [`Record::Denied`] and [`Record::Drained`].
    fn all(&self) -> Vec<Record>;

    /// Takes over one that another gateway tells. It is in force soon, and nobody waits for that.
    fn take_over(&self, record: &Record) -> Outcome;
}
