//! What ftp-nat needs of the kernel and of its own privileges, looked at after a refusal, so that
//! the message can say what is missing instead of "invalid argument".

use std::{
    fmt::{Display, Write as _},
    fs,
};

use rustix::system::uname;

use super::features;

/// Capabilities (linux/capability.h), what each is for, and whether CAP_SYS_ADMIN includes it.
const NEEDED: [(u32, &str, &str, bool); 3] = [
    (12, "CAP_NET_ADMIN", "attaching to interfaces", false),
    (39, "CAP_BPF", "loading programs and maps", true),
    (
        38,
        "CAP_PERFMON",
        "programs that compare packet pointers",
        true,
    ),
];
const SYS_ADMIN: u32 = 21;

/// What this process lacks; none when it has all.
pub fn missing_privileges() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    lacking(effective(&status)?)
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn lacking(capabilities: u64) -> Option<String> {
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let lacking: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, .., by_admin)| !(has(*bit) || *by_admin && has(SYS_ADMIN)))
        .map(|(_, name, purpose, _)| format!("{name} ({purpose})"))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    Some(format!(
        "not permitted: this process lacks {}; run it as root or grant them",
        lacking.join(", ")
    ))
}

/// What may have made the kernel refuse, as a sentence to add to its own words; empty when nothing
/// is found.
pub fn why_refused() -> String {
    let mut why = String::new();
    if let Some(lacking) = missing_privileges() {
        // Without them nothing can be tried.
        let _ = write!(why, "; {lacking}");
        return why;
    }
    if let Some(features) = missing_features() {
        let _ = write!(why, "; {features}");
    }
    why
}

/// What the kernel lacks, as a sentence; none when it has all, or when that cannot be found out.
pub fn missing_features() -> Option<String> {
    named(&features::missing())
}

fn named(missing: &[impl Display]) -> Option<String> {
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "this kernel ({}) lacks {}, which ftp-nat needs",
            uname().release().to_string_lossy(),
            missing.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let all = 1 << 12 | 1 << 38 | 1 << 39;
        assert_eq!(lacking(all), None);
        assert_eq!(lacking(1 << 12 | 1 << SYS_ADMIN), None);
        assert!(lacking(all & !(1 << 12)).unwrap().contains("CAP_NET_ADMIN"));
        let none = lacking(0).unwrap();
        assert!(none.contains("CAP_BPF") && none.contains("CAP_PERFMON"));
    }

    #[test]
    fn missing_features_are_named() {
        assert_eq!(named(&[""; 0]), None);
        let said = named(&["bpf_loop (since Linux 5.17)", "TCX (since Linux 6.6)"]).unwrap();
        assert!(
            said.ends_with(
                "lacks bpf_loop (since Linux 5.17), TCX (since Linux 6.6), which ftp-nat needs"
            ),
            "{said}"
        );
    }

    #[test]
    fn effective_capabilities_are_read() {
        let status = "Name:\tx\nCapEff:\t000001fffeffffff\n";
        assert_eq!(effective(status), Some(0x1ff_feff_ffff));
    }
}
