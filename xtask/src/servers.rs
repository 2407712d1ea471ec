//! The lab's FTP servers, unpacked under target/ and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::server::Kind;

use crate::{
    apt::{self, Installing},
    command::{output, program},
    progress::step,
    workspace::Workspace,
};

/// Unpacks the servers that are not there yet and gives the folder with all of them.
pub(crate) fn unpack(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let servers = workspace.target.join("lab/servers");
    for kind in Kind::ALL {
        let folder = servers.join(kind.name());
        if folder.is_dir() {
            continue;
        }
        if !apt::available() {
            bail!(
                "the lab takes {} from Debian's packages, and this machine has no apt",
                kind.name()
            );
        }
        if installing == Installing::Forbidden {
            bail!(
                "{} is not unpacked under {}, and --no-install forbids fetching it",
                kind.name(),
                workspace.relative(&servers)
            );
        }
        apt::update_once(workspace);
        let packages = kind.packages();
        step(
            &format!(
                "unpacking into {} (nothing is installed): {}",
                workspace.relative(&folder),
                packages.join(" ")
            ),
            || fetch(packages, &folder),
        )?;
    }
    Ok(servers)
}

/// Downloads `packages` and unpacks them into `folder`, which appears only when it is complete.
fn fetch(packages: &[&str], folder: &Path) -> anyhow::Result<()> {
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
