//! The files that a machine has: this machine's own, or, for another architecture, a Debian of that
//! architecture, unpacked and never set up.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::kernel::Kernel;
use crate::{
    apt::Installing,
    command::{output, program},
    dist::Architecture,
    packages::Packages,
    workspace::Workspace,
};

/// What the machine's own scripts run, beside what the lab runs.
const BASE: [&str; 12] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "kmod",
    "mount",
    "procps",
    "sed",
    "util-linux",
];

/// A machine's files.
pub(super) struct Userland {
    /// What becomes its root.
    pub(super) root: PathBuf,
    /// A folder of this machine that it has at the same place, unless the root has it anyway.
    pub(super) folder: Option<PathBuf>,
    /// A busybox of its architecture that needs no libraries.
    pub(super) busybox: PathBuf,
}

impl Userland {
    /// That of this kernel's machines.
    ///
    /// # Errors
    ///
    /// When packages cannot be had.
    pub(super) fn get(
        workspace: &Workspace,
        installing: Installing,
        kernel: &Kernel,
    ) -> anyhow::Result<Self> {
        match kernel.choice.architecture() {
            Architecture::Amd64 => {
                let busybox = output(program("sh").args(["-c", "command -v busybox"]))?;
                Ok(Self {
                    root: PathBuf::from("/"),
                    folder: None,
                    busybox: PathBuf::from(busybox.trim()),
                })
            }
            Architecture::Arm64 => of_arm64(workspace, installing),
        }
    }
}

fn of_arm64(workspace: &Workspace, installing: Installing) -> anyhow::Result<Userland> {
    let packages = Packages::arm64(workspace, installing);
    let here = workspace.target.join("arm64");
    let busybox = here.join("busybox");
    packages.unpack(&["busybox-static"], false, &busybox, |_| Ok(()))?;
    let root = here.join("root");
    // vsftpd for the libraries that it needs: it runs from a folder of its own.
    let mut wanted = vec!["vsftpd"];
    wanted.extend(BASE);
    wanted.extend(ftp_nat_tests::PROGRAMS.iter().map(|(_, package)| *package));
    packages.unpack(&wanted, true, &root, set_up)?;
    Ok(Userland {
        root,
        folder: Some(workspace.target.clone()),
        busybox: busybox.join("usr/bin/busybox"),
    })
}

/// What the packages' own scripts would have done, as far as the scenes need it.
fn set_up(root: &Path) -> anyhow::Result<()> {
    for list in ["passwd", "group"] {
        let master = root.join(format!("usr/share/base-passwd/{list}.master"));
        fs::copy(&master, root.join("etc").join(list))
            .with_context(|| format!("base-passwd has no {}", master.display()))?;
    }
    for (place, program) in [
        ("usr/bin/sh", "dash"),
        ("usr/sbin/iptables-restore", "xtables-nft-multi"),
        ("usr/sbin/iptables", "xtables-nft-multi"),
    ] {
        let place = root.join(place);
        if !place.exists() {
            symlink(program, &place)?;
        }
    }
    for place in ["dev", "proc", "sys", "run", "tmp", "mnt", "root"] {
        fs::create_dir_all(root.join(place))?;
    }
    Ok(())
}
