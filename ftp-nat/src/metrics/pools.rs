//! The servers of pools.

use anyhow::Context as _;
use ftp_nat_common::{
    abi::{PublishKey, health},
    wire::addr::Endpoint,
};

use super::family::{Family, Kind};
use crate::datapath::{maps::Maps, pools::sessions_of_servers};

/// All of it; nothing where there are no pools.
///
/// # Errors
///
/// When a table cannot be read: see [`crate::kernel::table::Table::each`].
pub(super) fn families(maps: &Maps) -> anyhow::Result<Vec<Family>> {
    let pools = maps.pools.all().context("cannot read the pools")?;
    if pools.is_empty() {
        return Ok(Vec::new());
    }
    let sessions = sessions_of_servers(&maps.sessions).context("cannot count the sessions")?;
    let mut up = Family::new(
        "pool_server_up",
        Kind::Gauge,
        "Whether a server of a pool passes its checks, or was not checked yet",
    );
    let mut draining = Family::new(
        "pool_server_draining",
        Kind::Gauge,
        "Whether an operator drains a server of a pool",
    );
    let mut living = Family::new(
        "pool_server_sessions",
        Kind::Gauge,
        "Sessions of a server of a pool",
    );
    let mut pools: Vec<_> = pools.into_iter().collect();
    pools.sort_unstable_by_key(|(public, _)| (public.addr.to_ip(), public.port.number()));
    for (public, pool) in &pools {
        let PublishKey { addr, port, .. } = *public;
        let public = Endpoint::new(addr, port);
        for it in pool.all() {
            let labels = [public.to_string(), it.server.to_string()];
            let labels = [("public", &*labels[0]), ("server", &*labels[1])];
            up.add(&labels, f64::from(u8::from(it.health != health::DOWN)));
            draining.add(&labels, f64::from(it.draining));
            let sessions = sessions.get(&(public, it.server)).copied().unwrap_or(0);
            living.add(&labels, sessions as f64);
        }
    }
    Ok(vec![up, draining, living])
}
