//! What a sweep finds alive: sessions with a control connection, ports in use.

use std::collections::HashSet;

use ftp_nat_common::abi::{Flow, kind};

use crate::model::flow::{self, Key};

/// Ports in use.
pub(super) struct PortSet(Vec<u64>);

impl Default for PortSet {
    fn default() -> Self {
        Self(vec![0; 65536 / 64])
    }
}

impl PortSet {
    pub(super) fn add(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    pub(super) fn has(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] & 1 << (port % 64) != 0
    }
}

/// What is found alive on the way.
#[derive(Default)]
pub(super) struct Alive {
    /// The public, inside and announced ports of live connections and mappings.
    pub(super) ports: PortSet,
    /// Sessions that have a control connection.
    pub(super) sessions: HashSet<u32>,
    /// Sessions that have a data connection.
    pub(super) transfers: HashSet<u32>,
}

impl Alive {
    /// Notes what one direction of a live connection needs.
    pub(super) fn keep<K: Key>(&mut self, key: &K, flow: &Flow) {
        if flow.kind == kind::CONTROL {
            self.sessions.insert(flow.session);
        } else if !flow.is_outbound() {
            self.transfers.insert(flow.session);
        }
        let (outside, public) = flow::ends(key, flow);
        self.ports.add(public.port.number());
        let inside = if !flow.is_outbound() {
            flow.ports.destination()
        } else {
            key.source().port
        };
        self.ports.add(inside.number());
        // The port that the server dials is the client's: that one was announced.
        if flow.kind == kind::ACTIVE {
            self.ports.add(outside.port.number());
            let alias = if flow.is_outbound() {
                key.destination().port
            } else {
                flow.ports.source()
            };
            self.ports.add(alias.number());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_set_holds_every_port() {
        let mut set = PortSet::default();
        for port in [0, 1, 63, 64, 21, 65535] {
            assert!(!set.has(port));
            set.add(port);
            assert!(set.has(port));
        }
        assert!(!set.has(22));
    }
}
