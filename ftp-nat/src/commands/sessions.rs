//! `ftp-nat sessions`: the control connections.

use ftp_nat_common::abi::{role, session_flag};
use serde::Serialize;

use super::listing::Listing;
use crate::{
    cli::SessionsArgs,
    client::{
        connections,
        sessions::{Shown, with},
        view::View,
    },
    model::flow::State,
    output::{
        columns::Side,
        failure::Failure,
        human,
        text::{address, end_text, ip, port, session_name, tenths},
    },
};

/// A session, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    session: String,
    role: &'static str,
    client: Option<String>,
    client_port: Option<u16>,
    public: Option<String>,
    public_port: Option<u16>,
    server: Option<String>,
    server_port: Option<u16>,
    advertise: Option<String>,
    control_nat: &'static str,
    /// None once the control connection is gone.
    state: Option<State>,
    encrypted: bool,
    age: f64,
    idle: f64,
    commands: u32,
    replies: u32,
    /// PASV and EPSV so far.
    passive_commands: u32,
    data_connections: u64,
    /// Of the connections that are alive, control and data, both directions.
    bytes: u64,
}

/// Shows them.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &SessionsArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut found = Vec::new();
    for loaded in &view.loaded {
        found.extend(with(loaded, &connections::of(&loaded.maps)?, view.now)?);
    }
    found.retain(|shown| {
        let [peer, server] = [&shown.session.outside, shown.server()].map(|end| ip(end.addr));
        args.ends.admits(peer, &[server])
            && args.state.admits(shown.traffic.state)
            && args.since.admits_age(view.age(shown.session.born))
    });
    found.sort_by_key(|shown| shown.session.born);
    let listing = Listing {
        headings: &HEADINGS,
        cells: &|shown| cells(&view, shown),
        row: &|shown| row(&view, shown),
        none: "no sessions",
    };
    listing.print(&args.form, &found)
}

fn row(view: &View, shown: &Shown) -> Row {
    let Shown {
        session, traffic, ..
    } = shown;
    let (client, server) = (shown.client(), shown.server());
    Row {
        gateway: shown.gateway.clone(),
        session: session_name(shown.number),
        role: if session.role == role::PUBLISH {
            "publish"
        } else {
            "masquerade"
        },
        client: address(client.addr),
        client_port: port(client),
        public: address(session.public.addr),
        public_port: port(&session.public),
        server: address(server.addr),
        server_port: port(server),
        advertise: address(session.advertise),
        control_nat: if session.flags & session_flag::KERNEL_NAT != 0 {
            "kernel"
        } else if session.flags & session_flag::LOCAL != 0 {
            "none"
        } else {
            "ebpf"
        },
        state: traffic.state,
        encrypted: shown.encrypted(),
        age: tenths(view.age(session.born)),
        idle: tenths(view.age(traffic.last_seen.max(session.born))),
        commands: session.asked.commands,
        replies: session.answered.replies,
        passive_commands: session.asked.passive,
        data_connections: traffic.data,
        bytes: traffic.bytes,
    }
}

const HEADINGS: [(&str, Side); 9] = [
    ("SESSION", Side::Left),
    ("CLIENT", Side::Left),
    ("PUBLIC", Side::Left),
    ("SERVER", Side::Left),
    ("STATE", Side::Left),
    ("DATA", Side::Right),
    ("BYTES", Side::Right),
    ("AGE", Side::Right),
    ("IDLE", Side::Right),
];

fn cells(view: &View, shown: &Shown) -> Vec<String> {
    vec![
        session_name(shown.number),
        end_text(shown.client()),
        end_text(&shown.session.public),
        end_text(shown.server()),
        shown.state().into(),
        shown.traffic.data.to_string(),
        human::bytes(shown.traffic.bytes),
        human::duration(view.age(shown.session.born)),
        human::duration(view.age(shown.traffic.last_seen.max(shown.session.born))),
    ]
}
