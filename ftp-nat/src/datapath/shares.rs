//! The clients that were refused something because of their share.

use std::cmp::Reverse;

use ftp_nat_common::{abi::Share, wire::addr::Addr};

use super::maps::Maps;

/// A client and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The key of its share: an address of IPv4, or the network of one of IPv6.
    pub of: Addr,
    /// What it has.
    pub share: Share,
}

impl Client {
    /// Its name: `198.51.100.7`, or `2001:db8:7::/64`.
    pub fn name(&self) -> String {
        if self.of.is_v4() {
            self.of.to_string()
        } else {
            format!("{}/64", self.of)
        }
    }
}

/// The clients that were refused most, at most so many, the first ones first. The sweep forgets a
/// client ten minutes after its last refusal.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub fn most_refused(maps: &Maps, most: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    maps.shares.each(|of, share| {
        if share.refused > 0 {
            clients.push(Client {
                of: *of,
                share: *share,
            });
        }
    })?;
    clients.sort_by_key(|client| Reverse(client.share.refused));
    clients.truncate(most);
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::maps;

    #[test]
    fn those_who_were_refused_most_come_first_and_a_network_is_named_as_one() {
        let maps = maps::scratch(16);
        for (client, refused) in [
            ("192.0.2.1", 5),
            ("192.0.2.2", 0),
            ("2001:db8:7::", 9),
            ("192.0.2.3", 1),
        ] {
            let client = Addr::from(client.parse::<std::net::IpAddr>().unwrap());
            let share = Share {
                refused,
                ..Share::default()
            };
            maps.shares.set(&client, &share).unwrap();
        }
        let named: Vec<_> = most_refused(&maps, 2)
            .unwrap()
            .iter()
            .map(Client::name)
            .collect();
        assert_eq!(named, ["2001:db8:7::/64", "192.0.2.1"]);
    }
}
