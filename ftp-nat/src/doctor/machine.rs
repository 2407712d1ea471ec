//! The machine itself: has its kernel what the datapath calls, may this process use it, and is
//! there a place for pins?

use std::fs;

use super::{finding::Findings, subject::Subject};
use crate::kernel::{bpffs, features, realtime, requirements};

/// Kernel and privileges.
pub(super) fn kernel(findings: &mut Findings) {
    if let Some(missing) = requirements::missing_privileges() {
        findings.error(
            "not-permitted",
            None,
            missing,
            "run it as root; what cannot be looked at is not known to be right",
        );
        return;
    }
    for feature in features::NEEDED {
        match feature.is_there() {
            Ok(true) => {}
            Ok(false) => findings.error(
                "kernel-feature-missing",
                None,
                format!("the kernel does not have {feature}"),
                "boot a newer kernel, or one built with it",
            ),
            Err(error) => findings.unread(&format!("does the kernel have {feature}"), &error),
        }
    }
    match features::TCX.is_there() {
        Ok(true) => {}
        Ok(false) => findings.note(
            "no-tcx",
            None,
            format!("the kernel does not have {}", features::TCX),
            "nothing has to be done: programs are attached by clsact, which works the same",
        ),
        Err(error) => {
            findings.unread(&format!("does the kernel have {}", features::TCX), &error);
        }
    }
    match features::SK_LOOKUP.is_there() {
        Ok(true) => {}
        Ok(false) => findings.note(
            "no-sk-lookup",
            None,
            format!("the kernel does not have {}", features::SK_LOOKUP),
            "nothing has to be done; connections break where an interface is deleted and made anew",
        ),
        Err(error) => findings.unread(
            &format!("does the kernel have {}", features::SK_LOOKUP),
            &error,
        ),
    }
    if let Some(obstacle) = realtime::obstacle() {
        findings.error(
            "preemptible-softirqs",
            None,
            obstacle,
            "boot another kernel",
        );
    }
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    if jit.is_ok_and(|value| value.trim() == "0") {
        findings.warning(
            "no-jit",
            None,
            "net.core.bpf_jit_enable is 0: eBPF programs are interpreted, several times slower",
            "sysctl net.core.bpf_jit_enable=1",
        );
    }
}

/// The BPF file system.
pub(super) fn pins(subject: &Subject, findings: &mut Findings) {
    let dir = &subject.state_dir;
    if bpffs::is_private(dir) {
        findings.error(
            "private-mount",
            None,
            format!(
                "{} is on a mount that only this process sees, as `ip netns exec` makes them: a \
                 gateway started so ends with its daemon, and others do not find it",
                dir.display()
            ),
            "enter the namespace with `nsenter --net=/run/netns/NAME` instead",
        );
    } else if !bpffs::is_on_bpf(dir) {
        findings.error(
            "no-bpf-file-system",
            None,
            format!(
                "{} is not on a BPF file system, the only one that kernel objects can be pinned in",
                dir.display()
            ),
            "mount it with `mount -t bpf bpf /sys/fs/bpf` (systemd does so by itself)",
        );
    }
}
