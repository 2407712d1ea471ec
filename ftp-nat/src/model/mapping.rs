//! A mapping: an announced data connection that has not come yet.

use ftp_nat_common::{
    abi::{Mapping, MappingKey},
    wire::addr::{Endpoint, Port},
};

/// The three ends of a mapping: peer, public, inside.
pub fn ends(key: &MappingKey, mapping: &Mapping) -> [Endpoint; 3] {
    let unknown = Port::default();
    let destination = Endpoint::new(key.dst, key.dport);
    if mapping.is_inward(key) {
        return [Endpoint::new(key.src, unknown), destination, mapping.to];
    }
    let outside = if mapping.other.addr.is_none() {
        destination
    } else {
        mapping.other
    };
    [outside, mapping.to, Endpoint::new(key.src, unknown)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::text::end_text;
    use ftp_nat_common::{abi::side, wire::addr::Addr};

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
