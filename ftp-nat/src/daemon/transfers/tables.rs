//! What the gateway's tables know of sessions and data connections.

use std::sync::Arc;

use ftp_nat_common::abi::{Event, Flow, Session};

use crate::{datapath::maps::Maps, kernel::table::Table, model::flow::Key};

/// The two directions of a data connection, inbound and outbound; none: the gateway does not have it any
/// more.
pub(in crate::daemon) type Flows = Option<[Flow; 2]>;

/// What the gateway's tables know.
pub(in crate::daemon) trait Tables: Send {
    /// The session of this number.
    fn session(&self, number: u32) -> Option<Session>;
    /// The flows of a data connection, by the event that told its beginning.
    fn flows(&self, data: &Event) -> Flows;
}

/// The kernel's tables.
pub(in crate::daemon) struct Kernel(pub(in crate::daemon) Arc<Maps>);

impl Tables for Kernel {
    fn session(&self, number: u32) -> Option<Session> {
        self.0.sessions.get(&number).ok().flatten()
    }

    fn flows(&self, data: &Event) -> Flows {
        if data.peer.addr.is_v4() {
            both(&self.0.flows4, data)
        } else {
            both(&self.0.flows6, data)
        }
    }
}

fn both<K: Key>(table: &Table<K, Flow>, data: &Event) -> Flows {
    let key = K::new(&data.peer, &data.public);
    let inbound = table.get(&key).ok()??;
    let outbound = table.get(&key.other_way(&inbound)).ok()??;
    Some([inbound, outbound])
}
