//! `ftp-nat flows`: all connections, each as one line made of its two directions.

use std::collections::HashMap;

use ftp_nat_common::{
    abi::{Flow, flow_flag, side},
    wire::addr::Endpoint,
};
use serde::Serialize;

use super::{
    View, address,
    columns::{Columns, Side},
    end_text, human, port, print, print_json, session_name, tenths,
};
use crate::{
    cli::ShowArgs,
    exit::Failure,
    flow::{self, Key, State, kind_name},
    maps::Maps,
    table::Table,
};

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) outside: Endpoint,
    pub(crate) public: Endpoint,
    /// Zero where the kernel's own NAT knows it alone.
    pub(crate) inside: Endpoint,
    /// The direction from outside to inside.
    pub(crate) inbound: Flow,
    /// The direction from inside to outside.
    pub(crate) outbound: Flow,
}

impl Connection {
    pub(crate) fn state(&self) -> State {
        State::of(self.inbound.tcp_flags, self.outbound.tcp_flags)
    }

    pub(crate) fn last_seen(&self) -> u64 {
        self.inbound.last_seen.max(self.outbound.last_seen)
    }

    /// What both directions have in common, from whichever is there.
    pub(crate) fn common(&self) -> &Flow {
        if self.inbound.kind == 0 {
            &self.outbound
        } else {
            &self.inbound
        }
    }
}

/// All connections of a gateway.
///
/// # Errors
///
/// What the kernel said.
pub(crate) fn all(maps: &Maps) -> anyhow::Result<Vec<Connection>> {
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
        if flow.side() == side::INBOUND {
            connection.inside = Endpoint::new(flow.to, flow.port);
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

/// One direction, as JSON has it.
#[derive(Debug, PartialEq, Serialize)]
struct Way {
    packets: u64,
    bytes: u64,
    /// `redirect` or `stack`.
    path: &'static str,
}

impl From<&Flow> for Way {
    fn from(flow: &Flow) -> Self {
        Self {
            packets: flow.packets,
            bytes: flow.bytes,
            path: if flow.out_ifindex == 0 {
                "stack"
            } else {
                "redirect"
            },
        }
    }
}

/// A connection, as JSON has it.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    gateway: String,
    kind: &'static str,
    state: State,
    outside: Option<String>,
    outside_port: Option<u16>,
    public: Option<String>,
    public_port: Option<u16>,
    inside: Option<String>,
    inside_port: Option<u16>,
    session: String,
    age: f64,
    idle: f64,
    inbound: Way,
    outbound: Way,
}

/// Shows them.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut found = Vec::new();
    for loaded in &view.loaded {
        let name = loaded.gateway.name();
        found.extend(all(&loaded.maps)?.into_iter().map(|it| (name, it)));
    }
    if args.json {
        let rows: Vec<_> = found
            .iter()
            .map(|(name, it)| row(&view, name, it))
            .collect();
        print_json(&rows)?;
    } else {
        print(&table(&view, &found))?;
    }
    Ok(())
}

fn row(view: &View, gateway: &str, it: &Connection) -> Row {
    let common = it.common();
    Row {
        gateway: gateway.to_owned(),
        kind: kind_name(common.kind),
        state: it.state(),
        outside: address(it.outside.addr),
        outside_port: port(&it.outside),
        public: address(it.public.addr),
        public_port: port(&it.public),
        inside: address(it.inside.addr),
        inside_port: port(&it.inside),
        session: session_name(common.session),
        age: tenths(view.age(common.born)),
        idle: tenths(view.age(it.last_seen())),
        inbound: Way::from(&it.inbound),
        outbound: Way::from(&it.outbound),
    }
}

fn table(view: &View, found: &[(&str, Connection)]) -> String {
    if found.is_empty() {
        return "no connections\n".into();
    }
    let mut columns = Columns::new(&[
        ("KIND", Side::Left),
        ("STATE", Side::Left),
        ("OUTSIDE", Side::Left),
        ("PUBLIC", Side::Left),
        ("INSIDE", Side::Left),
        ("IN", Side::Right),
        ("OUT", Side::Right),
        ("IDLE", Side::Right),
    ]);
    for (_, it) in found {
        columns.row(vec![
            kind_name(it.common().kind).into(),
            it.state().name().into(),
            end_text(&it.outside),
            end_text(&it.public),
            end_text(&it.inside),
            human::bytes(it.inbound.bytes),
            human::bytes(it.outbound.bytes),
            human::duration(view.age(it.last_seen())),
        ]);
    }
    columns.text()
}
