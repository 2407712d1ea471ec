//! Summing up floods: of events that one source causes again and again, the first are published as
//! they are and the rest as one sum.
//!
//! Windows of [`WINDOW`] follow one another. Within one, each kind of event has a budget for each
//! source and, where sources can be invented, for all sources together. What exceeds a budget is
//! counted and published as sums when the window ends. That a data connection came, and its end, and
//! what a server has transferred or changed is never summed: whoever was let in stays on record.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ftp_nat_common::{
    abi::{Event, event, kind},
    wire::addr::Addr,
};

/// How long events are counted before their sums are published.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Events of one kind from one source in a window that are published as they are: of what nobody
/// needs to be let in for, and of what a client does that was let in.
const UNINVITED: u32 = 20;
const INVITED: u32 = 1000;

/// And of one kind from all sources, where anybody can send packets from invented addresses.
const FROM_ALL: u32 = 300;

/// Sources that are told apart in a window; the rest count as one.
const SOURCES: usize = 1024;

/// What counts as "like this".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    what: u8,
    reason: u16,
    /// The source's address; none: of any source.
    peer: Addr,
}

/// How much of a kind of event is published as it is.
enum Budget {
    Unlimited,
    /// For each source.
    PerSource(u32),
    /// For each source, and for all together.
    PerSourceAndAll(u32),
}

const fn budget(of: &Event) -> Budget {
    match of.what {
        event::DENIED | event::PASSED => Budget::PerSourceAndAll(UNINVITED),
        event::SESSION => Budget::PerSource(UNINVITED),
        event::ENDED if of.kind == kind::CONTROL => Budget::PerSource(UNINVITED),
        event::USED | event::ENDED => Budget::Unlimited,
        // The reason is the reply's code: of what the server has done, each is told.
        event::TRANSFER | event::CHANGE if of.reason < 400 => Budget::Unlimited,
        _ => Budget::PerSource(INVITED),
    }
}

/// Events of a group in this window.
#[derive(Debug, Default)]
struct Seen {
    published: u32,
    /// The rest, and the last of them.
    summed: u64,
    last: Event,
}

/// A sum of events that were not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many.
    pub(super) count: u64,
    /// One of them, without what tells it from the others.
    pub(super) event: Event,
}

/// The counts of the current window.
#[derive(Debug, Default)]
pub(super) struct Floods {
    since: Option<Instant>,
    groups: HashMap<Group, Seen>,
    /// What was published of each kind, from all sources.
    published: HashMap<u8, u32>,
}

impl Floods {
    /// Whether an event is to be published as it is; if not, it is counted for a sum.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        let (per_source, for_all) = match budget(event) {
            Budget::Unlimited => return true,
            Budget::PerSource(most) => (most, u32::MAX),
            Budget::PerSourceAndAll(most) => (most, FROM_ALL),
        };
        self.since.get_or_insert(now);
        let mut group = Group {
            what: event.what,
            reason: event.reason,
            peer: event.peer.addr,
        };
        let published = self.published.entry(event.what).or_default();
        let has_room = *published < for_all;
        let is_known = self.groups.contains_key(&group);
        if !is_known && (self.groups.len() >= SOURCES || !has_room) {
            group.peer = Addr::default();
        }
        let seen = self.groups.entry(group).or_default();
        if has_room && seen.published < per_source {
            *published += 1;
            seen.published += 1;
            return true;
        }
        seen.summed += 1;
        seen.last = *event;
        false
    }

    /// The sums of a window that is over; nothing before that.
    pub(super) fn take_sums(&mut self, now: Instant) -> Vec<Sum> {
        if self.since.is_none_or(|since| now - since < WINDOW) {
            return Vec::new();
        }
        self.since = None;
        self.published.clear();
        self.groups
            .drain()
            .filter(|(_, seen)| seen.summed > 0)
            .map(|(group, seen)| Sum {
                count: seen.summed,
                event: Event {
                    time: seen.last.time,
                    what: group.what,
                    kind: seen.last.kind,
                    reason: group.reason,
                    peer: ftp_nat_common::wire::addr::Endpoint {
                        addr: group.peer,
                        ..Default::default()
                    },
                    ..Event::default()
                },
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::wire::addr::{Endpoint, Port};

    fn from(what: u8, last_octet: u32) -> Event {
        let octets = (0xc633_6400 + last_octet).to_be_bytes();
        Event {
            what,
            kind: kind::PASSIVE,
            peer: Endpoint::new(Addr::from_octets(octets), Port::new(4000)),
            ..Event::default()
        }
    }

    #[test]
    fn a_flood_of_one_source_is_summed_and_others_are_published() {
        let (mut floods, start) = (Floods::default(), Instant::now());
        let flood = from(event::DENIED, 9);
        let published = (0..1000).filter(|_| floods.admits(&flood, start)).count();
        assert_eq!(published, UNINVITED as usize);
        assert!(floods.admits(&from(event::DENIED, 10), start));
        assert_eq!(floods.take_sums(start + WINDOW / 2), []);
        let sums = floods.take_sums(start + WINDOW);
        let [sum] = sums[..] else { panic!("{sums:?}") };
        assert_eq!((sum.count, sum.event.peer.addr), (980, flood.peer.addr));
        assert_eq!(
            sum.event.peer.port,
            Port::default(),
            "they came from many ports"
        );
        assert!(floods.admits(&flood, start + WINDOW), "a window of its own");
    }

    #[test]
    fn a_flood_from_invented_sources_is_bounded_too() {
        let (mut floods, start) = (Floods::default(), Instant::now());
        let admitted = (0..100_000)
            .filter(|source| floods.admits(&from(event::DENIED, *source), start))
            .count();
        assert_eq!(admitted, FROM_ALL as usize);
        assert!(floods.groups.len() <= SOURCES + 1);
        let sums = floods.take_sums(start + WINDOW);
        let [sum] = sums[..] else { panic!("{sums:?}") };
        assert_eq!(sum.count, 100_000 - u64::from(FROM_ALL));
        assert_eq!(sum.event.peer.addr, Addr::default());
    }

    #[test]
    fn who_was_let_in_is_never_summed() {
        let (mut floods, start) = (Floods::default(), Instant::now());
        for what in [event::USED, event::ENDED] {
            assert!((0..100_000).all(|_| floods.admits(&from(what, 9), start)));
        }
        let logins = (0..1000).filter(|_| floods.admits(&from(event::SESSION, 9), start));
        assert_eq!(logins.count(), UNINVITED as usize);
    }
}
