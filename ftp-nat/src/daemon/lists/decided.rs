//! What the deny list was told by command, here or at another gateway of the cluster: of each place the latest
//! decision.

use std::{collections::HashMap, time::Duration};

use anyhow::bail;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        decisions,
        install::Outcome,
        record::{DeniedRecord, Record},
    },
    model::{
        list::{Entry, List, Place},
        prefix::Prefix,
    },
};

/// How long it is known that a network was taken out: a gateway that was away for longer and still has it in
/// its list brings it back.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Of how many networks.
const REMOVALS: usize = 4096;
/// The longest reason, in bytes.
const WHY_MAX: usize = 200;

/// A network that was taken out of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Removal {
    list: List,
    network: Prefix,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publish: Option<String>,
    /// When.
    since: Timestamp,
    /// The number of the gateway at which it was; none: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<u8>,
}

/// What was decided while running.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided {
    /// Networks that are in the lists.
    added: HashMap<Place, Entry>,
    /// Those that are not any more.
    removed: HashMap<Place, Removal>,
}

impl Decided {
    /// From what was kept.
    pub(super) fn of(added: Vec<Entry>, removed: Vec<Removal>) -> Self {
        let added = added.into_iter().map(|it| (it.place(), it));
        let removed = removed
            .into_iter()
            .map(|it| ((it.list, it.network, it.publish.clone()), it));
        Self {
            added: added.collect(),
            removed: removed.collect(),
        }
    }

    /// What is in the lists, in the order of time.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.added.values().cloned().collect();
        all.sort_by_key(|it| (it.since, it.network.address, it.network.bits));
        all
    }

    /// What was taken out, in the order of time.
    pub(super) fn removals(&self) -> Vec<Removal> {
        let mut all: Vec<_> = self.removed.values().cloned().collect();
        all.sort_by_key(|it| (it.since, it.network.address, it.network.bits));
        all
    }

    /// How many networks are in the lists.
    pub(super) fn len(&self) -> usize {
        self.added.len()
    }

    /// The time of a command that is given now: later than that of the decision that it replaces, whatever
    /// another gateway's clock has said.
    pub(super) fn time_for(&self, place: &Place) -> Timestamp {
        let now = in_micros(Timestamp::now());
        match self.decided_at(place) {
            Some(before) if before >= now => before
                .checked_add(Duration::from_micros(1))
                .unwrap_or(before),
            _ => now,
        }
    }

    fn decided_at(&self, place: &Place) -> Option<Timestamp> {
        let added = self.added.get(place).and_then(|it| it.since);
        let removed = self.removed.get(place).map(|it| it.since);
        added.max(removed)
    }

    /// Adds a network.
    pub(super) fn add(&mut self, entry: Entry) {
        let place = entry.place();
        self.removed.remove(&place);
        self.added.insert(place, entry);
    }

    /// Takes a network out. Gives whether it was there.
    pub(super) fn remove(&mut self, place: Place, since: Timestamp, node: Option<u8>) -> bool {
        let was_there = self.added.remove(&place).is_some();
        let (list, network, publish) = place.clone();
        // Only the deny list's entries come from elsewhere.
        if list == List::Deny {
            let removal = Removal {
                list,
                network,
                publish,
                since,
                node,
            };
            self.removed.insert(place, removal);
            self.forget();
        }
        was_there
    }

    /// Forgets what was taken out long ago, and the oldest where there is too much of it.
    fn forget(&mut self) {
        let now = Timestamp::now();
        self.removed.retain(|_, it| {
            now.duration_since(it.since) < REMEMBERED.try_into().unwrap_or_default()
        });
        while self.removed.len() > REMOVALS {
            let oldest = self.removed.iter().min_by_key(|(_, it)| it.since);
            let Some(oldest) = oldest.map(|(place, _)| place.clone()) else {
                return;
            };
            self.removed.remove(&oldest);
        }
    }

    /// Takes out what has ended, and gives it.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<Entry> {
        let ended: Vec<_> = self
            .added
            .values()
            .filter(|it| it.has_ended(now))
            .cloned()
            .collect();
        for entry in &ended {
            self.added.remove(&entry.place());
        }
        ended
    }

    /// Takes over what another gateway tells. `servers`: what clients dial here; `room`: how many networks of
    /// others the lists may hold.
    pub(super) fn take_over(
        &mut self,
        record: &DeniedRecord,
        servers: &[String],
        room: usize,
    ) -> Outcome {
        let now = Timestamp::now();
        let Some(entry) = checked(record, servers, now) else {
            return Outcome::Refused;
        };
        let place = entry.place();
        let since = entry.since.unwrap_or_default();
        let is_late = self.decided_at(&place).is_some_and(|here| {
            // Of two at the same time the one that denies counts.
            here > since || here == since && (record.is_removed || self.added.contains_key(&place))
        });
        if is_late || !record.is_removed && entry.has_ended(now) {
            return Outcome::Stale;
        }
        if record.is_removed {
            self.remove(place, since, entry.node);
        } else {
            if !self.added.contains_key(&place) && self.added.len() >= room {
                return Outcome::NoRoom;
            }
            self.add(entry);
        }
        Outcome::Installed
    }

    /// All of it, for the others. `node`: this gateway's number.
    pub(super) fn told(&self, node: u8) -> Vec<Record> {
        let now = Timestamp::now();
        let added = self
            .added
            .values()
            .filter(|it| it.list == List::Deny && !it.has_ended(now));
        let added = added.map(|it| told(it, false, node, now));
        let removed = self.removed.values().map(|it| {
            let entry = Entry {
                list: it.list,
                network: it.network,
                publish: it.publish.clone(),
                why: None,
                since: Some(it.since),
                until: None,
                node: it.node,
            };
            told(&entry, true, node, now)
        });
        added.chain(removed).collect()
    }
}

/// An entry of the deny list for the others, or that it is there no more. `node`: this gateway's number.
pub(super) fn told(entry: &Entry, is_removed: bool, node: u8, now: Timestamp) -> Record {
    let since = entry.since.unwrap_or_default().as_microsecond();
    Record::Denied(Box::new(DeniedRecord {
        address: entry.network.address,
        bits: entry.network.bits,
        publish: entry.publish.clone(),
        time: u64::try_from(since).unwrap_or(0),
        node: entry.node.unwrap_or(node),
        is_removed,
        left: entry
            .left(now)
            .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        why: entry.why.clone().filter(|_| !is_removed),
    }))
}

/// The entry that a record tells; none where no command could have made it.
fn checked(record: &DeniedRecord, servers: &[String], now: Timestamp) -> Option<Entry> {
    let network = Prefix::of(record.address, record.bits);
    let is_network = network.address == record.address
        && network.bits == record.bits
        && record.address.to_canonical() == record.address;
    let since = Timestamp::from_microsecond(i64::try_from(record.time).ok()?).ok()?;
    let until = match record.left {
        Some(left) => Some(now.checked_add(Duration::from_millis(left)).ok()?),
        None => None,
    };
    let entry = Entry {
        list: List::Deny,
        network,
        publish: record.publish.clone(),
        why: record.why.clone().filter(|why| !why.is_empty()),
        since: Some(since),
        until,
        node: Some(record.node),
    };
    let is_right =
        is_network && decisions::can_be(record.node, record.time) && check(&entry, servers).is_ok();
    is_right.then_some(entry)
}

/// A time as records tell it.
fn in_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// Whether a network may be added or removed.
pub(super) fn check(entry: &Entry, servers: &[String]) -> anyhow::Result<()> {
    if let Some(publish) = &entry.publish
        && !servers.contains(publish)
    {
        bail!(
            "nothing is published as {publish}: there are {}",
            servers.join(", ")
        );
    }
    if entry.why.as_ref().is_some_and(|why| why.len() > WHY_MAX) {
        bail!("a reason has at most {WHY_MAX} bytes");
    }
    if entry
        .why
        .as_ref()
        .is_some_and(|why| why.chars().any(char::is_control))
    {
        bail!("a reason has no control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::NODES;

    const ROOM: usize = 3;
    const HOUR: u64 = 3_600_000_000;

    /// Now, in microseconds since 1970.
    fn now() -> u64 {
        u64::try_from(Timestamp::now().as_microsecond()).unwrap()
    }

    /// A decision at node 2 about network number `number`, at a time behind an hour ago.
    fn record(number: u8, time: u64, is_removed: bool) -> DeniedRecord {
        DeniedRecord {
            address: [203, 0, 113, number].into(),
            bits: 32,
            publish: None,
            time: now() / HOUR * HOUR - HOUR + time,
            node: 2,
            is_removed,
            left: None,
            why: None,
        }
    }

    fn take_over(decided: &mut Decided, record: &DeniedRecord) -> Outcome {
        decided.take_over(record, &["198.51.100.1:21".into()], ROOM)
    }

    #[test]
    fn the_latest_decision_counts_in_whatever_order_they_come() {
        let mut records = [(1, false), (2, true), (3, false), (4, true)]
            .map(|(time, is_removed)| record(7, time, is_removed));
        for last in 1..=records.len() {
            for turn in 0..last {
                let mut decided = Decided::default();
                records[..last].rotate_left(turn.min(1));
                for record in &records[..last] {
                    take_over(&mut decided, record);
                }
                let latest = records[..last].iter().max_by_key(|it| it.time).unwrap();
                let is_denied = decided.len() == 1;
                assert_eq!(is_denied, !latest.is_removed, "{:?}", &records[..last]);
                records.sort_by_key(|it| it.time);
            }
        }
    }

    #[test]
    fn of_two_decisions_at_one_moment_the_one_that_denies_counts() {
        for is_removed_first in [true, false] {
            let mut decided = Decided::default();
            for is_removed in [is_removed_first, !is_removed_first] {
                take_over(&mut decided, &record(7, 1, is_removed));
            }
            assert_eq!(decided.len(), 1);
        }
    }

    #[test]
    fn a_command_is_later_than_what_it_replaces_whatever_the_clocks_say() {
        let mut decided = Decided::default();
        let ahead = record(7, 3 * HOUR, false);
        assert_eq!(take_over(&mut decided, &ahead), Outcome::Installed);
        let place = decided.entries()[0].place();
        let time = decided.time_for(&place);
        assert!(decided.remove(place, time, None));
        let Some(Record::Denied(told)) = decided.told(1).pop() else {
            panic!("the removal is told");
        };
        assert_eq!(
            (told.is_removed, told.node, told.time),
            (true, 1, ahead.time + 1)
        );
        assert_eq!(take_over(&mut decided, &ahead), Outcome::Stale);
    }

    #[test]
    fn what_no_command_could_have_decided_is_refused() {
        let right = record(7, 1, false);
        let wrong = [
            DeniedRecord {
                bits: 33,
                ..right.clone()
            },
            DeniedRecord {
                bits: 24,
                ..right.clone()
            },
            DeniedRecord {
                address: "::ffff:192.0.2.1".parse().unwrap(),
                bits: 128,
                ..right.clone()
            },
            DeniedRecord {
                publish: Some("198.51.100.2:21".into()),
                ..right.clone()
            },
            DeniedRecord {
                time: u64::MAX,
                ..right.clone()
            },
            DeniedRecord {
                time: i64::MAX as u64 / 2,
                ..right.clone()
            },
            DeniedRecord {
                node: 0,
                ..right.clone()
            },
            DeniedRecord {
                node: NODES + 1,
                ..right.clone()
            },
            DeniedRecord {
                left: Some(u64::MAX),
                ..right.clone()
            },
            DeniedRecord {
                why: Some("\x1b[2J".into()),
                ..right.clone()
            },
            DeniedRecord {
                why: Some("x".repeat(201)),
                ..right.clone()
            },
        ];
        let mut decided = Decided::default();
        for record in &wrong {
            assert_eq!(
                take_over(&mut decided, record),
                Outcome::Refused,
                "{record:?}"
            );
        }
        let its = DeniedRecord {
            publish: Some("198.51.100.1:21".into()),
            why: Some("guesses".into()),
            left: Some(60_000),
            ..right
        };
        assert_eq!(take_over(&mut decided, &its), Outcome::Installed);
    }

    #[test]
    fn others_fill_a_part_of_the_lists_and_forget_no_more_than_that() {
        let mut decided = Decided::default();
        for number in 0..ROOM as u8 {
            assert_eq!(
                take_over(&mut decided, &record(number, 1, false)),
                Outcome::Installed
            );
        }
        assert_eq!(
            take_over(&mut decided, &record(99, 1, false)),
            Outcome::NoRoom
        );
        // What is there may change.
        assert_eq!(
            take_over(&mut decided, &record(0, 2, false)),
            Outcome::Installed
        );
        for number in 0..=REMOVALS as u32 {
            let removal = DeniedRecord {
                address: std::net::Ipv4Addr::from_bits(number).into(),
                ..record(0, u64::from(number), true)
            };
            assert_eq!(take_over(&mut decided, &removal), Outcome::Installed);
        }
        assert_eq!(decided.removals().len(), REMOVALS);
        // One of long ago is not even noted.
        let long_ago = DeniedRecord {
            time: now() - 31 * 24 * HOUR,
            ..record(50, 0, true)
        };
        take_over(&mut decided, &long_ago);
        assert_eq!(decided.removals().len(), REMOVALS);
    }
}
