//! Temporary folders with a guard.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    bpffs::{MOUNT_POINT, ensure_mounted},
    reaper,
};

/// A folder in the system's place for temporary files, that everyone may read and that goes away
/// with this value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty folder.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(reaper::unique_name());
        reaper::adopt_folder(&path);
        let scratch = Self(path);
        fs::create_dir(&scratch.0)
            .and_then(|()| fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", scratch.0.display()))?;
        Ok(scratch)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and gives its path.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
        reaper::forget_folder(&self.0);
    }
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
