//! Where each kernel object is pinned.
//!
//! ```text
//! STATE_DIR/v<layout>/netns-<cookie>/<gateway>/maps/<map>
//!                                             /programs/<program>
//!                                             /links/<interface>:<program>     attached by TCX
//!                                             /filters/<interface>:<program>   attached by clsact
//!                                             /qdiscs/<interface>              clsact added by us
//! ```
//!
//! The layout's version comes first, so that no version ever looks at another one's maps; then the
//! network namespace; then the gateway, named after its first WAN interface. The BPF file system
//! allows no dots in names and interfaces no colons: names are escaped.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use ftp_nat_common::abi::LAYOUT;

use super::program::Program;
use crate::kernel::{bpffs, namespace};

/// What a gateway's folder holds.
const FOLDERS: [&str; 5] = ["maps", "programs", "links", "filters", "qdiscs"];

/// All gateways of one network namespace.
#[derive(Clone, Debug)]
pub struct Pins {
    state_dir: PathBuf,
    namespace: String,
}

/// One gateway: what one daemon loads, for one or more WAN interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    name: String,
    dir: PathBuf,
}

/// Attached how, as the folder of its pins is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// TCX links.
    Links,
    /// Programs in clsact filters.
    Filters,
}

impl Folder {
    const fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Filters => "filters",
        }
    }
}

impl Pins {
    /// Those of this process' network namespace.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell the namespace, or the folder is a path without meaning.
    pub fn here(state_dir: &Path) -> anyhow::Result<Self> {
        let state_dir = std::path::absolute(state_dir)
            .with_context(|| format!("{} is no folder", state_dir.display()))?;
        Ok(Self {
            state_dir,
            namespace: format!("netns-{}", namespace::cookie()?),
        })
    }

    /// Those of every network namespace that has any, this process' own included, with the
    /// namespaces' numbers.
    ///
    /// # Errors
    ///
    /// When the folder is a path without meaning.
    pub fn of_all_namespaces(state_dir: &Path) -> anyhow::Result<Vec<(u64, Self)>> {
        let state_dir = std::path::absolute(state_dir)
            .with_context(|| format!("{} is no folder", state_dir.display()))?;
        let versions = names(&state_dir);
        let namespaces: BTreeSet<_> = versions
            .iter()
            .filter(|version| version.starts_with('v'))
            .flat_map(|version| names(&state_dir.join(version)))
            .filter_map(|name| name.strip_prefix("netns-")?.parse::<u64>().ok())
            .collect();
        Ok(namespaces
            .into_iter()
            .map(|cookie| {
                let pins = Self {
                    state_dir: state_dir.clone(),
                    namespace: format!("netns-{cookie}"),
                };
                (cookie, pins)
            })
            .collect())
    }

    /// The same pins as another process sees them.
    #[must_use]
    pub fn seen_by(&self, pid: u32) -> Self {
        Self {
            state_dir: bpffs::seen_by(pid, &self.state_dir),
            namespace: self.namespace.clone(),
        }
    }

    /// The folder that the operator named.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The network namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn dir(&self, version: &str) -> PathBuf {
        self.state_dir.join(version).join(&self.namespace)
    }

    /// The gateway of this name, there or not.
    pub fn gateway(&self, name: &str) -> Gateway {
        Gateway {
            name: name.to_owned(),
            dir: self.dir(&this_version()).join(escape(name)),
        }
    }

    /// Those that are there, by name.
    ///
    /// # Errors
    ///
    /// When the folder may not be read.
    pub fn gateways(&self) -> anyhow::Result<Vec<Gateway>> {
        let dir = self.dir(&this_version());
        // Where a folder above may not be searched, this one only seems not to be there.
        for above in dir.ancestors() {
            match fs::read_dir(above) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(error).with_context(|| format!("cannot read {}", above.display()));
                }
                _ if above == self.state_dir => break,
                _ => {}
            }
        }
        let mut found: Vec<_> = names(&dir).iter().map(|name| self.gateway(name)).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The gateways that other versions of ftp-nat have left: what is in their maps cannot be read,
    /// but what is attached is found as ever.
    pub fn of_other_versions(&self) -> Vec<Gateway> {
        self.versions()
            .iter()
            .filter(|version| **version != this_version())
            .flat_map(|version| {
                let dir = self.dir(version);
                names(&dir).into_iter().map(move |name| Gateway {
                    dir: dir.join(escape(&name)),
                    name,
                })
            })
            .collect()
    }

    fn versions(&self) -> Vec<String> {
        let mut names = names(&self.state_dir);
        names.retain(|name| name.starts_with('v'));
        names
    }

    /// Removes the folders that hold nothing any more.
    pub fn prune(&self) {
        // Whichever is not empty stays.
        for version in self.versions() {
            drop(fs::remove_dir(self.dir(&version)));
            drop(fs::remove_dir(self.state_dir.join(version)));
        }
        drop(fs::remove_dir(&self.state_dir));
    }
}

impl Gateway {
    /// Its name: that of its first WAN interface when it was loaded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether anything of it is there.
    pub fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Whether all of its folders are there.
    pub fn is_whole(&self) -> bool {
        FOLDERS.iter().all(|folder| self.dir.join(folder).is_dir())
    }

    /// Makes its folders.
    ///
    /// # Errors
    ///
    /// `EACCES`: the folder belongs to another user. `ENOSPC`: no inodes left.
    pub fn create(&self) -> anyhow::Result<()> {
        for folder in FOLDERS {
            let dir = self.dir.join(folder);
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(())
    }

    /// Locks its folder until the file that comes back is closed: two daemons that see the same BPF
    /// file system never run the same gateway, even where they do not see each other's lock files.
    ///
    /// # Errors
    ///
    /// When another process holds it, or `EACCES`.
    pub fn lock(&self) -> anyhow::Result<fs::File> {
        let dir = self.dir.display();
        bpffs::lock(&self.dir)
            .with_context(|| format!("cannot lock {dir}"))?
            .with_context(|| {
                format!(
                    "another process runs the gateway that is pinned in {dir}, perhaps in a \
                     container: stop that first"
                )
            })
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// `EACCES`: the folder belongs to another user.
    pub fn remove(&self) -> anyhow::Result<()> {
        bpffs::remove(&self.dir).with_context(|| format!("cannot remove {}", self.dir.display()))
    }

    /// A map's pin.
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join("maps").join(name)
    }

    /// A program's pin.
    pub fn program(&self, program: Program) -> PathBuf {
        self.dir.join("programs").join(program.name())
    }

    /// The pin of a station: a program behind the tail calls of those at the hooks.
    pub fn station(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The folder of the programs' pins.
    pub fn programs(&self) -> PathBuf {
        self.dir.join("programs")
    }

    /// The pin of what is attached to an interface.
    pub fn hook(&self, folder: Folder, interface: &str, program: Program) -> PathBuf {
        let name = format!("{}:{}", escape(interface), program.name());
        self.dir.join(folder.name()).join(name)
    }

    /// What is pinned as attached: interface and program.
    pub fn hooks(&self, folder: Folder) -> Vec<(String, Program)> {
        let mut hooks: Vec<_> = names(&self.dir.join(folder.name()))
            .iter()
            .filter_map(|name| {
                let (interface, program) = name.split_once(':')?;
                Some((interface.to_owned(), Program::named(program)?))
            })
            .collect();
        hooks.sort();
        hooks
    }

    /// The mark of a qdisc that is ours to remove.
    pub fn qdisc(&self, interface: &str) -> PathBuf {
        self.dir.join("qdiscs").join(escape(interface))
    }

    /// Whether it is the gateway of one of these WAN interfaces; of all, where none is named.
    pub fn is_one_of(&self, wans: &[String]) -> bool {
        wans.is_empty() || self.wans().iter().any(|wan| wans.contains(wan))
    }

    /// The WAN interfaces that it was attached to, its name's one included.
    pub fn wans(&self) -> Vec<String> {
        let mut wans = vec![self.name.clone()];
        for folder in [Folder::Links, Folder::Filters] {
            for (interface, program) in self.hooks(folder) {
                let is_outside = !program.is_inside() && !program.is_xdp();
                if is_outside && !wans.contains(&interface) {
                    wans.push(interface);
                }
            }
        }
        wans
    }
}

fn this_version() -> String {
    format!("v{LAYOUT}")
}

/// The names in a folder, unescaped; none when it is not there.
fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry: io::Result<fs::DirEntry>| {
            Some(unescape(entry.ok()?.file_name().to_str()?))
        })
        .collect()
}

fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Removes a pin; that it is not there is as good.
pub(super) fn unpin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_way_through_the_file_system() {
        for name in ["eth0", "eth0.100", "a%2eb", "%", "br-lan"] {
            let escaped = escape(name);
            assert!(!escaped.contains('.'), "{escaped}");
            assert_eq!(unescape(&escaped), name);
        }
    }
}
