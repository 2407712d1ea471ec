//! `ftp-nat mappings`: the announced connections that have not come yet.

use ftp_nat_common::{
    abi::{Mapping, MappingKey, side},
    wire::addr::{Endpoint, Port},
};
use serde::Serialize;

use super::{
    View, address,
    columns::{Columns, Side},
    end_text, human, port, print, print_json, session_name, tenths,
};
use crate::{cli::ShowArgs, exit::Failure, flow::kind_name};

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

/// The three ends of a mapping: peer, public, inside.
pub(crate) fn ends(key: &MappingKey, mapping: &Mapping) -> [Endpoint; 3] {
    let unknown = Port::default();
    let destination = Endpoint::new(key.dst, key.dport);
    if key.side == side::INBOUND {
        [Endpoint::new(key.src, unknown), destination, mapping.to]
    } else {
        [destination, mapping.to, Endpoint::new(key.src, unknown)]
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::wire::addr::Addr;

    #[test]
    fn the_peer_is_outside_whichever_way_the_connection_goes() {
        let [client, server, gateway] =
            [[192, 0, 2, 9], [10, 0, 0, 5], [198, 51, 100, 1]].map(Addr::from_octets);
        let inbound = MappingKey {
            src: client,
            dst: gateway,
            dport: Port::new(50000),
            side: side::INBOUND,
            ..MappingKey::default()
        };
        let to = |addr, number| Mapping {
            to: Endpoint::new(addr, Port::new(number)),
            ..Mapping::default()
        };
        let shown = ends(&inbound, &to(server, 50001)).map(|end| end_text(&end));
        assert_eq!(shown, ["192.0.2.9", "198.51.100.1:50000", "10.0.0.5:50001"]);
        let outbound = MappingKey {
            src: server,
            dst: client,
            dport: Port::new(40000),
            side: side::OUTBOUND,
            ..MappingKey::default()
        };
        let shown = ends(&outbound, &to(gateway, 20)).map(|end| end_text(&end));
        assert_eq!(shown, ["192.0.2.9:40000", "198.51.100.1:20", "10.0.0.5"]);
    }
}
