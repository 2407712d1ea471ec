//! What is known of the other gateways' streams: which batches came, and whether all was told.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{record::Header, status::Peer};

/// After this silence a gateway counts as gone: three times as long as it is silent at most.
const GONE: Duration = Duration::from_millis(1000);
/// How long the answer to a request is waited for before it is repeated, by the other gateway's clock: who is
/// slow to take over what was told would ask for ever anew, and never come to the end of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// And at least, where something more is missing meanwhile: to tell everything takes its time.
const PAUSE: Duration = Duration::from_millis(500);
/// How long two gateways count as having one number after both were last heard of.
const DOUBLED: Duration = Duration::from_secs(10);
/// Of so many seconds the shortest delay counts as the difference of two clocks.
const CLOCK: Duration = Duration::from_secs(60);

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
    /// The shortest lag of this [`CLOCK`] and of the one before, and when this one began.
    shortest: [f64; 2],
    shortest_since: Instant,
    /// Whether all that it has is here, and when it was asked for that.
    is_caught_up: bool,
    asked: Option<Instant>,
    /// Something more is missing since it was asked.
    must_ask_anew: bool,
    /// What it told in batches from this number on is here: it has all only once it has told everything
    /// in such batches.
    complete_from: u64,
    config: u64,
    /// Two of this number write by turns: when that was seen last.
    doubled: Option<Instant>,
    former_epoch: u64,
    /// The published addresses that it has.
    holds: Vec<IpAddr>,
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
            shortest: [lag; 2],
            shortest_since: now,
            is_caught_up: false,
            asked: None,
            must_ask_anew: false,
            complete_from: header.number,
            config: header.config,
            doubled: None,
            former_epoch: 0,
            holds: Vec::new(),
        });
        if header.epoch == known.epoch {
            heard.lost = header.number.saturating_sub(known.next);
        } else {
            if header.epoch == known.former_epoch {
                known.doubled = Some(now);
            }
            known.former_epoch = known.epoch;
            known.epoch = header.epoch;
            // What it had before it was started anew is here; what it has now must be told.
            known.doubt(header.number);
        }
        if heard.lost > 0 {
            known.doubt(header.number);
        }
        known.next = header.number + 1;
        known.heard = now;
        known.note_lag(lag, now);
        known.config = header.config;
        let patience = if known.must_ask_anew { PAUSE } else { PATIENCE };
        // What is heard now was told a while ago: an answer cannot be in it yet.
        let told = now.checked_sub(known.behind()).unwrap_or(now);
        let is_waiting = known
            .asked
            .is_some_and(|asked| told.saturating_duration_since(asked) < patience);
        if !known.is_caught_up && !is_waiting {
            known.asked = Some(now);
            known.must_ask_anew = false;
            heard.must_ask = true;
        }
        heard
    }

    /// Notes which published addresses a gateway has.
    pub fn holds(&mut self, node: u8, addresses: &[IpAddr]) {
        if let Some(known) = self.known.get_mut(&node) {
            known.holds = addresses.to_vec();
        }
    }

    /// Notes that a gateway has told all, in the batches from number `from` on.
    pub fn all_told(&mut self, node: u8, from: u64) {
        if let Some(known) = self.known.get_mut(&node)
            && from >= known.complete_from
        {
            known.is_caught_up = true;
        }
    }

    /// Notes that the engine was away: batches may be missing, which the next one's number tells.
    pub fn doubt_all(&mut self) {
        for known in self.known.values_mut() {
            known.doubt(known.next);
        }
    }

    /// Whether all that the living ones have is here.
    pub fn are_caught_up(&self, now: Instant) -> bool {
        self.known
            .values()
            .all(|known| known.is_caught_up || now - known.heard > GONE)
    }

    /// Whether a living one has a published address that this gateway has too.
    pub fn share_address(&self, held: &[IpAddr], now: Instant) -> bool {
        self.known.values().any(|known| {
            now - known.heard <= GONE && known.holds.iter().any(|it| held.contains(it))
        })
    }

    /// How many are alive.
    pub fn alive(&self, now: Instant) -> usize {
        self.known
            .values()
            .filter(|known| now - known.heard <= GONE)
            .count()
    }

    /// For operators. `config` is this gateway's own digest, `held` the published addresses that it has.
    pub fn show(&self, config: u64, held: &[IpAddr], now: Instant) -> Vec<Peer> {
        self.known
            .iter()
            .map(|(node, known)| Peer {
                node: *node,
                is_alive: now - known.heard <= GONE,
                silent: (now - known.heard).as_secs_f64(),
                lag: known.lag,
                is_caught_up: known.is_caught_up,
                has_same_config: known.config == config,
                is_doubled: known.doubled.is_some_and(|doubled| now - doubled < DOUBLED),
                shares_address: known.holds.iter().find(|it| held.contains(it)).copied(),
                clock: known.shortest[0].min(known.shortest[1]),
            })
            .collect()
    }
}

impl Known {
    /// Something is missing of what was told before batch number `before`.
    fn doubt(&mut self, before: u64) {
        self.is_caught_up = false;
        self.must_ask_anew = true;
        self.complete_from = before;
    }

    /// How long before now what was heard last was told, longer than usual.
    fn behind(&self) -> Duration {
        let behind = self.lag - self.shortest[0].min(self.shortest[1]);
        Duration::try_from_secs_f64(behind).unwrap_or_default()
    }

    fn note_lag(&mut self, lag: f64, now: Instant) {
        self.lag = lag;
        if now - self.shortest_since > CLOCK {
            self.shortest = [lag, self.shortest[0]];
            self.shortest_since = now;
        }
        self.shortest[0] = self.shortest[0].min(lag);
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
        peers.all_told(2, 10);
        assert!(peers.are_caught_up(now));
        assert_eq!(hear(&mut peers, 1, 12), Heard::default());
        let later = now + PAUSE;
        assert_eq!(
            peers.hear(&header(1, 15), 0.0, later),
            Heard {
                lost: 2,
                must_ask: true
            }
        );
        let now = later;
        let hear = |peers: &mut Peers, epoch, number| peers.hear(&header(epoch, number), 0.0, now);
        assert_eq!(hear(&mut peers, 1, 16), Heard::default());
        // It began to tell everything before what was lost.
        peers.all_told(2, 14);
        assert!(!peers.are_caught_up(now));
        peers.all_told(2, 15);
        assert!(peers.are_caught_up(now));
        assert_eq!(hear(&mut peers, 2, 0), Heard::default());
        assert!(!peers.are_caught_up(now));
        peers.all_told(2, 0);
        assert!(peers.are_caught_up(now));
        assert!(!peers.show(1, &[], now)[0].is_doubled);
        hear(&mut peers, 1, 17);
        assert!(peers.show(1, &[], now)[0].is_doubled);
        assert!(!peers.show(1, &[], now + DOUBLED)[0].is_doubled);
    }

    #[test]
    fn who_is_behind_with_the_answer_does_not_ask_anew() {
        let mut peers = Peers::default();
        let start = Instant::now();
        let mut asks = |number, seconds, lag| {
            let now = start + Duration::from_secs(seconds);
            peers.hear(&header(1, number), lag, now).must_ask
        };
        // The clocks are five seconds apart.
        assert!(asks(0, 0, 5.0));
        assert!(!asks(1, 2, 5.0));
        // Told one second and two seconds after the request.
        assert!(!asks(2, 8, 12.0));
        assert!(!asks(3, 20, 23.0));
        // Told three seconds after it, and still no answer.
        assert!(asks(4, 21, 23.0));
        assert!(!asks(5, 22, 5.0));
        assert!(asks(6, 24, 5.0));
    }

    #[test]
    fn the_shortest_delay_of_late_is_taken_for_the_difference_of_the_clocks() {
        let mut peers = Peers::default();
        let start = Instant::now();
        for (second, lag, clock) in [(0, 5.1, 5.1), (1, 5.0, 5.0), (2, 9.0, 5.0), (63, 1.2, 1.2)] {
            let now = start + Duration::from_secs(second);
            peers.hear(&header(1, second), lag, now);
            assert_eq!(peers.show(1, &[], now)[0].clock, clock, "{second}");
        }
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
