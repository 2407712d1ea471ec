//! Connections whose packets no longer pass: their flows, found by their ends.

use std::io;

use anyhow::Context as _;
use ftp_nat_common::abi::{Flow, FlowKey4, FlowKey6, flow_flag};

use super::maps::Maps;
use crate::{
    kernel::table::Table,
    model::{connection::Connection, flow::Key},
};

/// A connection's flows: from outside and from inside, as far as they are there.
pub type Directions = [Option<Flow>; 2];

/// Lets no more packets of a connection pass; what its ends acknowledge is still noted.
///
/// # Errors
///
/// When a table cannot be read or written.
pub fn cut(maps: &Maps, it: &Connection) -> io::Result<()> {
    change(maps, it, |flow| {
        flow.flags = flow.flags & !flow_flag::XDP | flow_flag::CUT;
    })
}

/// Takes back what sessions have announced and nobody has come for.
///
/// # Errors
///
/// When the table cannot be read or written.
pub fn forget_mappings(maps: &Maps, is_theirs: impl Fn(u32) -> bool) -> anyhow::Result<()> {
    let mappings = maps.mappings.all().context("cannot read the mappings")?;
    for (key, mapping) in mappings {
        if is_theirs(mapping.session) {
            maps.mappings
                .delete(&key)
                .context("cannot delete a mapping")?;
        }
    }
    Ok(())
}

/// The flows of a connection that are there.
///
/// # Errors
///
/// When a table cannot be read or written.
pub fn directions(maps: &Maps, it: &Connection) -> io::Result<Directions> {
    fn of<K: Key>(table: &Table<K, Flow>, it: &Connection) -> io::Result<Directions> {
        let mut directions = [None; 2];
        for (flow, key) in directions.iter_mut().zip(keys::<K>(it)) {
            *flow = table.get(&key)?;
        }
        Ok(directions)
    }
    if it.outside.addr.is_v4() {
        of::<FlowKey4>(&maps.flows4, it)
    } else {
        of::<FlowKey6>(&maps.flows6, it)
    }
}

/// Changes both flows of a connection, those that are still there.
///
/// # Errors
///
/// When a table cannot be read or written.
pub fn change(maps: &Maps, it: &Connection, change: impl Fn(&mut Flow)) -> io::Result<()> {
    fn of<K: Key>(
        table: &Table<K, Flow>,
        it: &Connection,
        change: impl Fn(&mut Flow),
    ) -> io::Result<()> {
        for key in keys::<K>(it) {
            if let Some(mut flow) = table.get(&key)? {
                change(&mut flow);
                table.replace(&key, &flow)?;
            }
        }
        Ok(())
    }
    if it.outside.addr.is_v4() {
        of::<FlowKey4>(&maps.flows4, it, change)
    } else {
        of::<FlowKey6>(&maps.flows6, it, change)
    }
}

/// The keys of a connection's flows: from outside and from inside.
fn keys<K: Key>(it: &Connection) -> [K; 2] {
    let inbound = K::new(&it.outside, &it.public);
    let outbound = if it.inbound.kind == 0 {
        K::new(&it.inside, &it.outside)
    } else {
        inbound.other_way(&it.inbound)
    };
    [inbound, outbound]
}
