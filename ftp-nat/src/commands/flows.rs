//! `ftp-nat flows`: all connections, each as one line made of its two directions.

use ftp_nat_common::abi::Flow;
use serde::Serialize;

use super::listing::Listing;
use crate::{
    cli::FlowsArgs,
    client::{connections, sessions::Servers, view::View},
    model::{
        connection::Connection,
        flow::{State, kind_name},
    },
    output::{
        columns::Side,
        failure::Failure,
        human,
        text::{address, end_text, ip, port, session_name, tenths},
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

/// A connection and the name of its gateway.
type Found<'v> = (&'v str, Connection);

/// Shows them.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &FlowsArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut found: Vec<Found<'_>> = Vec::new();
    for loaded in &view.loaded {
        let servers = Servers::of(loaded, &args.ends)?;
        let connections = connections::of(&loaded.maps)?;
        let wanted = connections.into_iter().filter(|it| {
            let common = it.common();
            args.ends
                .admits(ip(it.outside.addr), &servers.of_connection(it))
                && args.state.admits(Some(it.state()))
                && args.kind.admits(kind_name(common.kind))
                && args.session.admits(Some(&session_name(common.session)))
                && args.since.admits_age(view.age(common.born))
        });
        found.extend(wanted.map(|it| (loaded.gateway.name(), it)));
    }
    let listing = Listing {
        headings: &HEADINGS,
        cells: &|(_, it): &Found<'_>| cells(&view, it),
        row: &|(name, it): &Found<'_>| row(&view, name, it),
        none: "no connections",
    };
    listing.print(&args.form, &found)
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
        idle: tenths(view.age(it.seen_at(view.now))),
        inbound: Way::from(&it.inbound),
        outbound: Way::from(&it.outbound),
    }
}

const HEADINGS: [(&str, Side); 9] = [
    ("SESSION", Side::Left),
    ("KIND", Side::Left),
    ("STATE", Side::Left),
    ("OUTSIDE", Side::Left),
    ("PUBLIC", Side::Left),
    ("INSIDE", Side::Left),
    ("IN", Side::Right),
    ("OUT", Side::Right),
    ("IDLE", Side::Right),
];

fn cells(view: &View, it: &Connection) -> Vec<String> {
    let common = it.common();
    vec![
        session_name(common.session),
        kind_name(common.kind).into(),
        it.state().name().into(),
        end_text(&it.outside),
        end_text(&it.public),
        end_text(&it.inside),
        human::bytes(it.inbound.bytes),
        human::bytes(it.outbound.bytes),
        human::duration(view.age(it.seen_at(view.now))),
    ]
}
