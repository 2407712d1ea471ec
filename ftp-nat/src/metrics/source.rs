//! Where the metrics of a running daemon come from.

use std::sync::Arc;

use super::{
    cluster,
    daemon::{self, Checks, Losses, Reloads, Repairs, Sweeps},
    datapath::families,
    family::Family,
    text::text,
    transfers::Transfers,
};
use crate::{cluster::status::Shared, datapath::maps::Maps};

/// Where the daemon's metrics come from.
#[derive(Clone)]
pub struct Source {
    maps: Arc<Maps>,
    sweeps: Sweeps,
    losses: Arc<Losses>,
    reloads: Arc<Reloads>,
    repairs: Arc<Repairs>,
    checks: Arc<Checks>,
    cluster: Option<Arc<Shared>>,
    transfers: Arc<Transfers>,
}

impl Source {
    /// From these maps and sweeps.
    pub fn new(maps: Arc<Maps>, sweeps: Sweeps, losses: Arc<Losses>) -> Self {
        Self {
            maps,
            sweeps,
            losses,
            reloads: Arc::default(),
            repairs: Arc::default(),
            checks: Arc::default(),
            cluster: None,
            transfers: Arc::default(),
        }
    }

    /// With what is known of the cluster.
    pub fn with_cluster(mut self, cluster: Option<Arc<Shared>>) -> Self {
        self.cluster = cluster;
        self
    }

    /// With the transfers that are told.
    pub fn with_transfers(mut self, transfers: Arc<Transfers>) -> Self {
        self.transfers = transfers;
        self
    }

    /// What became of the configuration's reloads.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// What was repaired.
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// What came of the checks of pools' servers.
    pub fn checks(&self) -> &Arc<Checks> {
        &self.checks
    }

    /// The metrics as text.
    ///
    /// # Errors
    ///
    /// As [`Self::families`].
    pub fn text(&self) -> anyhow::Result<String> {
        text(&self.families()?)
    }

    /// The metrics.
    ///
    /// # Errors
    ///
    /// When a table cannot be read: see [`crate::kernel::table::Table::each`].
    pub fn families(&self) -> anyhow::Result<Vec<Family>> {
        let mut all = families(&self.maps)?;
        all.extend(daemon::families(
            &self.sweeps.totals(),
            &self.losses,
            &self.reloads,
            &self.repairs,
            &self.checks,
        ));
        all.extend(self.transfers.families());
        if let Some(cluster) = &self.cluster {
            all.extend(cluster::families(&cluster.get()));
        }
        Ok(all)
    }
}
