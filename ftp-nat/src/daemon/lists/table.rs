//! The lists as the datapath has them: the LISTS map.

use std::collections::HashMap;

use ftp_nat_common::{
    abi::{ListKey, Listed, listed_flag, scope, setting},
    wire::addr::Addr,
};
use jiff::Timestamp;

use crate::{
    datapath::maps::{ListPrefix, Maps},
    kernel::clock::Clock,
    model::{
        list::{Entry, List},
        prefix::Prefix,
    },
};

/// The number of whose sessions an entry is about; none: of a server that is published no more.
pub(super) fn scope_of(entry: &Entry, servers: &[String]) -> Option<u32> {
    let Some(publish) = &entry.publish else {
        return Some(scope::ALL);
    };
    let place = servers.iter().position(|it| it == publish)?;
    u32::try_from(place + 1).ok()
}

/// An entry's key; none: of a server that is published no more.
pub(super) fn prefix(entry: &Entry, servers: &[String]) -> Option<ListPrefix> {
    Some(key(entry.list, scope_of(entry, servers)?, entry.network))
}

fn key(list: List, scope: u32, network: Prefix) -> ListPrefix {
    let before = if network.address.is_ipv4() { 96 } else { 0 };
    ListPrefix {
        bits: ListKey::BEFORE_ADDRESS + before + u32::from(network.bits),
        key: ListKey {
            list: list.number(),
            scope,
            addr: Addr::from(network.address),
        },
    }
}

/// How often each was met.
///
/// # Errors
///
/// `EPERM`: no CAP_BPF.
pub(super) fn hits(maps: &Maps) -> std::io::Result<HashMap<ListPrefix, u64>> {
    let all = maps.lists.all()?;
    Ok(all.into_iter().map(|(key, it)| (key, it.hits)).collect())
}

/// Writes what differs from what the table holds; how often each was met stays. The datapath looks nobody up
/// in a table that is empty: it is told before the first entry and after the last one.
///
/// # Errors
///
/// `ENOSPC`: the table is full. `EPERM`: no CAP_BPF.
pub(super) fn apply(
    maps: &Maps,
    clock: &Clock,
    entries: &[&Entry],
    servers: &[String],
) -> anyhow::Result<()> {
    let wanted = wanted(entries, servers, clock.now(), |left| clock.ticks(left));
    if !wanted.is_empty() {
        maps.change_settings(|settings| settings.flags &= !setting::NO_LISTS)?;
    }
    let old: HashMap<_, _> = maps.lists.all()?.into_iter().collect();
    let second = u64::from(clock.hz());
    for (key, listed) in &wanted {
        let mut listed = *listed;
        if let Some(there) = old.get(key) {
            listed.hits = there.hits;
            let is_as_long = listed.expires.abs_diff(there.expires) <= second;
            if is_as_long && listed.flags == there.flags {
                continue;
            }
        }
        maps.lists.set(key, &listed)?;
    }
    for key in old.keys().filter(|key| !wanted.contains_key(key)) {
        maps.lists.delete(key)?;
    }
    if wanted.is_empty() {
        maps.change_settings(|settings| settings.flags |= setting::NO_LISTS)?;
    }
    Ok(())
}

/// What the table must hold at this moment.
fn wanted(
    entries: &[&Entry],
    servers: &[String],
    now: u64,
    ticks: impl Fn(std::time::Duration) -> u64,
) -> HashMap<ListPrefix, Listed> {
    let time = Timestamp::now();
    let mut wanted: HashMap<ListPrefix, Listed> = HashMap::new();
    let mut networks = Vec::new();
    for entry in entries.iter().filter(|it| !it.has_ended(time)) {
        let Some(scope) = scope_of(entry, servers) else {
            continue;
        };
        let expires = entry.left(time).map_or(0, |left| now + ticks(left).max(1));
        let place = (entry.list, scope, entry.network);
        wanted
            .entry(key(entry.list, scope, entry.network))
            .and_modify(|it| it.expires = later(it.expires, expires))
            .or_insert(Listed {
                expires,
                ..Listed::default()
            });
        networks.push(place);
        if entry.list == List::Allow {
            for any in ["0.0.0.0/0", "::/0"]
                .iter()
                .filter_map(|it| it.parse().ok())
            {
                wanted
                    .entry(key(List::Allow, scope, any))
                    .or_insert(Listed {
                        flags: listed_flag::NOBODY,
                        ..Listed::default()
                    });
            }
        }
    }
    // A longest match hides the network that it lies in, also when its own time is over.
    for (list, scope, network) in networks {
        let around = (0..network.bits).filter_map(|bits| {
            let around = Prefix::of(network.address, bits);
            wanted.get(&key(list, scope, around)).copied()
        });
        let longest = around
            .filter(|it| it.flags & listed_flag::NOBODY == 0)
            .map(|it| it.expires)
            .reduce(later);
        if let (Some(longest), Some(it)) = (longest, wanted.get_mut(&key(list, scope, network))) {
            it.expires = later(it.expires, longest);
        }
    }
    wanted
}

/// The later one of two ends; 0: never.
fn later(one: u64, other: u64) -> u64 {
    if one == 0 || other == 0 {
        0
    } else {
        one.max(other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(list: List, network: &str, seconds: Option<u64>) -> Entry {
        let now = Timestamp::now();
        Entry {
            list,
            network: network.parse().unwrap(),
            publish: None,
            why: None,
            since: Some(now),
            until: seconds.map(|it| now.checked_add(Duration::from_secs(it)).unwrap()),
            node: None,
        }
    }

    /// When each ends, in whole seconds from now on.
    fn shown(entries: &[Entry]) -> Vec<String> {
        let all: Vec<_> = entries.iter().collect();
        let wanted = wanted(&all, &[], 1_000, |left| left.as_secs_f64().round() as u64);
        let mut shown: Vec<_> = wanted
            .iter()
            .map(|(key, it)| {
                let network = key.network();
                let nobody = if it.flags == 0 { "" } else { " nobody" };
                match it.expires {
                    0 => format!("{network}{nobody}"),
                    at => format!("{network}{nobody} for {}", at - 1_000),
                }
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_network_within_another_one_ends_no_sooner() {
        assert_eq!(
            shown(&[
                entry(List::Deny, "198.51.100.7/32", Some(60)),
                entry(List::Deny, "198.51.100.0/24", Some(600)),
                entry(List::Deny, "203.0.113.7/32", Some(60)),
                entry(List::Deny, "2001:db8::1/128", Some(60)),
                entry(List::Deny, "2001:db8::/32", None),
            ]),
            [
                "198.51.100.0/24 for 600",
                "198.51.100.7/32 for 600",
                "2001:db8::/32",
                "2001:db8::1/128",
                "203.0.113.7/32 for 60",
            ]
        );
    }

    #[test]
    fn an_allow_list_leaves_everybody_else_out() {
        assert_eq!(
            shown(&[entry(List::Allow, "198.51.100.0/24", None)]),
            ["0.0.0.0/0 nobody", "198.51.100.0/24", "::/0 nobody"]
        );
    }

    #[test]
    fn what_has_ended_or_is_of_no_server_is_not_there() {
        let gone = Entry {
            publish: Some("198.51.100.1:21".into()),
            ..entry(List::Deny, "198.51.100.0/24", None)
        };
        assert_eq!(
            shown(&[gone, entry(List::Deny, "10.0.0.0/8", Some(0))]),
            [""; 0]
        );
    }
}
