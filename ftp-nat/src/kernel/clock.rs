//! The kernel's tick counter, in which the datapath measures time.
//!
//! User space cannot read `jiffies64`, but it is a fixed function of CLOCK_MONOTONIC: it starts
//! five minutes before its lower half overflows (`INITIAL_JIFFIES` of linux/jiffies.h) and ticks
//! `CONFIG_HZ` times a second; both stand still while the machine sleeps. But it starts later, by
//! however long the kernel took from its first look at a clock to its first tick: a few ticks on
//! hardware, a second in a slow virtual machine. A program of two instructions tells how long.

use std::{fs, time::Duration};

use anyhow::ensure;
use rustix::time::{ClockId, clock_getres, clock_gettime};

use super::bpf;

/// `jiffies64` at boot, less what depends on the tick's rate.
const START: u64 = 1 << 32;
/// Seconds by which it starts earlier.
const EARLY_SECONDS: u64 = 300;

const NANOS: u128 = 1_000_000_000;

/// Turns ticks into time and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    hz: u32,
    /// How far this time namespace's monotonic clock is ahead of the kernel's, in nanoseconds.
    ahead: i128,
    /// How many ticks the counter is behind what CLOCK_MONOTONIC says.
    late: i64,
}

impl Clock {
    /// The running kernel's.
    ///
    /// # Errors
    ///
    /// When the kernel's coarse clock does not tell its tick.
    pub fn of_this_kernel() -> anyhow::Result<Self> {
        let tick = clock_getres(ClockId::MonotonicCoarse);
        ensure!(
            tick.tv_sec == 0 && tick.tv_nsec > 0,
            "the kernel's coarse clock has no resolution to tell its tick by"
        );
        // HZ = 300 has a tick of 3333333.3 ns: round to the nearest rate.
        let hz = (1_000_000_000 + tick.tv_nsec / 2) / tick.tv_nsec;
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let mut clock = Self {
            hz: u32::try_from(hz)?,
            ahead: monotonic_offset(&offsets),
            late: 0,
        };
        // Who may not ask (EPERM: no CAP_BPF or CAP_NET_ADMIN) is right to a second or so.
        if let Ok(ticks) = bpf::jiffies() {
            clock.late = lateness(clock.now(), ticks);
        }
        Ok(clock)
    }

    /// Ticks a second.
    pub const fn hz(&self) -> u32 {
        self.hz
    }

    /// The tick counter now, right to about a tick.
    pub fn now(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec) - self.ahead;
        self.at(nanos.max(0).cast_unsigned())
    }

    fn at(&self, monotonic_nanos: u128) -> u64 {
        let ticks = monotonic_nanos * u128::from(self.hz) / NANOS;
        (START - EARLY_SECONDS * u64::from(self.hz) + ticks as u64)
            .saturating_add_signed(-self.late)
    }

    /// A time in ticks.
    pub fn ticks(&self, time: Duration) -> u64 {
        (time.as_nanos() * u128::from(self.hz)).div_ceil(NANOS) as u64
    }

    /// Ticks as a time.
    pub fn time(&self, ticks: u64) -> Duration {
        Duration::from_millis(ticks.saturating_mul(1000) / u64::from(self.hz))
    }

    /// How long ago a tick was, seen from another; none for what lies ahead.
    pub fn between(&self, then: u64, now: u64) -> Duration {
        self.time(now.saturating_sub(then))
    }
}

/// By how many ticks the counter, of which only the lower half was read, is behind an estimate.
const fn lateness(estimate: u64, lower_half: u32) -> i64 {
    (estimate as u32).wrapping_sub(lower_half).cast_signed() as i64
}

/// The `monotonic` line of /proc/self/timens_offsets (time_namespaces(7)), in nanoseconds.
fn monotonic_offset(offsets: &str) -> i128 {
    offsets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            // Linux 5.10 writes names, 5.6 wrote clock numbers.
            (name == "monotonic" || name == "1").then_some(())?;
            let seconds: i128 = words.next()?.parse().ok()?;
            let nanos: i128 = words.next()?.parse().ok()?;
            Some(seconds * 1_000_000_000 + nanos)
        })
        .next()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock {
        hz: 250,
        ahead: 0,
        late: 0,
    };

    #[test]
    fn the_tick_counter_is_the_one_that_programs_read() {
        let clock = Clock::of_this_kernel().unwrap();
        let counter = bpf::jiffies().expect("this test needs root");
        let difference = lateness(clock.now(), counter);
        assert!(
            difference.abs() < i64::from(clock.hz() / 10),
            "{difference}"
        );
    }

    #[test]
    fn a_counter_that_started_late_is_behind() {
        // Read on both sides of the lower half's overflow.
        let estimate = (1 << 32) + 100;
        assert_eq!(lateness(estimate, 40), 60);
        assert_eq!(lateness(estimate, u32::MAX - 19), 120);
        assert_eq!(lateness(estimate, 103), -3);
        let late = Clock { late: 60, ..CLOCK };
        assert_eq!(late.at(NANOS), CLOCK.at(NANOS) - 60);
    }

    #[test]
    fn the_tick_counter_overflows_its_lower_half_after_five_minutes() {
        assert_eq!(CLOCK.at(300 * NANOS), 1 << 32);
        // Read together from /proc/timer_list and CLOCK_MONOTONIC of a 250 Hz kernel.
        assert!(CLOCK.at(1_832_984_000_000).abs_diff(4_295_350_542) < 5);
    }

    #[test]
    fn times_survive_the_way_to_ticks_and_back() {
        for millis in [0, 4, 1000, 2500, 86_400_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(CLOCK.time(CLOCK.ticks(time)), time);
        }
        assert_eq!(CLOCK.between(10, 260), Duration::from_secs(1));
        assert_eq!(CLOCK.between(260, 10), Duration::ZERO);
    }

    #[test]
    fn a_time_namespace_is_seen_through() {
        assert_eq!(
            monotonic_offset("monotonic      86400       5\nboottime  0  0\n"),
            86_400_000_000_005
        );
        assert_eq!(monotonic_offset(""), 0);
    }
}
