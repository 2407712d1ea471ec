//! The connections in a gateway's maps.

use std::collections::HashMap;

use ftp_nat_common::{
    abi::{Flow, flow_flag},
    wire::addr::Endpoint,
};

use crate::{
    datapath::maps::Maps,
    kernel::table::Table,
    model::{
        connection::Connection,
        flow::{self, Key},
    },
};

/// All connections of a gateway.
///
/// # Errors
///
/// When a table cannot be read: see [`Table::each`].
pub fn of(maps: &Maps) -> anyhow::Result<Vec<Connection>> {
    let mut connections = joined(&maps.flows4)?;
    connections.extend(joined(&maps.flows6)?);
    connections.sort_by_key(|it| it.common().born);
    Ok(connections)
}

fn joined<K: Key>(table: &Table<K, Flow>) -> anyhow::Result<Vec<Connection>> {
    let mut found: HashMap<(Endpoint, Endpoint), Connection> = HashMap::new();
    table.each(|key, flow| {
        let (outside, public) = flow::ends(key, flow);
        let connection = found.entry((outside, public)).or_insert(Connection {
            outside,
            public,
            inside: Endpoint::default(),
            inbound: Flow::default(),
            outbound: Flow::default(),
        });
        if !flow.is_outbound() {
            connection.inside = flow.destination();
            connection.inbound = *flow;
        } else {
            if flow.flags & flow_flag::NO_NAT == 0 && connection.inside == Endpoint::default() {
                connection.inside = key.source();
            }
            connection.outbound = *flow;
        }
    })?;
    Ok(found.into_values().collect())
}
