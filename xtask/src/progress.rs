//! What xtask says while it works: a line when a step starts, and how long it took.

use std::time::{Duration, Instant};

/// A step that ends sooner than this says nothing about its duration.
const WORTH_MENTIONING: Duration = Duration::from_millis(500);

/// Prints one line. On the error stream, so that a command's own output stays clean.
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// Runs `work`, saying `what` before and its duration afterwards.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(&format!("{what} ..."));
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    if result.is_err() {
        say(&format!("{what}: failed after {:.1} s", took.as_secs_f32()));
    } else if took >= WORTH_MENTIONING {
        say(&format!("{what}: {:.1} s", took.as_secs_f32()));
    }
    result
}
