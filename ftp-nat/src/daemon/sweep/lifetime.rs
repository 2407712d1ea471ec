//! When something has lived too long: decisions without any doing.

use std::time::Duration;

use ftp_nat_common::abi::{Mapping, kind, port};

use crate::{config::Timeouts, kernel::clock::Clock, model::flow::State};

/// A connection that nobody confirmed: longer than TCP's own attempts to open one stay apart.
const OPENING: Duration = Duration::from_secs(60);
/// One end has closed and the other is silent: RFC 5382 section 5 gives it four minutes. What an
/// operator has ended is known as long: repetitions come at most two minutes apart (RFC 6298 section 2.5).
const HALF_CLOSED: Duration = Duration::from_secs(240);
/// Both ends have closed: time for the last acknowledgement to be repeated.
const CLOSED: Duration = Duration::from_secs(10);
/// A mapping that has expired: who comes now is told apart from who was never announced.
const EXPIRED: Duration = Duration::from_secs(30);
/// A session without a control connection: it was perhaps made just now.
const ORPHAN: Duration = Duration::from_secs(15);

/// [`Timeouts`] in ticks, with those that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    opening: u64,
    half_closed: u64,
    closed: u64,
    data_idle: u64,
    control_idle: u64,
    expired: u64,
    orphan: u64,
    hz: u32,
}

impl Lifetimes {
    /// In this kernel's ticks.
    pub fn new(timeouts: &Timeouts, clock: &Clock) -> Self {
        Self {
            opening: clock.ticks(OPENING),
            half_closed: clock.ticks(HALF_CLOSED),
            closed: clock.ticks(CLOSED),
            data_idle: clock.ticks(timeouts.data_idle),
            control_idle: clock.ticks(timeouts.control_idle),
            expired: clock.ticks(EXPIRED),
            orphan: clock.ticks(ORPHAN),
            hz: clock.hz(),
        }
    }

    /// Those for when room is short: what has ended gives way at once.
    pub const fn in_need(self) -> Self {
        let second = self.hz as u64;
        Self {
            closed: second,
            expired: 0,
            orphan: second,
            ..self
        }
    }

    /// How long a connection may be silent.
    pub const fn of(&self, kind_of: u8, state: State) -> u64 {
        match state {
            State::Opening => self.opening,
            State::Established if kind_of == kind::CONTROL => self.control_idle,
            State::Established => self.data_idle,
            State::HalfClosed | State::Cut => self.half_closed,
            State::Closed | State::Reset => self.closed,
        }
    }

    /// Whether one direction alone gives reason to look at the other: most entries are dismissed
    /// by this, without a lookup. `signs` are those of the direction, `seen` when its last
    /// packet came.
    pub const fn suspicious(&self, kind: u8, signs: u8, seen: u64, now: u64) -> bool {
        let silent = now.saturating_sub(seen);
        // The other direction may have answered and ended all that this one has.
        let least = State::of(signs, ANSWERED | signs & State::ENDED);
        silent > self.of(kind, least)
    }

    /// Whether a connection is over. `seen` is when the last packet of either direction came.
    pub const fn is_over(&self, kind: u8, state: State, seen: u64, now: u64) -> bool {
        now.saturating_sub(seen) > self.of(kind, state)
    }

    /// Whether a mapping has been useless for long enough.
    pub const fn is_forgotten(&self, mapping: &Mapping, now: u64) -> bool {
        now.saturating_sub(mapping.expires) > self.expired && now > mapping.expires
    }

    /// Whether a session without a control connection is to go.
    pub const fn is_orphan(&self, born: u64, now: u64) -> bool {
        now.saturating_sub(born) > self.orphan
    }

    /// Whether a port's last opening is so long ago that only its flows and mappings count.
    pub const fn is_old_port(&self, byte: u8, now: u64) -> bool {
        let epoch = byte & port::EPOCH;
        if epoch == 0 {
            return false;
        }
        let (current, span) = (port::epoch(now, self.hz), port::EPOCH);
        // Both count from 1 to `span` and start again.
        let age = (current + span - epoch) % span;
        age >= 2
    }
}

/// The TCP flags (SYN, ACK) of a direction that has answered everything but ended nothing.
const ANSWERED: u8 = 0x12;

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x01;
    const RST: u8 = 0x04;
    const NOW: u64 = 1 << 33;

    fn lifetimes() -> (Lifetimes, Clock) {
        let clock = Clock::of_this_kernel().unwrap();
        (Lifetimes::new(&Timeouts::default(), &clock), clock)
    }

    #[test]
    fn connections_end_after_their_states_own_silence() {
        let (lifetimes, clock) = lifetimes();
        for (kind_of, state, seconds) in [
            (kind::PASSIVE, State::Opening, 60),
            (kind::PASSIVE, State::Established, 3600),
            (kind::CONTROL, State::Established, 86400),
            (kind::CONTROL, State::HalfClosed, 240),
            (kind::ACTIVE, State::Closed, 10),
            (kind::CONTROL, State::Reset, 10),
            (kind::CONTROL, State::Cut, 240),
        ] {
            let silent = |seconds| NOW - clock.ticks(Duration::from_secs(seconds));
            assert!(!lifetimes.is_over(kind_of, state, silent(seconds), NOW));
            assert!(lifetimes.is_over(kind_of, state, silent(seconds + 1), NOW));
        }
    }

    #[test]
    fn a_packet_from_the_future_does_not_end_a_connection() {
        let (lifetimes, _) = lifetimes();
        assert!(!lifetimes.is_over(kind::PASSIVE, State::Closed, NOW + 5, NOW));
    }

    #[test]
    fn one_direction_alone_raises_suspicion_no_later_than_both_would() {
        let (lifetimes, clock) = lifetimes();
        let flags = [0, SYN, SYN | ACK, ACK, SYN | ACK | FIN, RST, ACK | RST];
        for one in flags {
            for other in flags {
                for seconds in [5, 11, 61, 241, 3601, 90_000] {
                    let seen = NOW - clock.ticks(Duration::from_secs(seconds));
                    let over = lifetimes.is_over(kind::PASSIVE, State::of(one, other), seen, NOW);
                    let suspected = [one, other]
                        .iter()
                        .any(|flags| lifetimes.suspicious(kind::PASSIVE, *flags, seen, NOW));
                    assert!(suspected || !over, "{one:#x} {other:#x} {seconds} s");
                }
            }
        }
    }

    #[test]
    fn an_established_transfer_raises_none() {
        let (lifetimes, clock) = lifetimes();
        let seen = NOW - clock.ticks(Duration::from_secs(3000));
        assert!(!lifetimes.suspicious(kind::PASSIVE, SYN | ACK, seen, NOW));
    }

    #[test]
    fn mappings_are_kept_a_little_past_their_end() {
        let (lifetimes, clock) = lifetimes();
        let mapping = |expires| Mapping {
            expires,
            ..Mapping::default()
        };
        let ago = |seconds| NOW - clock.ticks(Duration::from_secs(seconds));
        assert!(!lifetimes.is_forgotten(&mapping(NOW + 1), NOW));
        assert!(!lifetimes.is_forgotten(&mapping(ago(29)), NOW));
        assert!(lifetimes.is_forgotten(&mapping(ago(31)), NOW));
    }

    #[test]
    fn in_need_only_what_has_ended_goes_sooner() {
        let (lifetimes, clock) = lifetimes();
        let lifetimes = lifetimes.in_need();
        let ago = |seconds| NOW - clock.ticks(Duration::from_secs(seconds));
        for (state, seconds) in [
            (State::Opening, 60),
            (State::Established, 3600),
            (State::HalfClosed, 240),
            (State::Closed, 1),
            (State::Reset, 1),
        ] {
            assert!(!lifetimes.is_over(kind::PASSIVE, state, ago(seconds), NOW));
            assert!(lifetimes.is_over(kind::PASSIVE, state, ago(seconds + 1), NOW));
        }
        let mapping = Mapping {
            expires: NOW - 1,
            ..Mapping::default()
        };
        assert!(lifetimes.is_forgotten(&mapping, NOW));
        assert!(lifetimes.is_orphan(ago(2), NOW) && !lifetimes.is_orphan(ago(1), NOW));
    }

    #[test]
    fn a_port_is_old_two_epochs_after_its_last_opening() {
        let (lifetimes, clock) = lifetimes();
        let epoch = clock.ticks(Duration::from_secs(port::EPOCH_SECONDS));
        for age in 0..u64::from(port::EPOCH) {
            let byte = port::PUBLISHED | port::epoch(NOW - age * epoch, clock.hz());
            assert_eq!(lifetimes.is_old_port(byte, NOW), age >= 2, "{age} epochs");
        }
        assert!(!lifetimes.is_old_port(port::PUBLISHED, NOW));
    }
}
