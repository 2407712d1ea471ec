//! What a capture holds besides control connections.

use std::collections::BTreeSet;

/// What was seen besides control connections.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) fragments: u64,
    pub(super) truncated: u64,
    /// Link types that are not known here, by number.
    pub(super) unknown_links: BTreeSet<i32>,
    pub(super) first: Option<u64>,
    pub(super) last: u64,
}
