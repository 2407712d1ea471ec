//! What ftp-nat needs of the kernel and of its own privileges, looked at after a refusal, so that
//! the message can say what is missing instead of "invalid argument".

use std::{fmt::Write as _, fs};

use rustix::system::uname;

/// The oldest kernel that has all that the datapath calls: `bpf_loop` (e6f2dd0f8067).
const OLDEST: (u32, u32) = (5, 17);

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
        let _ = write!(why, "; {lacking}");
    }
    if let Some(old) = too_old() {
        let _ = write!(why, "; {old}");
    }
    why
}

/// That the kernel is older than what the datapath needs, as a sentence; none when it is not.
pub fn too_old() -> Option<String> {
    let release = uname().release().to_string_lossy().into_owned();
    let (major, minor) = OLDEST;
    (version(&release)? < OLDEST).then(|| {
        format!("this is Linux {release}, and ftp-nat needs {major}.{minor} (bpf_loop) or newer")
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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
    fn kernel_releases_are_read() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.17.0"), Some((5, 17)));
        assert!(version("5.10.0-30-amd64") < Some(OLDEST));
        assert!(version("6.1.0") > Some(OLDEST));
    }

    #[test]
    fn effective_capabilities_are_read() {
        let status = "Name:\tx\nCapEff:\t000001fffeffffff\n";
        assert_eq!(effective(status), Some(0x1ff_feff_ffff));
    }
}
