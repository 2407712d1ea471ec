//! What must not outlive this process, and its end when a signal comes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{bpffs, netns};

/// What this process made and has not removed yet.
#[derive(Default)]
struct Made {
    namespaces: BTreeSet<String>,
    folders: BTreeSet<PathBuf>,
}

static MADE: Mutex<Made> = Mutex::new(Made {
    namespaces: BTreeSet::new(),
    folders: BTreeSet::new(),
});

fn made() -> MutexGuard<'static, Made> {
    // A panic elsewhere is exactly when the lists are needed.
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `name` goes away with this process. To be called before it is made.
pub(crate) fn adopt_namespace(name: &str) {
    start();
    made().namespaces.insert(name.to_owned());
}

/// `name` is gone.
pub(crate) fn forget_namespace(name: &str) {
    made().namespaces.remove(name);
}

/// From now on `folder` goes away with this process. To be called before it is made.
pub(crate) fn adopt_folder(folder: &Path) {
    start();
    made().folders.insert(folder.to_owned());
}

/// `folder` is gone.
pub(crate) fn forget_folder(folder: &Path) {
    made().folders.remove(folder);
}

/// Removes what dead processes left behind and starts to wait for signals; once a process.
fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        remove_stale();
        let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            Ok(signals) => signals,
            Err(error) => {
                eprintln!("lab: cannot handle signals, so Ctrl-C will leave namespaces: {error}");
                return;
            }
        };
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                remove_all();
                // As a shell reports a process that a signal ended.
                std::process::exit(128 + signal);
            }
        });
    });
}

fn remove_all() {
    // Held to the end, so that nothing new is made meanwhile.
    let mut made = made();
    for name in std::mem::take(&mut made.namespaces) {
        netns::remove(&name);
    }
    for folder in std::mem::take(&mut made.folders) {
        drop(fs::remove_dir_all(folder));
    }
}

fn remove_stale() {
    for name in netns::list() {
        if owner(&name).is_some_and(is_dead) {
            netns::remove(&name);
        }
    }
    for parent in [std::env::temp_dir(), PathBuf::from(bpffs::MOUNT_POINT)] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(owner).is_some_and(is_dead) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

/// The process that made something of this name, see [`unique_name`].
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(netns::PREFIX)?;
    rest.split('-').next()?.parse().ok()
}

fn is_dead(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// A name that no other lab has, and that tells who made it.
pub(crate) fn unique_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}{}-{}",
        netns::PREFIX,
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner(&unique_name()), Some(std::process::id()));
        assert_eq!(owner("ftpnat-lab-client"), None);
        assert_eq!(owner("something-1-client"), None);
    }
}
