//! Whether programs on one CPU may run into each other: with PREEMPT_RT since Linux 6.18.
//!
//! The datapath's programs keep what they are at in memory of their CPU. That is safe where a
//! program cannot be interrupted by another packet's on the same CPU: softirqs do not nest, and
//! PREEMPT_RT kept one lock a CPU around them. Since Linux 6.18 (commit 3253cb49cbad) that lock is
//! an option, CONFIG_PREEMPT_RT_NEEDS_BH_LOCK, off by default.

use std::{fs, process::Command};

use rustix::system::uname;

/// The first version in which the lock is an option.
const LOCK_IS_OPTIONAL: (u32, u32) = (6, 18);

/// The lock's option, in a kernel's configuration.
const LOCK: &str = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";

/// Why this kernel cannot run the datapath, as a sentence; none when it can.
pub fn obstacle() -> Option<String> {
    let uname = uname();
    let release = uname.release().to_string_lossy();
    let version = uname.version().to_string_lossy();
    let flag = fs::read_to_string("/sys/kernel/realtime").unwrap_or_default();
    if !is_realtime(&version, &flag) || softirqs_are_locked(&release, configuration(&release)) {
        return None;
    }
    Some(format!(
        "this is Linux {release} with PREEMPT_RT and without {LOCK}: a packet's program may be \
         preempted by another packet's on the same CPU, and both use the same memory, so that \
         FTP's lines would get mixed up; boot a kernel without PREEMPT_RT, one before 6.18, or one \
         built with {LOCK}=y"
    ))
}

/// From `uname -v`, and from /sys/kernel/realtime where there is one.
fn is_realtime(version: &str, flag: &str) -> bool {
    version.split(' ').any(|word| word == "PREEMPT_RT") || flag.trim() == "1"
}

/// Whether a real-time kernel runs one softirq at a time on a CPU. Its configuration says so, where
/// it can be read; else its version.
fn softirqs_are_locked(release: &str, configuration: Option<String>) -> bool {
    if let Some(configuration) = configuration {
        let is_there = configuration.lines().any(|line| line.contains(LOCK));
        if is_there {
            let on = format!("{LOCK}=y");
            return configuration.lines().any(|line| line == on);
        }
    }
    version(release).is_none_or(|version| version < LOCK_IS_OPTIONAL)
}

/// The kernel's configuration, if it was left anywhere.
fn configuration(release: &str) -> Option<String> {
    if let Ok(text) = fs::read_to_string(format!("/boot/config-{release}")) {
        return Some(text);
    }
    let output = Command::new("gzip")
        .args(["--decompress", "--stdout", "/proc/config.gz"])
        .output()
        .ok()?;
    output.status.success().then_some(())?;
    String::from_utf8(output.stdout).ok()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_time_kernel_says_so() {
        let debian = "#1 SMP PREEMPT_RT Debian 6.12.117-1 (2026-11-01)";
        assert!(is_realtime(debian, ""));
        assert!(is_realtime("#1 SMP", "1\n"));
        assert!(!is_realtime("#1 SMP PREEMPT_DYNAMIC @0", "0\n"));
        assert!(!is_realtime("#1 SMP PREEMPT_DYNAMIC @0", ""));
    }

    #[test]
    fn the_lock_is_there_by_configuration_or_else_by_version() {
        let on = Some(format!("CONFIG_SMP=y\n{LOCK}=y\n"));
        let off = Some(format!("# {LOCK} is not set\n"));
        let unknown = Some("CONFIG_SMP=y\n".to_owned());
        for (release, configuration, is_locked) in [
            ("6.12.117+deb12-rt-amd64", None, true),
            ("6.12.117+deb12-rt-amd64", unknown.clone(), true),
            ("6.12.117-vendor", off.clone(), false),
            ("6.17.9-rt", None, true),
            ("6.18.0-rt1", None, false),
            ("6.18.0-rt1", unknown, false),
            ("6.18.0-rt1", off, false),
            ("6.18.0-rt1", on, true),
            ("7.0.1", None, false),
        ] {
            assert_eq!(
                softirqs_are_locked(release, configuration.clone()),
                is_locked,
                "{release} {configuration:?}"
            );
        }
    }
}
