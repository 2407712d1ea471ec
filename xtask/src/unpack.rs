//! Debian's packages, unpacked under target/ and not installed.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    apt::{self, Installing},
    command::{output, program},
    progress::step,
    workspace::Workspace,
};

/// Unpacks `packages`, with those libraries that this machine has not, into `folder` unless it is there.
/// `who` begins the sentence "... takes it from Debian's packages".
///
/// # Errors
///
/// Without apt, when `--no-install` forbids it, or when apt has no such package.
pub(crate) fn require(
    workspace: &Workspace,
    installing: Installing,
    folder: &Path,
    packages: &[&str],
    who: &str,
) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !apt::available() {
        bail!("{who} takes {list} from Debian's packages, and this machine has no apt");
    }
    let place = workspace.relative(folder);
    if installing == Installing::Forbidden {
        bail!("there is no {place}, and --no-install forbids fetching it: {list}");
    }
    apt::update_once(workspace);
    step(
        &format!("unpacking into {place} (nothing is installed): {list}"),
        || fetch(&with_missing_libraries(packages)?, folder),
    )
}

/// `packages` and those libraries they depend on that this machine has not.
///
/// What would be installed is apt's own answer, so that the names fit every release of Debian.
fn with_missing_libraries(packages: &[&str]) -> anyhow::Result<Vec<String>> {
    let plan = output(
        program("apt-get")
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(packages),
    )?;
    // "Inst libwrap0 (7.6.q-32 Debian:12.10/stable [amd64])"
    let libraries = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        // What a web page is made of is none.
        .filter(|name| name.starts_with("lib") && !name.starts_with("libjs-"));
    let wanted = packages.iter().copied().chain(libraries);
    Ok(wanted.map(str::to_owned).collect())
}

/// Downloads `packages` and unpacks them into `folder`, which appears only when it is complete.
fn fetch(packages: &[String], folder: &Path) -> anyhow::Result<()> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let archives = partial.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("cannot make {}", archives.display()))?;
    output(
        program("apt-get")
            .args(["-o", "Acquire::Retries=3", "download"])
            .args(packages)
            .current_dir(&archives),
    )?;
    for archive in fs::read_dir(&archives)? {
        output(
            program("dpkg-deb")
                .arg("--extract")
                .arg(archive?.path())
                .arg(&partial),
        )?;
    }
    fs::remove_dir_all(&archives)?;
    fs::rename(&partial, folder).with_context(|| format!("cannot make {}", folder.display()))
}
