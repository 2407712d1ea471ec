//! What the daemon and the kernel say of themselves meanwhile.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::gateway::Gateway;

/// KiB that the daemon has in memory, and that its maps take of the kernel's.
pub(super) fn memory(gateway: &Gateway<'_>) -> anyhow::Result<String> {
    let pid = gateway.pid().context("no daemon runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let resident = resident.context("a process without memory?")?.trim();
    let mut bytes = 0;
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let locked = text.lines().find_map(|it| it.strip_prefix("memlock:"));
        bytes += locked.map_or(0, |it| it.trim().parse::<u64>().unwrap_or(0));
    }
    Ok(format!("daemon {resident}, maps {} kB", bytes / 1024))
}

/// Sweeps so far, and the seconds that they took. None: the daemon does not answer in time.
fn swept(gateway: &Gateway<'_>) -> anyhow::Result<Option<(u64, f64)>> {
    let text = gateway.ask(&["metrics"])?.expect_success()?.text();
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().and_then(|it| it.trim().parse::<f64>().ok())
    };
    let times = value("ftp_nat_sweeps_total ");
    Ok(times
        .zip(value("ftp_nat_sweep_seconds_total "))
        .map(|(times, seconds)| (times as u64, seconds)))
}

/// Waits for the daemon's word, and gives how long that took, how often it has swept and how long one
/// sweep took on average.
pub(super) fn word(gateway: &Gateway<'_>) -> anyhow::Result<(Duration, u64, Duration)> {
    let start = Instant::now();
    loop {
        if let Some((times, seconds)) = swept(gateway)? {
            let mean = Duration::from_secs_f64(seconds / times.max(1) as f64);
            return Ok((start.elapsed(), times, mean));
        }
        ensure!(
            start.elapsed() < Duration::from_secs(120),
            "the daemon does not answer"
        );
    }
}

/// How long a command takes, and the first line of what it says.
pub(super) fn answer(gateway: &Gateway<'_>, words: &[&str]) -> anyhow::Result<String> {
    let start = Instant::now();
    let outcome = gateway.ask(words)?.expect_success()?;
    let took = start.elapsed();
    let text = outcome.text();
    let first = text.lines().next().unwrap_or_default();
    Ok(format!("{first:?} in {took:.1?}"))
}
