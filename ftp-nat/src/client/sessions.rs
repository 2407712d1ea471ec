//! The control connections in a gateway's maps, with what their flows say of them.

use std::collections::HashMap;

use ftp_nat_common::{
    abi::{Session, kind, role},
    wire::addr::Endpoint,
};

use super::view::Loaded;
use crate::model::{connection::Connection, flow::State};

/// What flows say of a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// The control connection's state; none when it is gone.
    pub state: Option<State>,
    /// When the last packet of any of its connections was seen, in ticks.
    pub last_seen: u64,
    /// Data connections that are alive.
    pub data: u64,
    /// Bytes of all its live connections, both directions, from the IP header on.
    pub bytes: u64,
}

/// A session and its traffic.
pub struct Shown {
    /// The gateway's name.
    pub gateway: String,
    /// Its number.
    pub number: u32,
    /// The datapath's record of it.
    pub session: Session,
    /// What its connections say.
    pub traffic: Traffic,
}

impl Shown {
    /// The client's end.
    pub fn client(&self) -> &Endpoint {
        if self.session.role == role::PUBLISH {
            &self.session.outside
        } else {
            &self.session.inside
        }
    }

    /// The server's end.
    pub fn server(&self) -> &Endpoint {
        if self.session.role == role::PUBLISH {
            &self.session.inside
        } else {
            &self.session.outside
        }
    }

    /// How far it is, in a word.
    pub fn state(&self) -> &'static str {
        match self.traffic.state {
            None => "gone",
            Some(State::Established) if self.encrypted() => "tls",
            Some(state) => state.name(),
        }
    }

    /// Whether its replies are encrypted now.
    pub fn encrypted(&self) -> bool {
        self.session.answered.encrypted != 0
    }
}

/// All sessions of a gateway, with what these connections say of them.
///
/// # Errors
///
/// When the sessions cannot be read: see [`crate::kernel::table::Table::each`].
pub fn with(loaded: &Loaded, connections: &[Connection]) -> anyhow::Result<Vec<Shown>> {
    let traffic = traffic(connections);
    let sessions = loaded.maps.sessions.all()?;
    Ok(sessions
        .into_iter()
        .map(|(number, session)| Shown {
            gateway: loaded.gateway.name().to_owned(),
            number,
            session,
            traffic: traffic.get(&number).copied().unwrap_or_default(),
        })
        .collect())
}

fn traffic(connections: &[Connection]) -> HashMap<u32, Traffic> {
    let mut all: HashMap<u32, Traffic> = HashMap::new();
    for it in connections {
        let common = it.common();
        let traffic = all.entry(common.session).or_default();
        let state = it.state();
        if common.kind == kind::CONTROL {
            traffic.state = Some(state);
        } else if !matches!(state, State::Closed | State::Reset) {
            traffic.data += 1;
        }
        traffic.last_seen = traffic.last_seen.max(it.last_seen());
        traffic.bytes += it.inbound.bytes + it.outbound.bytes;
    }
    all
}
