//! The file system that pins live in.

use anyhow::Context as _;
use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};

/// Where the BPF file system belongs.
pub(crate) const MOUNT_POINT: &str = "/sys/fs/bpf";

/// statfs(2)'s name for the BPF file system (BPF_FS_MAGIC).
const MAGIC: u64 = 0xcafe_4a11;

/// Mounts the BPF file system where it belongs, if nobody did, and says so.
///
/// # Errors
///
/// When the kernel refuses: mostly for want of root.
pub fn ensure_mounted() -> anyhow::Result<()> {
    let is_bpf = || statfs(MOUNT_POINT).is_ok_and(|fs| fs.f_type as u64 == MAGIC);
    if is_bpf() {
        return Ok(());
    }
    eprintln!("lab: mounting the BPF file system at {MOUNT_POINT}");
    let mounted = mount("bpf", MOUNT_POINT, "bpf", MountFlags::empty(), None);
    // Another test may have been first.
    if is_bpf() {
        return Ok(());
    }
    mounted.with_context(|| format!("cannot mount the BPF file system at {MOUNT_POINT}"))
}
