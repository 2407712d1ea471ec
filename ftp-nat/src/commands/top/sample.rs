//! What the maps hold at one moment.

use std::{path::Path, time::Instant};

use ftp_nat_common::{
    abi::{Count, REVERSED, cluster, kind},
    counter::Counter,
    wire::addr::Endpoint,
};

use crate::{
    client::{
        call, connections, sessions,
        view::{Loaded, View},
    },
    cluster::status::Status,
    model::{
        connection::Connection,
        flow::{State, kind_name},
        mapping,
    },
    output::text::end_text,
};

/// A data connection.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    /// What identifies it, among all that were and will be.
    pub id: Id,
    pub session: u32,
    pub kind: &'static str,
    pub state: &'static str,
    /// Whether its ends still use it.
    pub is_alive: bool,
    pub outside: String,
    pub public: String,
    pub inside: String,
    /// Bytes from outside.
    pub inward: u64,
    /// Bytes from inside.
    pub outward: u64,
    pub age: f64,
}

/// A connection's outside end, public end, and when it was made: ports are used again.
pub(super) type Id = (Endpoint, Endpoint, u64);

/// A control connection and what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub number: u32,
    pub client: String,
    pub public: String,
    pub server: String,
    pub state: &'static str,
    /// Whether its ends still use its control connection.
    pub is_alive: bool,
    /// Live data connections.
    pub data: u64,
    /// Of its connections, both directions.
    pub bytes: u64,
    pub age: f64,
    pub idle: f64,
}

/// An announced connection that has not come.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub kind: &'static str,
    pub peer: String,
    pub public: String,
    pub inside: String,
    pub left: f64,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub when: Instant,
    /// The gateways' names, each with its daemon's process.
    pub gateways: Vec<(String, Option<u32>)>,
    /// What those of them that share their sessions with others know of these.
    pub clusters: Vec<Status>,
    pub transfers: Vec<Transfer>,
    pub sessions: Vec<Session>,
    pub openings: Vec<Opening>,
    /// In the order of [`Counter::ALL`].
    pub counts: Vec<Count>,
    /// Live connections, and room for them.
    pub connections: (u64, u64),
    /// How full each table is.
    pub tables: Vec<Fill>,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub name: &'static str,
    /// Entries that are there.
    pub count: u64,
    /// Entries that there is room for.
    pub room: u64,
}

impl Sample {
    /// What there is now.
    ///
    /// # Errors
    ///
    /// When a table cannot be read: see [`crate::kernel::table::Table::each`].
    pub fn of(view: &View, state_dir: &Path) -> anyhow::Result<Self> {
        let mut sample = Self {
            when: Instant::now(),
            gateways: Vec::new(),
            clusters: Vec::new(),
            transfers: Vec::new(),
            sessions: Vec::new(),
            openings: Vec::new(),
            counts: vec![Count::default(); Counter::ALL.len()],
            connections: (0, 0),
            tables: Vec::new(),
        };
        for loaded in &view.loaded {
            sample.add(view, loaded)?;
            let is_shared = loaded.maps.settings()?.cluster & cluster::SHARED != 0;
            if is_shared && loaded.daemon.is_some() {
                let known = call::cluster(&loaded.gateway, state_dir);
                sample.clusters.extend(known);
            }
        }
        Ok(sample)
    }

    fn add(&mut self, view: &View, loaded: &Loaded) -> anyhow::Result<()> {
        let maps = &loaded.maps;
        let daemon = loaded.daemon.as_ref().map(|daemon| daemon.pid);
        self.gateways
            .push((loaded.gateway.name().to_owned(), daemon));
        let connections = connections::of(maps)?;
        let over_v4 = connections.iter().filter(|it| it.outside.addr.is_v4());
        let over_v4 = over_v4.count();
        // Two entries a connection.
        for (name, count, table) in [
            ("connections, IPv4", over_v4, maps.flows4.room()?),
            (
                "connections, IPv6",
                connections.len() - over_v4,
                maps.flows6.room()?,
            ),
        ] {
            self.fill(name, count, table / 2);
            self.connections.1 += u64::from(table / 2);
        }
        let alive = connections.iter().filter(|it| it.state().is_alive());
        self.connections.0 += alive.count() as u64;
        let data = connections
            .iter()
            .filter(|it| it.common().kind != kind::CONTROL);
        self.transfers.extend(data.map(|it| transfer(view, it)));
        let sessions = sessions::with(loaded, &connections, view.now)?;
        self.fill("sessions", sessions.len(), maps.sessions.room()?);
        for it in sessions {
            self.sessions.push(Session {
                number: it.number,
                client: end_text(it.client()),
                public: end_text(&it.session.public),
                server: end_text(it.server()),
                state: it.state(),
                is_alive: it.traffic.state.is_some_and(State::is_alive),
                data: it.traffic.data,
                bytes: it.traffic.bytes,
                age: view.age(it.session.born),
                idle: view.age(it.traffic.last_seen.max(it.session.born)),
            });
        }
        let mappings = maps.mappings.all()?;
        self.fill("mappings", mappings.len(), maps.mappings.room()?);
        for (key, mapping) in mappings {
            // Those that have expired only wait for the sweep; and one that was learned is there twice.
            if mapping.expires <= view.now || key.side & REVERSED != 0 {
                continue;
            }
            let [peer, public, inside] = mapping::ends(&key, &mapping);
            self.openings.push(Opening {
                kind: kind_name(mapping.kind),
                peer: if peer.addr.is_none() {
                    "anybody".into()
                } else {
                    end_text(&peer)
                },
                public: end_text(&public),
                inside: end_text(&inside),
                left: view.left(mapping.expires),
            });
        }
        for (sum, count) in self.counts.iter_mut().zip(maps.counters()?) {
            sum.packets = sum.packets.wrapping_add(count.packets);
            sum.bytes = sum.bytes.wrapping_add(count.bytes);
        }
        Ok(())
    }

    fn fill(&mut self, name: &'static str, count: usize, room: u32) {
        self.tables.push(Fill {
            name,
            count: count as u64,
            room: room.into(),
        });
    }

    /// The table that is the fullest for its size.
    pub fn fullest(&self) -> Option<Fill> {
        let share = |it: &Fill| it.count as f64 / it.room.max(1) as f64;
        let tables = self.tables.iter().copied();
        tables.max_by(|a, b| share(a).total_cmp(&share(b)))
    }

    /// The sum of all counters of a family: packets and bytes.
    pub fn family(&self, name: &str) -> Count {
        let its = Counter::ALL.iter().zip(&self.counts);
        its.filter(|(counter, _)| counter.description().family == name)
            .fold(Count::default(), |sum, (_, count)| Count {
                packets: sum.packets.wrapping_add(count.packets),
                bytes: sum.bytes.wrapping_add(count.bytes),
            })
    }
}

fn transfer(view: &View, it: &Connection) -> Transfer {
    let common = it.common();
    Transfer {
        id: (it.outside, it.public, common.born),
        session: common.session,
        kind: kind_name(common.kind),
        state: it.state().name(),
        is_alive: it.state().is_alive(),
        outside: end_text(&it.outside),
        public: end_text(&it.public),
        inside: end_text(&it.inside),
        inward: it.inbound.bytes,
        outward: it.outbound.bytes,
        age: view.age(common.born),
    }
}
