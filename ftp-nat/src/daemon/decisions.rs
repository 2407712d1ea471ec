//! What operators decide by command, and the other gateways of a cluster take over.

use super::{health::Pools, lists::Lists};
use crate::cluster::{decisions::Decisions, install::Outcome, record::Record};

/// The deny list and the pools.
pub(super) struct Decided {
    /// This gateway's number.
    pub(super) node: u8,
    pub(super) lists: Lists,
    pub(super) pools: Pools,
}

impl Decisions for Decided {
    fn all(&self) -> Vec<Record> {
        let mut all = self.lists.told(self.node);
        all.extend(self.pools.told());
        all
    }

    fn take_over(&self, record: &Record) -> Outcome {
        match record {
            Record::Denied(record) => self.lists.take_over(record),
            Record::Drained(record) => self.pools.take_over(record),
            _ => Outcome::Stale,
        }
    }
}
