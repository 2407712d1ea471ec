//! What a gateway of a cluster knows of itself and of the others, for operators and metrics.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// A gateway's view of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// This gateway's number.
    pub node: u8,
    /// Whether the engine is connected.
    pub is_connected: bool,
    /// Why not, as far as known.
    pub engine_error: Option<String>,
    /// Whether this gateway has all that the others know, and so may take over.
    pub is_ready: bool,
    /// Records that were written for the others.
    pub told: u64,
    /// Records of others that were taken over.
    pub installed: u64,
    /// Records of others that were older than what is here.
    pub stale: u64,
    /// Records of others that this gateway's own configuration does not allow.
    pub refused: u64,
    /// Records of others that are not understood.
    pub unknown: u64,
    /// Records of others for which there was no room.
    pub no_room: u64,
    /// Batches of others that never came; what they held was asked for again.
    pub lost: u64,
    /// Events of this gateway that came faster than they were told; all was told again.
    pub overflowed: u64,
    /// How often all was told.
    pub walks: u64,
    /// Whether another gateway has written under this one's number in the last seconds.
    pub is_doubled: bool,
    /// From an event's arrival at another gateway's daemon until what it tells was here, of the latest
    /// records: half of them came within this time, in seconds.
    pub delay_median: f64,
    /// And all but one in a hundred within this one.
    pub delay_p99: f64,
    /// By how many records that is known.
    pub delays: u64,
    /// The other gateways that were heard of since the start.
    pub peers: Vec<Peer>,
}

/// Another gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub node: u8,
    /// Whether it was heard of within the last second.
    pub is_alive: bool,
    /// Seconds since it was heard of.
    pub silent: f64,
    /// Seconds between writing and reading of its last batch, by both gateways' clocks: delay and
    /// difference of the clocks together.
    pub lag: f64,
    /// Whether all that it has is here.
    pub is_caught_up: bool,
    /// Whether what must be the same in both configurations is.
    pub has_same_config: bool,
    /// Whether another gateway writes under the same number.
    pub is_doubled: bool,
    /// A published address that it has, and this gateway too.
    pub shares_address: Option<IpAddr>,
    /// By how many seconds this gateway's clock is ahead of its, and the shortest delay of late: a
    /// thousandth, where the clocks agree.
    pub clock: f64,
}

/// [`Status`], shared by who keeps it and who shows it.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Status>);

impl Shared {
    /// A copy.
    pub fn get(&self) -> Status {
        self.lock().clone()
    }

    /// Changes it.
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
