//! The control connections in a gateway's maps, with what their flows say of them.

use std::{collections::HashMap, net::IpAddr};

use ftp_nat_common::{
    abi::{Session, kind, role},
    wire::addr::Endpoint,
};

use super::view::Loaded;
use crate::{
    cli::filter::EndsFilter,
    model::{connection::Connection, flow::State},
    output::text::ip,
};

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

/// Which ends of connections may be their server's, where somebody asks for it: that depends on
/// the session's role, which flows and mappings do not have.
pub struct Servers(HashMap<u32, u8>);

impl Servers {
    /// Those of a gateway's sessions; of none, unless a filter asks for servers.
    ///
    /// # Errors
    ///
    /// When the sessions cannot be read: see [`crate::kernel::table::Table::each`].
    pub fn of(loaded: &Loaded, filter: &EndsFilter) -> anyhow::Result<Self> {
        let mut roles = HashMap::new();
        if !filter.server.is_empty() {
            loaded.maps.sessions.each(|number, session| {
                roles.insert(*number, session.role);
            })?;
        }
        Ok(Self(roles))
    }

    /// The ends of a connection or mapping of this session which may be the server's: both, where
    /// the session is not known any more.
    pub fn of_session(
        &self,
        session: u32,
        inside: Option<IpAddr>,
        outside: Option<IpAddr>,
    ) -> [Option<IpAddr>; 2] {
        match self.0.get(&session) {
            Some(&role::PUBLISH) => [inside, None],
            Some(_) => [outside, None],
            None => [inside, outside],
        }
    }

    /// The same of a connection.
    pub fn of_connection(&self, it: &Connection) -> [Option<IpAddr>; 2] {
        self.of_session(it.common().session, ip(it.inside.addr), ip(it.outside.addr))
    }
}

/// All sessions of a gateway, with what these connections say of them at `now`, in ticks.
///
/// # Errors
///
/// When the sessions cannot be read: see [`crate::kernel::table::Table::each`].
pub fn with(loaded: &Loaded, connections: &[Connection], now: u64) -> anyhow::Result<Vec<Shown>> {
    let traffic = traffic(connections, now);
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

fn traffic(connections: &[Connection], now: u64) -> HashMap<u32, Traffic> {
    let mut all: HashMap<u32, Traffic> = HashMap::new();
    for it in connections {
        let common = it.common();
        let traffic = all.entry(common.session).or_default();
        let state = it.state();
        if common.kind == kind::CONTROL {
            traffic.state = Some(state);
        } else if state.is_alive() {
            traffic.data += 1;
        }
        traffic.last_seen = traffic.last_seen.max(it.seen_at(now));
        traffic.bytes += it.inbound.bytes + it.outbound.bytes;
    }
    all
}
