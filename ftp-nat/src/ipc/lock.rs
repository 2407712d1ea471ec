//! One daemon for a WAN interface: whoever holds the lock on the interface's lock file runs its
//! gateway, and answers on the socket beside it.
//!
//! The lock is flock(2)'s: the kernel releases it with the process, SIGKILL or not. The file names
//! the process, and whether it is ready, so that a daemon that does not answer is still known.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{
        fs::{MetadataExt as _, OpenOptionsExt as _},
        net::UnixListener,
    },
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{runtime_dir::RuntimeDir, trust::Trust};

/// How often and how long the end of a killed daemon is waited for.
const DYING_TRIES: u32 = 4;
const DYING_PAUSE: Duration = Duration::from_millis(50);

/// The longest content of a lock file, in bytes.
const CONTENT_MAX: u64 = 4096;

/// The process that holds a lock, as its lock file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number, in its own process namespace.
    pub pid: u32,
    /// Whether it has been ready; it is starting until then.
    pub ready: bool,
}

/// A WAN interface's lock, held, with its socket. Dropping it removes both.
#[derive(Debug)]
pub struct Guard {
    dir: RuntimeDir,
    wan: String,
    file: File,
    listener: UnixListener,
}

impl Guard {
    /// The socket on which clients are answered.
    ///
    /// # Errors
    ///
    /// `EMFILE`: no descriptor is left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Notes that the daemon is ready.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: the file system is full.
    pub fn set_ready(&mut self) -> io::Result<()> {
        write_holder(&mut self.file, true)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // While the lock is still held: nobody else's files are removed.
        drop(fs::remove_file(self.dir.socket(&self.wan)));
        drop(fs::remove_file(self.dir.lock(&self.wan)));
        self.dir.prune();
    }
}

/// Takes the locks of all these interfaces.
///
/// # Errors
///
/// When a daemon holds one of them, or the folder for them cannot be used.
pub fn take<'a>(
    dir: &RuntimeDir,
    wans: impl IntoIterator<Item = &'a str>,
    trust: Trust,
) -> anyhow::Result<Vec<Guard>> {
    wans.into_iter()
        .map(|wan| take_one(dir, wan, trust))
        .collect()
}

fn take_one(dir: &RuntimeDir, wan: &str, trust: Trust) -> anyhow::Result<Guard> {
    for _ in 0..DYING_TRIES {
        dir.prepare(trust)?;
        match try_lock(&dir.lock(wan)) {
            Ok(Some(file)) => return guard(dir, wan, file),
            Ok(None) => thread::sleep(DYING_PAUSE),
            // Another daemon has ended and removed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot lock {}", dir.lock(wan).display()));
            }
        }
    }
    match holder(dir, wan, trust) {
        Some(holder) => bail!(
            "{wan} has a gateway already: process {} runs it; stop that first, or ask it with \
             `ftp-nat status`",
            holder.pid
        ),
        None => bail!("cannot lock {}: try again", dir.lock(wan).display()),
    }
}

fn guard(dir: &RuntimeDir, wan: &str, mut file: File) -> anyhow::Result<Guard> {
    let path = dir.socket(wan);
    let tried = || format!("cannot listen on {}", path.display());
    // That of a daemon which was killed.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(tried);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(tried)?;
    write_holder(&mut file, false)
        .with_context(|| format!("cannot write {}", dir.lock(wan).display()))?;
    Ok(Guard {
        dir: dir.clone(),
        wan: wan.to_owned(),
        file,
        listener,
    })
}

/// Locks a file, which is made if it is not there; none while another process holds the lock.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Its last holder may have removed the file before it was locked here.
    let is_current = fs::symlink_metadata(path).is_ok_and(|current| {
        file.metadata()
            .is_ok_and(|locked| (locked.dev(), locked.ino()) == (current.dev(), current.ino()))
    });
    Ok(is_current.then_some(file))
}

fn write_holder(file: &mut File, ready: bool) -> io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        ready,
    };
    let text = serde_json::to_vec(&holder)?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)
}

/// The daemon that holds an interface's lock, if one does.
pub fn holder(dir: &RuntimeDir, wan: &str, trust: Trust) -> Option<Holder> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.lock(wan))
        .ok()?;
    if !trust.believes(file.metadata().ok()?.uid()) {
        return None;
    }
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => {}
        // It is free; closing the file releases it again.
        _ => return None,
    }
    let mut text = String::new();
    file.take(CONTENT_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

    /// A folder of a test's own.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            Self(path)
        }

        fn dir(&self) -> RuntimeDir {
            RuntimeDir::below(&self.0, "7")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_lock_is_held_once_and_its_holder_known() {
        let scratch = Scratch::new("lock-once");
        let (dir, trust) = (scratch.dir(), Trust::minimal());
        let mut guards = take(&dir, ["wan"], trust).unwrap();
        assert!(dir.wans().contains("wan"));
        let pid = std::process::id();
        assert_eq!(
            holder(&dir, "wan", trust),
            Some(Holder { pid, ready: false })
        );
        guards[0].set_ready().unwrap();
        assert_eq!(
            holder(&dir, "wan", trust),
            Some(Holder { pid, ready: true })
        );
        let error = take(&dir, ["wan"], trust).unwrap_err().to_string();
        assert!(error.contains(&pid.to_string()), "{error}");
        drop(guards);
        assert_eq!(holder(&dir, "wan", trust), None);
        assert!(!scratch.0.exists(), "nothing is left behind");
        take(&dir, ["wan"], trust).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let scratch = Scratch::new("lock-writable");
        fs::create_dir(&scratch.0).unwrap();
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
        let error = take(&scratch.dir(), ["wan"], Trust::minimal()).unwrap_err();
        assert!(
            error.to_string().contains("nobody else may write"),
            "{error}"
        );
    }
}
