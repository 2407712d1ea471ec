//! Building for arm64: Debian's rustc, the standard library of its arm64 package, and gcc to link.

use std::{path::PathBuf, process::Command};

use crate::{
    apt::{self, Installing},
    command::{cargo, forget_compiler},
    packages::Packages,
    workspace::Workspace,
};

/// As the compiler calls arm64.
pub(crate) const TARGET: &str = "aarch64-unknown-linux-gnu";

const RUSTC: &str = "/usr/bin/rustc";
const GCC: &str = "aarch64-linux-gnu-gcc";

/// What has to be installed: it runs on this machine.
const PACKAGES: [&str; 3] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "rustc-web",
];

/// A compiler for arm64.
pub(crate) struct Compiler {
    sysroot: PathBuf,
    /// Where what it builds goes: another compiler than that of this machine's own builds.
    target: PathBuf,
}

impl Compiler {
    /// Installs what is missing, and unpacks the standard library.
    ///
    /// # Errors
    ///
    /// When something cannot be had.
    pub(crate) fn get(workspace: &Workspace, installing: Installing) -> anyhow::Result<Self> {
        apt::require(workspace, installing, &PACKAGES, "building for arm64")?;
        let folder = workspace.target.join("arm64/std");
        Packages::arm64(workspace, installing).unpack(
            &["libstd-rust-web-dev"],
            false,
            &folder,
            |_| Ok(()),
        )?;
        Ok(Self {
            sysroot: folder.join("usr"),
            target: workspace.target.join("arm64/build"),
        })
    }

    /// A cargo that builds for arm64, `flags` being more of the compiler's.
    pub(crate) fn cargo(&self, command: &str, flags: &[String]) -> Command {
        let mut cargo = cargo();
        forget_compiler(&mut cargo);
        let variable = TARGET.to_uppercase().replace('-', "_");
        let tool = TARGET.replace('-', "_");
        let mut all = vec!["--sysroot".to_owned(), self.sysroot.display().to_string()];
        all.extend(flags.iter().cloned());
        cargo
            .args([command, "--target", TARGET])
            .env("RUSTC", RUSTC)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}"))
            .env(format!("CARGO_TARGET_{variable}_LINKER"), GCC)
            // For what crates compile of C and assembly.
            .env(format!("CC_{tool}"), GCC)
            .env(format!("AR_{tool}"), "aarch64-linux-gnu-ar");
        cargo
    }

    /// Where a release build leaves a program.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.target.join(TARGET).join("release").join(name)
    }
}
