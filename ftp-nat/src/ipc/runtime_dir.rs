//! The folder with the lock files and sockets of this network namespace's daemons:
//! `/run/ftp-nat/netns-COOKIE/WAN.lock` and `WAN.sock`.
//!
//! Only root and the daemon's own user may write there, so no other process can take a daemon's
//! place or use up its socket's queue.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::trust::Trust;
use crate::kernel::namespace;

/// Where the folders of all network namespaces are.
const ALL: &str = "/run/ftp-nat";
const SOCKET: &str = ".sock";

/// The folder of one network namespace.
#[derive(Clone, Debug)]
pub struct RuntimeDir {
    all: PathBuf,
    path: PathBuf,
}

impl RuntimeDir {
    /// That of this process' network namespace, there or not.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell the namespace: see [`namespace::cookie`].
    pub fn here() -> anyhow::Result<Self> {
        Ok(Self::below(
            Path::new(ALL),
            &namespace::cookie()?.to_string(),
        ))
    }

    /// That of another network namespace, by its number.
    pub fn of(cookie: u64) -> Self {
        Self::below(Path::new(ALL), &cookie.to_string())
    }

    pub(super) fn below(all: &Path, cookie: &str) -> Self {
        Self {
            all: all.to_owned(),
            path: all.join(format!("netns-{cookie}")),
        }
    }

    /// Makes the folder, readable by its owner alone, and makes sure that nobody else may write in
    /// it or replace it.
    ///
    /// # Errors
    ///
    /// `EACCES` or `EROFS` when it cannot be made; or it is there and belongs to a user that is not
    /// trusted, or others may write to it.
    pub(super) fn prepare(&self, trust: Trust) -> anyhow::Result<()> {
        for (dir, mode) in [(&self.all, 0o755), (&self.path, 0o700)] {
            match DirBuilder::new().mode(mode).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot make {}, where daemons have their sockets: make it beforehand, \
                             owned by the daemon's user",
                            dir.display()
                        )
                    });
                }
                _ => {}
            }
            let found = fs::symlink_metadata(dir)
                .with_context(|| format!("cannot look at {}", dir.display()))?;
            if !found.is_dir() || !trust.believes(found.uid()) || found.mode() & 0o022 != 0 {
                bail!(
                    "{} must be a folder of root or of the daemon's user that nobody else may \
                     write to, but it is of user {} with mode {:o}: remove it",
                    dir.display(),
                    found.uid(),
                    found.mode() & 0o7777
                );
            }
        }
        Ok(())
    }

    /// The lock file of a WAN interface's daemon.
    pub(super) fn lock(&self, wan: &str) -> PathBuf {
        self.path.join(format!("{wan}.lock"))
    }

    /// The socket of a WAN interface's daemon.
    pub(super) fn socket(&self, wan: &str) -> PathBuf {
        self.path.join(format!("{wan}{SOCKET}"))
    }

    /// The WAN interfaces that have a socket here, whether their daemon still runs or not.
    pub fn wans(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return BTreeSet::new();
        };
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                Some(name.to_str()?.strip_suffix(SOCKET)?.to_owned())
            })
            .collect()
    }

    /// Removes all that is in it: that of a namespace which is gone, whose daemons are gone too.
    pub fn remove(&self) {
        drop(fs::remove_dir_all(&self.path));
        self.prune();
    }

    /// Removes the folders if they are empty.
    pub(super) fn prune(&self) {
        drop(fs::remove_dir(&self.path));
        drop(fs::remove_dir(&self.all));
    }
}
