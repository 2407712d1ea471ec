//! The release binary: the daemon with the eBPF object inside.

use std::path::PathBuf;

use anyhow::bail;

use crate::{
    apt::Installing,
    command::{cargo, run},
    ebpf,
    progress::step,
    workspace::Workspace,
};

/// Tells the build script of `ftp-nat` which object to include.
pub(crate) const OBJECT_VARIABLE: &str = "FTP_NAT_EBPF_OBJECT";

/// Builds `target/release/ftp-nat` and gives its path.
pub(crate) fn release(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let object = ebpf::build(workspace, installing, ebpf::Crate::Datapath)?;
    step("ftp-nat, release", || {
        run(cargo()
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--package",
                "ftp-nat",
            ])
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env(OBJECT_VARIABLE, &object))
    })?;
    let binary = workspace.target.join("release/ftp-nat");
    if !binary.exists() {
        bail!("cargo built ftp-nat but left no {}", binary.display());
    }
    Ok(binary)
}
