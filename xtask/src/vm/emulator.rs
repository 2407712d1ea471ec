//! The emulator: this machine's own, or one that is unpacked under target/ and not installed. Debian's qemu of
//! one release cannot be installed beside parts of another one's.

use std::{ffi::OsString, path::PathBuf, process::Command};

use ftp_nat_tests::unpacked::library_path;

use crate::{
    apt::{self, Installing},
    command::program,
    dist::Architecture,
    unpack,
    workspace::Workspace,
};

/// The firmware and other files that every one of them boots with.
const FILES: [&str; 4] = [
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
    "ipxe-qemu",
];

/// An emulator for an architecture.
pub(super) struct Emulator {
    program: PathBuf,
    /// Where libraries are that came with it.
    libraries: Option<OsString>,
}

impl Emulator {
    /// Finds one, or unpacks it.
    ///
    /// # Errors
    ///
    /// As [`unpack::require`].
    pub(super) fn get(
        workspace: &Workspace,
        installing: Installing,
        architecture: Architecture,
    ) -> anyhow::Result<Self> {
        let (name, package) = match architecture {
            Architecture::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Architecture::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
        };
        if apt::has_program(name) {
            return Ok(Self {
                program: name.into(),
                libraries: None,
            });
        }
        let folder = workspace.target.join("vm/emulators").join(package);
        let packages = [&[package], &FILES[..]].concat();
        unpack::require(
            workspace,
            installing,
            &folder,
            &packages,
            "a virtual machine",
        )?;
        Ok(Self {
            program: folder.join("usr/bin").join(name),
            libraries: Some(library_path(&folder)?),
        })
    }

    /// A command that starts it, and ends it with this process, however that ends.
    pub(super) fn command(&self) -> Command {
        let mut command = program("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}
