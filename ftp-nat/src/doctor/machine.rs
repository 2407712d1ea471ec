//! The machine itself: has its kernel what the datapath calls, may this process use it, and is
//! there a place for pins?

use std::fs;

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_helper_supported, is_map_supported},
};
use aya_obj::generated::bpf_func_id;

use super::{finding::Findings, subject::Subject};
use crate::kernel::{bpffs, requirements};

/// What the datapath needs, and the kernel that first had it.
const HELPERS: [(bpf_func_id, &str, &str); 4] = [
    (bpf_func_id::BPF_FUNC_loop, "bpf_loop", "5.17"),
    (
        bpf_func_id::BPF_FUNC_redirect_neigh,
        "bpf_redirect_neigh",
        "5.10",
    ),
    (
        bpf_func_id::BPF_FUNC_ringbuf_output,
        "bpf_ringbuf_output",
        "5.8",
    ),
    (bpf_func_id::BPF_FUNC_jiffies64, "bpf_jiffies64", "5.5"),
];

const MAPS: [(MapType, &str, &str); 2] = [
    (MapType::LpmTrie, "LPM trie maps", "4.11"),
    (MapType::RingBuf, "ring buffers", "5.8"),
];

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
    if let Some(old) = requirements::too_old() {
        findings.error("kernel-too-old", None, old, "boot a newer kernel");
    }
    for (helper, name, since) in HELPERS {
        match is_helper_supported(ProgramType::SchedClassifier, helper) {
            Ok(false) => missing_feature(findings, &format!("the function {name}"), since),
            Ok(true) => {}
            Err(error) => findings.unread(&format!("does the kernel have {name}"), &error.into()),
        }
    }
    for (map, name, since) in MAPS {
        match is_map_supported(map) {
            Ok(false) => missing_feature(findings, name, since),
            Ok(true) => {}
            Err(error) => findings.unread(&format!("does the kernel have {name}"), &error.into()),
        }
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

fn missing_feature(findings: &mut Findings, name: &str, since: &str) {
    findings.error(
        "kernel-feature-missing",
        None,
        format!("the kernel does not have {name}"),
        format!("it came with Linux {since}; boot a newer kernel, or one built with it"),
    );
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
