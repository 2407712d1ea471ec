//! `ftp-nat mappings`: the announced connections that have not come yet.

use ftp_nat_common::abi::{Mapping, MappingKey, REVERSED};
use serde::Serialize;

use super::listing::Listing;
use crate::{
    cli::MappingsArgs,
    client::{sessions::Servers, view::View},
    model::{flow::kind_name, mapping::ends},
    output::{
        columns::Side,
        failure::Failure,
        human,
        text::{address, end_text, ip, port, session_name, tenths},
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

/// A mapping with its key and the name of its gateway.
type Found<'v> = (&'v str, MappingKey, Mapping);

/// Shows them.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &MappingsArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let mut found: Vec<Found<'_>> = Vec::new();
    for loaded in &view.loaded {
        let servers = Servers::of(loaded, &args.ends)?;
        let mappings = loaded.maps.mappings.all().map_err(anyhow::Error::from)?;
        let wanted = mappings.into_iter().filter(|(key, mapping)| {
            let [peer, _, inside] = ends(key, mapping).map(|end| ip(end.addr));
            // Those that have expired only wait for the sweep; and one that was learned is there twice.
            mapping.expires > view.now
                && key.side & REVERSED == 0
                && args
                    .ends
                    .admits(peer, &servers.of_session(mapping.session, inside, peer))
                && args.kind.admits(kind_name(mapping.kind))
                && args.session.admits(Some(&session_name(mapping.session)))
                && args.since.admits_age(view.age(mapping.born))
        });
        found.extend(wanted.map(|(key, mapping)| (loaded.gateway.name(), key, mapping)));
    }
    found.sort_by_key(|(_, _, mapping)| mapping.born);
    let listing = Listing {
        headings: &HEADINGS,
        cells: &|found| cells(&view, found),
        row: &|found| row(&view, found),
        none: "no mappings: nothing announced is waiting to be used",
    };
    listing.print(&args.form, &found)
}

fn row(view: &View, (gateway, key, mapping): &Found<'_>) -> Row {
    let [peer, public, inside] = ends(key, mapping);
    Row {
        gateway: (*gateway).to_owned(),
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

const HEADINGS: [(&str, Side); 7] = [
    ("KIND", Side::Left),
    ("PEER", Side::Left),
    ("PUBLIC", Side::Left),
    ("INSIDE", Side::Left),
    ("SESSION", Side::Left),
    ("AGE", Side::Right),
    ("LEFT", Side::Right),
];

fn cells(view: &View, (_, key, mapping): &Found<'_>) -> Vec<String> {
    let [peer, public, inside] = ends(key, mapping);
    let peer = if peer.addr.is_none() {
        "anybody".into()
    } else {
        end_text(&peer)
    };
    vec![
        kind_name(mapping.kind).into(),
        peer,
        end_text(&public),
        end_text(&inside),
        session_name(mapping.session),
        human::duration(view.age(mapping.born)),
        human::duration(view.left(mapping.expires)),
    ]
}
