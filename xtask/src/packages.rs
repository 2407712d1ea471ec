//! Debian's packages for another architecture or of another release than this machine's, by lists of
//! their own: neither dpkg's architectures nor apt's lists of this machine are changed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    apt::{self, Installing},
    command::{output, program},
    progress::step,
    workspace::Workspace,
};

/// As `dpkg-deb --extract`, but that a link to a folder stays what it is.
const EXTRACT: &str = "dpkg-deb --fsys-tarfile \"$1\" | \
                       tar --extract --keep-directory-symlink --directory \"$2\"";

/// What apt offers of one kind.
pub(crate) struct Packages<'w> {
    workspace: &'w Workspace,
    /// As people say it: "arm64", "Debian 11".
    kind: &'static str,
    /// As Debian calls it.
    architecture: &'static str,
    /// Debian's release; none: where this machine's own packages come from.
    release: Option<&'static str>,
    /// The folder with apt's lists, what it has downloaded, and a list of installed packages that
    /// is empty.
    state: PathBuf,
    installing: Installing,
}

impl<'w> Packages<'w> {
    /// Those for arm64. Nothing is fetched before something is asked for.
    pub(crate) fn arm64(workspace: &'w Workspace, installing: Installing) -> Self {
        Self {
            workspace,
            kind: "arm64",
            architecture: "arm64",
            release: None,
            state: workspace.target.join("arm64/apt"),
            installing,
        }
    }

    /// Those of Debian 11 for x86-64.
    pub(crate) fn debian_11(workspace: &'w Workspace, installing: Installing) -> Self {
        Self {
            workspace,
            kind: "Debian 11",
            architecture: "amd64",
            release: Some("bullseye"),
            state: workspace.target.join("vm/debian-11"),
            installing,
        }
    }

    /// Unpacks `packages`, and what they depend on if `with_dependencies`, into `folder`, unless it is
    /// there; it appears only when it is complete. `finish` has the last word on what is in it.
    ///
    /// # Errors
    ///
    /// When a package cannot be had, or may not be downloaded.
    pub(crate) fn unpack(
        &self,
        packages: &[&str],
        with_dependencies: bool,
        folder: &Path,
        finish: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        self.update_once()?;
        step(
            &format!(
                "unpacking packages of {} into {} (nothing is installed): {}",
                self.kind,
                self.workspace.relative(folder),
                packages.join(" ")
            ),
            || {
                let partial = folder.with_extension("partial");
                if partial.exists() {
                    fs::remove_dir_all(&partial)?;
                }
                let archives = self.archives();
                if archives.exists() {
                    fs::remove_dir_all(&archives)?;
                }
                fs::create_dir_all(archives.join("partial"))?;
                fs::create_dir_all(&partial)?;
                merge_usr(&partial)?;
                if with_dependencies {
                    output(
                        self.apt("apt-get")
                            .args(["install", "--yes", "--download-only"])
                            .args(packages),
                    )?;
                } else {
                    output(
                        self.apt("apt-get")
                            .arg("download")
                            .args(packages)
                            .current_dir(&archives),
                    )?;
                }
                for archive in fs::read_dir(&archives)? {
                    let archive = archive?.path();
                    if archive.extension().is_some_and(|end| end == "deb") {
                        output(
                            program("sh")
                                .args(["-c", EXTRACT, "sh"])
                                .args([&archive, &partial]),
                        )?;
                    }
                }
                fs::remove_dir_all(&archives)?;
                finish(&partial)?;
                fs::rename(&partial, folder)
                    .with_context(|| format!("cannot make {}", folder.display()))
            },
        )
    }

    /// The names of all packages that begin with `begin`.
    ///
    /// # Errors
    ///
    /// When the lists cannot be fetched.
    pub(crate) fn names(&self, begin: &str) -> anyhow::Result<String> {
        self.update_once()?;
        output(self.apt("apt-cache").args(["pkgnames", begin]))
    }

    /// Whether there is a version of a package to download.
    pub(crate) fn offers(&self, package: &str) -> bool {
        apt::has_candidate(&mut self.apt("apt-cache"), package)
    }

    /// Fetches the lists, unless they are there.
    fn update_once(&self) -> anyhow::Result<()> {
        let done = self.state.join("updated");
        if done.exists() {
            return Ok(());
        }
        let kind = self.kind;
        if !apt::available() {
            bail!("{kind} takes Debian's packages, and this machine has no apt");
        }
        if self.installing == Installing::Forbidden {
            bail!("{kind} takes Debian's packages, and --no-install forbids fetching them");
        }
        fs::create_dir_all(self.state.join("lists/partial"))?;
        fs::write(self.state.join("status"), "")?;
        if let Some(release) = self.release {
            let (own, lines) = apt::sources()?;
            // What has been added to a release since is elsewhere, and not for every one.
            let main: Vec<_> = lines
                .lines()
                .filter(|line| line.ends_with(&format!(" {own} main")))
                .map(|line| line.replace(&format!(" {own} main"), &format!(" {release} main")))
                .collect();
            fs::write(self.sources(), main.join("\n") + "\n")?;
        }
        step(&format!("apt-get update, the lists of {kind}"), || {
            output(self.apt("apt-get").arg("update"))
        })?;
        Ok(fs::write(done, "")?)
    }

    /// The list of where packages of another release come from.
    fn sources(&self) -> PathBuf {
        self.state.join("sources.list")
    }

    fn archives(&self) -> PathBuf {
        self.state.join("cache/archives")
    }

    /// A program of apt that knows packages of this kind, and nothing of this machine but where they come
    /// from.
    fn apt(&self, name: &str) -> Command {
        let mut apt = program(name);
        for option in ["APT::Architecture", "APT::Architectures"] {
            apt.arg("-o").arg(format!("{option}={}", self.architecture));
        }
        if self.release.is_some() {
            let mut list = OsString::from("Dir::Etc::sourcelist=");
            list.push(self.sources());
            apt.arg("-o").arg(list);
            apt.args(["-o", "Dir::Etc::sourceparts=/dev/null"]);
        }
        for option in [
            "APT::Install-Recommends=false",
            "Acquire::Retries=3",
            // The folder may be where apt's own user cannot write.
            "APT::Sandbox::User=root",
        ] {
            apt.args(["-o", option]);
        }
        for (option, place) in [
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            let mut value = OsString::from(format!("{option}="));
            value.push(self.state.join(place));
            apt.arg("-o").arg(value);
        }
        apt
    }
}

/// The folders of a merged /usr, as Debian has them since 12: packages have files in both.
fn merge_usr(root: &Path) -> anyhow::Result<()> {
    for place in ["bin", "sbin", "lib"] {
        fs::create_dir_all(root.join("usr").join(place))?;
        std::os::unix::fs::symlink(format!("usr/{place}"), root.join(place))?;
    }
    Ok(())
}
