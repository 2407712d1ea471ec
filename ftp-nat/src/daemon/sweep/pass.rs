//! One pass of the sweep: what it reads, what it has found so far, and who is told what has ended.

use std::time::Duration;

use ftp_nat_common::abi::Event;

use super::{alive::Alive, lifetime::Lifetimes};
use crate::{
    daemon::occurrence::Detail, datapath::maps::Maps, kernel::clock::Clock, model::flow::State,
};

/// What a sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections that ended, by state: see [`State::ALL`].
    pub ended: [u64; State::ALL.len()],
    /// Mappings that nobody used in time.
    pub mappings_expired: u64,
    /// Mappings whose session ended.
    pub mappings_dropped: u64,
    /// Sessions whose control connection is gone.
    pub sessions: u64,
    /// Ports that are of no interest any more.
    pub ports: u64,
    /// Whether a client's share of a table is more than half full.
    pub is_share_tight: bool,
    /// How full the tables of sessions, mappings, and connections by IPv4 and IPv6 are.
    pub fills: [Fill; 4],
    /// How long it took.
    pub took: Duration,
}

/// How full a table is, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// What the sweep has found.
    pub found: u64,
    /// What of that it has left.
    pub left: u64,
    /// What the table has room for.
    pub room: u64,
}

/// Who is told what has ended: with its ends and, for a connection, how it ended.
pub type Publish<'p> = dyn FnMut(&Event, Detail) + 'p;

/// The pass.
pub(super) struct Pass<'p> {
    pub(super) maps: &'p Maps,
    pub(super) lifetimes: &'p Lifetimes,
    pub(super) clock: &'p Clock,
    /// When it began, in ticks.
    pub(super) now: u64,
    pub(super) alive: Alive,
    pub(super) report: Report,
    pub(super) publish: &'p mut Publish<'p>,
}
