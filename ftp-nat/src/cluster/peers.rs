//! What is known of the other gateways' streams: which batches came, and whether all was told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{record::Header, status::Peer};

/// After this silence a gateway counts as gone: three times as long as it is silent at most.
const GONE: Duration = Duration::from_millis(1000);
/// How long the answer to a request is waited for before it is repeated.
const PATIENCE: Duration = Duration::from_secs(3);

/// The others.
#[derive(Debug, Default)]
pub struct Peers {
    known: BTreeMap<u8, Known>,
}

#[derive(Debug)]
struct Known {
    epoch: u64,
    next: u64,
    heard: Instant,
    /// In seconds.
    lag: f64,
    /// Whether all that it has is here, and when it was asked for that.
    is_caught_up: bool,
    asked: Option<Instant>,
    config: u64,
    /// Two of this number write by turns.
    is_doubled: bool,
    former_epoch: u64,
}

/// What a batch shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// How many batches before it never came.
    pub lost: u64,
    /// Whether all that its gateway has must be asked for.
    pub must_ask: bool,
}

impl Peers {
    /// Notes a batch.
    pub fn hear(&mut self, header: &Header, lag: f64, now: Instant) -> Heard {
        let mut heard = Heard::default();
        let known = self.known.entry(header.node).or_insert_with(|| Known {
            epoch: header.epoch,
            next: header.number,
            heard: now,
            lag,
            is_caught_up: false,
            asked: None,
            config: header.config,
            is_doubled: false,
            former_epoch: 0,
        });
        if header.epoch == known.epoch {
            heard.lost = header.number.saturating_sub(known.next);
        } else {
            known.is_doubled = header.epoch == known.former_epoch;
            known.former_epoch = known.epoch;
            known.epoch = header.epoch;
            // What it had before it was started anew is here; what it has now must be told.
            heard.lost = 0;
            known.is_caught_up = false;
        }
        if heard.lost > 0 {
            known.is_caught_up = false;
            known.asked = None;
        }
        known.next = header.number + 1;
        known.heard = now;
        known.lag = lag;
        known.config = header.config;
        let is_waiting = known.asked.is_some_and(|asked| now - asked < PATIENCE);
        if !known.is_caught_up && !is_waiting {
            known.asked = Some(now);
            heard.must_ask = true;
        }
        heard
    }

    /// Notes that a gateway has told all.
    pub fn all_told(&mut self, node: u8) {
        if let Some(known) = self.known.get_mut(&node)
            && known.asked.is_some()
        {
            known.is_caught_up = true;
        }
    }

    /// Notes that the engine was away: batches may be missing that nobody numbered here.
    pub fn doubt_all(&mut self) {
        for known in self.known.values_mut() {
            known.is_caught_up = false;
            known.asked = None;
        }
    }

    /// Whether all that the living ones have is here.
    pub fn are_caught_up(&self, now: Instant) -> bool {
        self.known
            .values()
            .all(|known| known.is_caught_up || now - known.heard > GONE)
    }

    /// How many are alive.
    pub fn alive(&self, now: Instant) -> usize {
        self.known
            .values()
            .filter(|known| now - known.heard <= GONE)
            .count()
    }

    /// For operators. `config` is this gateway's own digest.
    pub fn show(&self, config: u64, now: Instant) -> Vec<Peer> {
        self.known
            .iter()
            .map(|(node, known)| Peer {
                node: *node,
                is_alive: now - known.heard <= GONE,
                silent: (now - known.heard).as_secs_f64(),
                lag: known.lag,
                is_caught_up: known.is_caught_up,
                has_same_config: known.config == config,
                is_doubled: known.is_doubled,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: u64, number: u64) -> Header {
        Header {
            version: 1,
            node: 2,
            epoch,
            number,
            time: 0,
            config: 1,
            records: 0,
        }
    }

    #[test]
    fn a_newcomer_a_gap_and_a_restart_are_asked_for_all_once() {
        let mut peers = Peers::default();
        let now = Instant::now();
        let hear = |peers: &mut Peers, epoch, number| peers.hear(&header(epoch, number), 0.0, now);
        let asks = |lost| Heard {
            lost,
            must_ask: true,
        };
        assert_eq!(hear(&mut peers, 1, 10), asks(0));
        assert_eq!(hear(&mut peers, 1, 11), Heard::default());
        assert!(!peers.are_caught_up(now));
        peers.all_told(2);
        assert!(peers.are_caught_up(now));
        assert_eq!(hear(&mut peers, 1, 12), Heard::default());
        assert_eq!(hear(&mut peers, 1, 15), asks(2));
        peers.all_told(2);
        assert!(!hear(&mut peers, 2, 0).must_ask);
        assert!(!peers.are_caught_up(now));
        peers.all_told(2);
        assert!(peers.are_caught_up(now));
        assert!(!peers.show(1, now)[0].is_doubled);
        hear(&mut peers, 1, 16);
        assert!(peers.show(1, now)[0].is_doubled);
    }

    #[test]
    fn who_is_gone_is_not_waited_for() {
        let mut peers = Peers::default();
        let now = Instant::now();
        peers.hear(&header(1, 0), 0.0, now);
        assert_eq!((peers.alive(now), peers.are_caught_up(now)), (1, false));
        let later = now + Duration::from_secs(2);
        assert_eq!((peers.alive(later), peers.are_caught_up(later)), (0, true));
    }
}
