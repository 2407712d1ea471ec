//! Debian's kernels: which there are, downloaded and unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{
    apt::{self, Installing},
    command::{output, program, run},
    dist::Architecture,
    packages::Packages,
    progress::step,
    workspace::Workspace,
};

/// A kernel as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Choice {
    /// Debian 11's own, which lacks what ftp-nat needs; for the scene `lacking`
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// The one that Debian 12 has beside it, Debian 13's
    #[value(name = "6.12")]
    V6_12,
    /// The real-time variant of 6.1
    #[value(name = "6.1-rt")]
    V6_1Rt,
    /// The real-time variant of 6.12
    #[value(name = "6.12-rt")]
    V6_12Rt,
    /// Debian 12's own for 64-bit Arm
    #[value(name = "arm64")]
    Arm64,
    /// Each of them but 5.10
    All,
}

impl Choice {
    /// All kernels that ftp-nat runs on.
    const KERNELS: [Self; 5] = [
        Self::V6_1,
        Self::V6_12,
        Self::V6_1Rt,
        Self::V6_12Rt,
        Self::Arm64,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What its packages' names begin and end with; between them is Debian's number of the version.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::V5_10 => ("linux-image-5.10.", "-amd64"),
            Self::V6_1 | Self::All => ("linux-image-6.1.", "-amd64"),
            Self::V6_12 => ("linux-image-6.12.", "-amd64"),
            Self::V6_1Rt => ("linux-image-6.1.", "-rt-amd64"),
            Self::V6_12Rt => ("linux-image-6.12.", "-rt-amd64"),
            Self::Arm64 => ("linux-image-6.1.", "-arm64"),
        }
    }

    /// The machines that it is for.
    pub(super) const fn architecture(self) -> Architecture {
        match self {
            Self::Arm64 => Architecture::Arm64,
            _ => Architecture::Amd64,
        }
    }

    /// Whether it is 6.1, which has no TCX and does not say who sends XDP's frames.
    pub(super) const fn is_6_1(self) -> bool {
        matches!(self, Self::V6_1 | Self::V6_1Rt | Self::Arm64)
    }
}

/// The kernels that were asked for, each once, `all` being what it says.
pub(crate) fn chosen(asked: &[Choice]) -> Vec<Choice> {
    if asked.contains(&Choice::All) {
        return Choice::KERNELS.to_vec();
    }
    let mut kernels = asked.to_vec();
    kernels.sort_unstable();
    kernels.dedup();
    kernels
}

/// A kernel and its modules, unpacked.
pub(crate) struct Kernel {
    /// What the command line calls it.
    pub(crate) choice: Choice,
    /// What it calls itself: `6.1.0-56-amd64`.
    pub(crate) release: String,
    /// The folder that has `boot` and `lib/modules`.
    pub(crate) root: PathBuf,
}

impl Kernel {
    /// The kernel that was unpacked before; else the newest that apt offers.
    ///
    /// # Errors
    ///
    /// When apt has none, or it may not be downloaded.
    pub(crate) fn get(
        workspace: &Workspace,
        installing: Installing,
        choice: Choice,
    ) -> anyhow::Result<Self> {
        let root = workspace.target.join("vm/kernels").join(choice.name());
        if !root.is_dir() {
            match choice {
                Choice::V5_10 => {
                    let packages = Packages::debian_11(workspace, installing);
                    unpack_from(&packages, choice, &root)?;
                }
                Choice::Arm64 => {
                    let packages = Packages::arm64(workspace, installing);
                    unpack_from(&packages, choice, &root)?;
                }
                _ => unpack(workspace, installing, choice, &root)?,
            }
        }
        let release = only_entry(&root.join("lib/modules"))?;
        Ok(Self {
            choice,
            release,
            root,
        })
    }

    /// The file that qemu boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.root
            .join("boot")
            .join(format!("vmlinuz-{}", self.release))
    }

    /// The files of `modules` and of all that they need, in the order in which to load them.
    pub(crate) fn modules(&self, modules: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for module in modules {
            // "insmod /.../virtio.ko", or "builtin virtio"
            let plan = output(
                program("modprobe")
                    .args([
                        "--show-depends",
                        "--set-version",
                        &self.release,
                        "--dirname",
                    ])
                    .arg(&self.root)
                    .arg(module),
            )?;
            let needed = plan
                .lines()
                .filter_map(|line| line.strip_prefix("insmod "))
                .filter_map(|line| line.split_whitespace().next())
                .map(PathBuf::from);
            for file in needed {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The newest package of a kernel, by Debian's own order of versions, among `names`. A name may be
/// known only because another package mentions it: `offers` says whether it can be had.
fn newest(choice: Choice, names: &str, offers: impl Fn(&str) -> bool) -> anyhow::Result<String> {
    let (begin, end) = choice.package();
    let mut packages: Vec<(Vec<u32>, &str)> = names
        .lines()
        .filter_map(|name| Some((version(name.strip_prefix(begin)?.strip_suffix(end)?)?, name)))
        .collect();
    packages.sort();
    packages
        .iter()
        .rev()
        .map(|(_, name)| (*name).to_owned())
        .find(|name| offers(name))
        .with_context(|| {
            format!("apt offers no package {begin}*{end}: Debian's own sources have them")
        })
}

/// The numbers of a version, "0-56" or "117+deb12". None for a word that is another variant's, as in
/// "0-56-cloud".
fn version(text: &str) -> Option<Vec<u32>> {
    let (numbers, others): (Vec<_>, Vec<_>) = text
        .split(['.', '-', '+'])
        .partition(|word| word.parse::<u32>().is_ok());
    let is_plain = others.iter().all(|word| word.starts_with("deb"));
    is_plain.then(|| numbers.iter().filter_map(|it| it.parse().ok()).collect())
}

/// Downloads the newest package of a kernel among packages of another kind, and unpacks it into `root`.
fn unpack_from(packages: &Packages<'_>, choice: Choice, root: &Path) -> anyhow::Result<()> {
    let names = packages.names(choice.package().0)?;
    let package = newest(choice, &names, |name| packages.offers(name))?;
    packages.unpack(&[&package], false, root, list_modules)
}

/// Downloads the newest package of a kernel of this machine's own release and unpacks it into `root`,
/// which appears only when it is complete.
fn unpack(
    workspace: &Workspace,
    installing: Installing,
    choice: Choice,
    root: &Path,
) -> anyhow::Result<()> {
    if installing == Installing::Forbidden {
        bail!(
            "Linux {} is not unpacked in {}, and --no-install forbids downloading it",
            choice.name(),
            workspace.relative(root)
        );
    }
    apt::update_once(workspace);
    let names = output(program("apt-cache").args(["pkgnames", choice.package().0]))?;
    let package = newest(choice, &names, apt::offers)?;
    let what = format!(
        "unpacking into {} (nothing is installed): {package}",
        workspace.relative(root)
    );
    step(&what, || {
        let partial = root.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot make {}", partial.display()))?;
        output(
            program("apt-get")
                .args(["-o", "Acquire::Retries=3", "download", &package])
                .current_dir(&partial),
        )?;
        let archive = partial.join(only_entry(&partial)?);
        run(program("dpkg-deb")
            .arg("--extract")
            .arg(&archive)
            .arg(&partial))?;
        fs::remove_file(&archive)?;
        list_modules(&partial)?;
        fs::rename(&partial, root).with_context(|| format!("cannot make {}", root.display()))
    })
}

/// Writes down which module needs which: the package's own script would do so.
fn list_modules(root: &Path) -> anyhow::Result<()> {
    let release = only_entry(&root.join("lib/modules"))?;
    run(program("depmod").arg("--basedir").arg(root).arg(&release))
}

/// The name of the one file or folder in `folder`.
fn only_entry(folder: &Path) -> anyhow::Result<String> {
    let entries: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .collect::<Result<_, _>>()?;
    let [entry] = &entries[..] else {
        bail!(
            "{} has {} entries, not one",
            folder.display(),
            entries.len()
        );
    };
    Ok(entry.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_a_kind_is_chosen() {
        let names = "linux-image-6.1.0-9-amd64\nlinux-image-6.1.0-56-amd64\n\
                     linux-image-6.1.0-57-amd64\nlinux-image-6.1.0-58-cloud-amd64\n\
                     linux-image-6.1.0-59-rt-amd64\nlinux-image-6.1.0-60-amd64-unsigned";
        let all = |choice| newest(choice, names, |name| !name.contains("-57-")).unwrap();
        assert_eq!(all(Choice::V6_1), "linux-image-6.1.0-56-amd64");
        assert_eq!(all(Choice::V6_1Rt), "linux-image-6.1.0-59-rt-amd64");
        assert!(newest(Choice::V6_12, names, |_| true).is_err());
    }
}
