//! The file system that pins live in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::{
    fs::statfs,
    mount::{MountFlags, mount},
};

use crate::reaper;

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

/// A folder for the pins of one gateway, that goes away with this value. The gateway makes it.
#[derive(Debug)]
pub struct PinFolder(PathBuf);

impl PinFolder {
    /// A path that nobody else has.
    ///
    /// # Errors
    ///
    /// When there is no BPF file system and none can be mounted.
    pub fn new() -> anyhow::Result<Self> {
        ensure_mounted()?;
        let path = Path::new(MOUNT_POINT).join(reaper::unique_name());
        reaper::adopt_folder(&path);
        Ok(Self(path))
    }

    /// Where it is, or will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinFolder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
        reaper::forget_folder(&self.0);
    }
}
