//! What a sweep finds alive: sessions with a control connection, ports in use.

use std::collections::{HashMap, HashSet};

use ftp_nat_common::{
    abi::{Event, Flow, flow_flag, kind, share_of},
    wire::addr::{Addr, Endpoint},
};

use crate::model::flow::{self, Key, State, signs};

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
    /// Data connections, by their session and by the share that they count for if that is gone: the
    /// one of the end outside.
    pub(super) connections: HashMap<(u32, Addr), Both>,
    /// Data connections of which a direction has ended, by their outside and public ends.
    ending: HashMap<(Endpoint, Endpoint), Ending>,
    /// Entries that are left.
    pub(super) entries: Entries,
    /// Entries of connections that this pass has taken out.
    pub(super) ended: Entries,
}

/// A data connection of which a direction has ended.
#[derive(Default)]
struct Ending {
    session: u32,
    /// Of both directions.
    signs: [u8; 2],
}

/// Data connections that are alive, and those that this pass has ended.
#[derive(Default)]
pub(super) struct Both {
    pub(super) found: u32,
    pub(super) ended: u32,
}

/// Entries of tables.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) flows4: u64,
    pub(super) flows6: u64,
    pub(super) mappings: u64,
}

impl Alive {
    /// The data connections of a session with an end outside.
    fn connections(&mut self, session: u32, outside: &Addr) -> &mut Both {
        let of = (session, share_of(outside));
        self.connections.entry(of).or_default()
    }

    /// Notes a connection that has ended.
    pub(super) fn end(&mut self, event: &Event) {
        // Both directions.
        if event.peer.addr.is_v4() {
            self.ended.flows4 += 2;
        } else {
            self.ended.flows6 += 2;
        }
        if event.kind != kind::CONTROL {
            self.connections(event.session, &event.peer.addr).ended += 1;
        }
    }

    /// Has those that have ended take no room from their clients: they are known for some seconds more, for
    /// what TCP may repeat.
    pub(super) fn let_go_of_ended(&mut self) {
        for ((outside, _), ending) in std::mem::take(&mut self.ending) {
            let [one, other] = ending.signs;
            if !State::of(one, other).is_alive() {
                let both = self.connections(ending.session, &outside.addr);
                both.found = both.found.saturating_sub(1);
            }
        }
    }

    /// Notes what one direction of a live connection needs.
    pub(super) fn keep<K: Key>(&mut self, key: &K, flow: &Flow) {
        if flow.kind == kind::CONTROL {
            self.sessions.insert(flow.session);
        } else if !flow.is_outbound() {
            self.transfers.insert(flow.session);
        }
        let (outside, public) = flow::ends(key, flow);
        // One that was never used here takes its client's room where it is used.
        let is_elsewhere = flow.flags & flow_flag::LEARNED != 0 && flow.packets == 0;
        if flow.kind != kind::CONTROL && !is_elsewhere {
            if !flow.is_outbound() {
                self.connections(flow.session, &outside.addr).found += 1;
            }
            let signs = signs(flow);
            if signs & (State::ENDED | flow_flag::CUT) != 0 {
                let ending = self.ending.entry((outside, public)).or_default();
                ending.session = flow.session;
                ending.signs[usize::from(flow.is_outbound())] = signs;
            }
        }
        if outside.addr.is_v4() {
            self.entries.flows4 += 1;
        } else {
            self.entries.flows6 += 1;
        }
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
