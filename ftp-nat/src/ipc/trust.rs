//! Whom a daemon and its clients believe.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// The users whose files and processes count as ftp-nat's: root, this process' own user, and the
/// owner of the folder with the pins (a daemon may run as a user of its own).
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    owner: Option<u32>,
}

impl Trust {
    /// For the daemons whose pins are below this folder.
    pub fn of(state_dir: &Path) -> Self {
        let owner = fs::metadata(state_dir).ok().map(|folder| folder.uid());
        Self { owner }
    }

    /// Root and this process' own user only.
    #[cfg(test)]
    pub(crate) const fn minimal() -> Self {
        Self { owner: None }
    }

    /// Whether this user id is one of them.
    pub fn believes(self, uid: u32) -> bool {
        may_command(uid) || self.owner == Some(uid)
    }
}

/// Whether a user may send requests to this process: root, and the user that it runs as.
pub fn may_command(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}
