//! The network namespaces that are alive on this machine.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::namespace;

/// Where `ip netns` keeps its namespaces.
const NAMED: &str = "/run/netns";

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its number: see [`namespace::cookie`].
    pub cookie: u64,
    /// The name that `ip netns` has for it, or one of its processes; none for this process' own.
    pub name: Option<String>,
    path: PathBuf,
}

impl Namespace {
    /// Does some work inside, on a thread of its own.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_SYS_ADMIN. `ENOENT`: the namespace has gone.
    ///
    /// # Panics
    ///
    /// When the work panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        inside(&self.path, work)
    }
}

fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(path)?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// All that can be found: this process' own, those that `ip netns` knows, those that are mounted
/// somewhere, and those of all processes. One that only an open file keeps alive is not found.
///
/// # Errors
///
/// `EPERM`: entering another namespace to read its number takes CAP_SYS_ADMIN.
pub fn living() -> anyhow::Result<Vec<Namespace>> {
    let own = PathBuf::from("/proc/self/ns/net");
    let mut seen = HashSet::new();
    let mut found = vec![Namespace {
        cookie: namespace::cookie()?,
        name: None,
        path: own.clone(),
    }];
    seen.extend(identity(&own));
    for (name, path) in named().chain(mounted()).chain(of_processes()) {
        let Some(identity) = identity(&path) else {
            continue;
        };
        if !seen.insert(identity) {
            continue;
        }
        match inside(&path, namespace::cookie) {
            Ok(cookie) => found.push(Namespace {
                cookie: cookie?,
                name: Some(name),
                path,
            }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(error).with_context(|| {
                    format!(
                        "cannot enter the network namespace {} to read its number: that takes \
                         CAP_SYS_ADMIN, run it as root",
                        path.display()
                    )
                });
            }
            // It has gone meanwhile.
            Err(_) => {}
        }
    }
    Ok(found)
}

/// What tells namespaces apart while they live: the file's device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn named() -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, entry.path())
    })
}

/// Mounts of `nsfs`, which keep a namespace alive without a process (proc_pid_mountinfo(5)).
fn mounted() -> impl Iterator<Item = (String, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (root, point) = (words.nth(3)?, words.next()?);
            root.starts_with("net:[")
                .then(|| (point.to_owned(), PathBuf::from(point)))
        })
        .collect();
    found.into_iter()
}

fn of_processes() -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((format!("process {pid}"), entry.path().join("ns/net")))
    })
}
