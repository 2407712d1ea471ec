//! `ftp-nat mappings`: the announced connections that have not come yet.

use ftp_nat_common::abi::{Mapping, MappingKey};
use serde::Serialize;

use crate::{
    cli::ShowArgs,
    client::view::View,
    model::{flow::kind_name, mapping::ends},
    output::{
        columns::{Columns, Side},
        failure::Failure,
        human,
        print::{print, print_json},
        text::{address, end_text, port, session_name, tenths},
    },
};

/// A mapping, as JSON has it.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    gateway: String,
    kind: &'static str,
    /// Who may connect, or whom the server may connect to; none: anybody.
    peer: Option<String>,
    /// The port that the server connects to; none where the peer's port is not known before.
    peer_port: Option<u16>,
    public: Option<String>,
    public_port: Option<u16>,
    inside: Option<String>,
    inside_port: Option<u16>,
    session: String,
    age: f64,
    expires_in: f64,
}

/// Shows them.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut all = Vec::new();
    for loaded in &view.loaded {
        let mappings = loaded.maps.mappings.all().map_err(anyhow::Error::from)?;
        for (key, mapping) in mappings {
            // Those that have expired only wait for the sweep.
            if mapping.expires > view.now {
                all.push((loaded.gateway.name().to_owned(), key, mapping));
            }
        }
    }
    all.sort_by_key(|(_, _, mapping)| mapping.born);
    if args.json {
        let rows: Vec<_> = all
            .into_iter()
            .map(|(gateway, key, mapping)| row(&view, gateway, &key, &mapping))
            .collect();
        print_json(&rows)?;
    } else {
        print(&table(&view, &all))?;
    }
    Ok(())
}

fn row(view: &View, gateway: String, key: &MappingKey, mapping: &Mapping) -> Row {
    let [peer, public, inside] = ends(key, mapping);
    Row {
        gateway,
        kind: kind_name(mapping.kind),
        peer: address(peer.addr),
        peer_port: port(&peer),
        public: address(public.addr),
        public_port: port(&public),
        inside: address(inside.addr),
        inside_port: port(&inside),
        session: session_name(mapping.session),
        age: tenths(view.age(mapping.born)),
        expires_in: tenths(view.left(mapping.expires)),
    }
}

fn table(view: &View, all: &[(String, MappingKey, Mapping)]) -> String {
    if all.is_empty() {
        return "no mappings: nothing announced is waiting to be used\n".into();
    }
    let mut columns = Columns::new(&[
        ("KIND", Side::Left),
        ("PEER", Side::Left),
        ("PUBLIC", Side::Left),
        ("INSIDE", Side::Left),
        ("SESSION", Side::Left),
        ("AGE", Side::Right),
        ("LEFT", Side::Right),
    ]);
    for (_, key, mapping) in all {
        let [peer, public, inside] = ends(key, mapping);
        let peer = if peer.addr.is_none() {
            "anybody".into()
        } else {
            end_text(&peer)
        };
        columns.row(vec![
            kind_name(mapping.kind).into(),
            peer,
            end_text(&public),
            end_text(&inside),
            session_name(mapping.session),
            human::duration(view.age(mapping.born)),
            human::duration(view.left(mapping.expires)),
        ]);
    }
    columns.text()
}
