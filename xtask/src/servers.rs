//! The lab's servers, FTP's, Prometheus, Redis, keepalived, a reader of xferlog and FileZilla, unpacked under target/ and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{
    filezilla, fleet, prometheus,
    server::{Kind, OPENSSL},
    xferlog,
};

use crate::{
    apt::{self, Installing},
    command::{output, program},
    progress::step,
    workspace::Workspace,
};

/// Unpacks the servers that are not there yet and gives the folder with all of them.
pub(crate) fn unpack(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let servers = workspace.target.join("lab/servers");
    let others = [
        OPENSSL,
        (prometheus::NAME, &[prometheus::NAME][..]),
        (fleet::REDIS, fleet::REDIS_PACKAGES),
        (fleet::KEEPALIVED, &[fleet::KEEPALIVED][..]),
        (fleet::kernel::CONNTRACKD, &[fleet::kernel::CONNTRACKD][..]),
        (xferlog::NAME, &[xferlog::NAME][..]),
        (filezilla::NAME, filezilla::PACKAGES),
    ];
    let kinds = Kind::ALL.iter().map(|kind| (kind.name(), kind.packages()));
    for (name, packages) in kinds.chain(others) {
        let folder = servers.join(name);
        if folder.is_dir() {
            continue;
        }
        if !apt::available() {
            bail!("the lab takes {name} from Debian's packages, and this machine has no apt");
        }
        if installing == Installing::Forbidden {
            bail!(
                "{name} is not unpacked under {}, and --no-install forbids fetching it",
                workspace.relative(&servers)
            );
        }
        apt::update_once(workspace);
        step(
            &format!(
                "unpacking into {} (nothing is installed): {}",
                workspace.relative(&folder),
                packages.join(" ")
            ),
            || fetch(&with_missing_libraries(packages)?, &folder),
        )?;
    }
    Ok(servers)
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
