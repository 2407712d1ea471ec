//! Two samples make rates, and rates make a history.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::sample::{Id, Sample, Transfer};

/// Looks that the large graph remembers: as many as a wide terminal shows.
const HISTORY: usize = 512;
/// Looks that a transfer's own graph remembers.
pub(super) const SMALL_HISTORY: usize = 8;

/// Bytes a second from outside and from inside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub inward: f64,
    pub outward: f64,
}

impl Rate {
    pub fn sum(self) -> f64 {
        self.inward + self.outward
    }
}

/// The last sample and what came before it.
#[derive(Debug)]
pub(super) struct Rates {
    pub sample: Sample,
    transfers: HashMap<Id, VecDeque<Rate>>,
    /// Oldest first.
    pub total: VecDeque<Rate>,
    /// Events a second, by the counter's place.
    counts: Vec<f64>,
}

impl Rates {
    /// Begins with a first look, which tells no rates yet.
    pub fn new(sample: Sample) -> Self {
        Self {
            counts: vec![0.0; sample.counts.len()],
            sample,
            transfers: HashMap::new(),
            total: VecDeque::new(),
        }
    }

    /// Adds a look.
    pub fn add(&mut self, sample: Sample) {
        let passed = sample.when.saturating_duration_since(self.sample.when);
        let before: HashMap<_, _> = self
            .sample
            .transfers
            .iter()
            .map(|it| (it.id, (it.inward, it.outward)))
            .collect();
        let mut transfers = HashMap::new();
        for it in &sample.transfers {
            // What has come since the last look has done all of it since then.
            let (inward, outward) = before.get(&it.id).copied().unwrap_or_default();
            let rate = Rate {
                inward: a_second(inward, it.inward, passed),
                outward: a_second(outward, it.outward, passed),
            };
            let mut history = self.transfers.remove(&it.id).unwrap_or_default();
            push(&mut history, rate, SMALL_HISTORY);
            transfers.insert(it.id, history);
        }
        self.transfers = transfers;
        let total = |family| {
            a_second(
                self.sample.family(family).bytes,
                sample.family(family).bytes,
                passed,
            )
        };
        let rate = Rate {
            inward: total("inbound"),
            outward: total("outbound"),
        };
        push(&mut self.total, rate, HISTORY);
        self.counts = self
            .sample
            .counts
            .iter()
            .zip(&sample.counts)
            .map(|(old, new)| a_second(old.packets, new.packets, passed))
            .collect();
        self.sample = sample;
    }

    /// A transfer's rates, oldest first; none before the second look at it.
    pub fn history(&self, of: &Transfer) -> impl Iterator<Item = Rate> {
        self.transfers.get(&of.id).into_iter().flatten().copied()
    }

    /// A transfer's rate now.
    pub fn of(&self, transfer: &Transfer) -> Rate {
        self.history(transfer).last().unwrap_or_default()
    }

    /// All traffic now.
    pub fn now(&self) -> Rate {
        self.total.back().copied().unwrap_or_default()
    }

    /// How often a counter counts, a second.
    pub fn count(&self, place: usize) -> f64 {
        self.counts.get(place).copied().unwrap_or(0.0)
    }
}

/// Counters start again when a gateway is loaded anew: then there is no rate.
fn a_second(before: u64, now: u64, passed: Duration) -> f64 {
    let seconds = passed.as_secs_f64();
    if seconds < 0.001 {
        return 0.0;
    }
    now.saturating_sub(before) as f64 / seconds
}

fn push(history: &mut VecDeque<Rate>, rate: Rate, limit: usize) {
    if history.len() == limit {
        history.pop_front();
    }
    history.push_back(rate);
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::sample::Fill, *};
    use ftp_nat_common::{abi::Count, counter::Counter, wire::addr::Endpoint};
    use std::time::Instant;

    pub(in crate::commands::top) fn sample(when: Instant, outward: u64) -> Sample {
        let mut counts = vec![Count::default(); Counter::ALL.len()];
        counts[Counter::OutboundRedirected as usize].bytes = outward;
        counts[Counter::PassiveOpened as usize].packets = outward / 1000;
        Sample {
            when,
            gateways: vec![("wan".into(), Some(7))],
            clusters: Vec::new(),
            transfers: vec![Transfer {
                id: (Endpoint::default(), Endpoint::default(), 1),
                session: 0xab,
                kind: "passive",
                state: "established",
                is_alive: true,
                outside: "198.51.100.20:40000".into(),
                public: "198.51.100.1:50000".into(),
                inside: "10.0.0.5:50000".into(),
                inward: 0,
                outward,
                age: 3.0,
            }],
            sessions: Vec::new(),
            openings: Vec::new(),
            counts,
            connections: (1, 1000),
            tables: vec![
                Fill {
                    name: "sessions",
                    count: 81,
                    room: 100,
                },
                Fill {
                    name: "mappings",
                    count: 800,
                    room: 1000,
                },
            ],
        }
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let start = Instant::now();
        let mut rates = Rates::new(sample(start, 1000));
        assert_eq!(rates.now(), Rate::default());
        rates.add(sample(start + Duration::from_secs(2), 5000));
        let transfer = rates.sample.transfers[0].clone();
        let expected = Rate {
            inward: 0.0,
            outward: 2000.0,
        };
        assert_eq!((rates.of(&transfer), rates.now()), (expected, expected));
        assert!((rates.count(Counter::PassiveOpened as usize) - 2.0).abs() < 0.01);
        // Loaded anew: counted from zero.
        rates.add(sample(start + Duration::from_secs(4), 100));
        assert_eq!(rates.now(), Rate::default());
        assert_eq!(rates.history(&transfer).count(), 2);
        for second in 5..200 {
            rates.add(sample(start + Duration::from_secs(second), 100));
        }
        assert_eq!(rates.history(&transfer).count(), SMALL_HISTORY);
    }
}
