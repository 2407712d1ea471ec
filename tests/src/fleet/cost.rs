//! What a process costs: its CPU time, and how often it was woken.

use std::{fs, time::Duration};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What the threads of a process have cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Their time on a CPU, what the kernel did in their name included.
    pub cpu: Duration,
    /// How often they waited for something and were woken.
    pub waits: u64,
}

impl Cost {
    /// Of a process that runs.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let mut cost = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?.path();
            // proc(5): nanoseconds on a CPU, waiting for one, and how often it got one.
            let times = fs::read_to_string(thread.join("schedstat"))?;
            let nanos = times.split_whitespace().next().context("a number")?;
            cost.cpu += Duration::from_nanos(nanos.parse()?);
            let status = fs::read_to_string(thread.join("status"))?;
            let waits = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            cost.waits += waits.context("a count")?.trim().parse::<u64>()?;
        }
        Ok(cost)
    }

    /// What it cost since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            waits: self.waits.saturating_sub(before.waits),
        }
    }
}

/// Starts something whose processes and threads stay on this CPU.
///
/// # Errors
///
/// Those of `start`, and `EINVAL`: there is no such CPU.
pub fn on_cpu<T>(cpu: usize, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one).with_context(|| format!("cannot stay on CPU {cpu}"))?;
    let started = start();
    sched_setaffinity(None, &before)?;
    started
}
