//! How long things may take.

use std::time::{Duration, Instant};

/// The whole probe takes at most so many times the limit of one step.
const STEPS: u32 = 12;

/// The limits of one probe.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one connection or one answer.
    pub step: Duration,
    end: Instant,
}

impl Limits {
    /// Limits that begin to run now.
    #[must_use]
    pub fn new(step: Duration) -> Self {
        Self {
            step,
            end: Instant::now() + step * STEPS,
        }
    }

    /// When a step that begins now must be over.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        (Instant::now() + self.step).min(self.end)
    }

    /// How long a step that begins now may take.
    #[must_use]
    pub fn left(&self) -> Duration {
        left(self.deadline())
    }

    /// Whether all time is used up.
    #[must_use]
    pub fn are_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// What is left until `deadline`; never nothing at all, which would mean "no limit" to a socket.
#[must_use]
pub fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

/// Milliseconds since `start`, to a tenth.
#[must_use]
pub fn since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}
