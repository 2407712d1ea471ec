//! `ftp-nat flows`: all connections, each as one line made of its two directions.

use ftp_nat_common::abi::Flow;
use serde::Serialize;

use crate::{
    cli::ShowArgs,
    client::{connections, view::View},
    model::{
        connection::Connection,
        flow::{State, kind_name},
    },
    output::{
        columns::{Columns, Side},
        failure::Failure,
        human,
        print::{print, print_json},
        text::{address, end_text, port, session_name, tenths},
    },
};

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
        found.extend(
            connections::of(&loaded.maps)?
                .into_iter()
                .map(|it| (name, it)),
        );
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
