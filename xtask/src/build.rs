//! The release binary: the daemon with the eBPF object inside.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

use crate::{
    apt::Installing,
    arm64,
    command::{cargo, run},
    ebpf,
    progress::step,
    workspace::Workspace,
};

/// Tells the build script of `ftp-nat` which object to include.
pub(crate) const OBJECT_VARIABLE: &str = "FTP_NAT_EBPF_OBJECT";

/// Where [`release`] leaves the binary, whether it is there or not.
pub(crate) fn binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("release/ftp-nat")
}

/// Builds `target/release/ftp-nat` and gives its path.
pub(crate) fn release(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    compile(workspace, installing, &workspace.target, |_| ())
}

/// Builds the binary that is shipped, apart from the others: this machine's folders are not in it,
/// so that the same source gives the same bytes anywhere.
pub(crate) fn for_distribution(
    workspace: &Workspace,
    installing: Installing,
) -> anyhow::Result<PathBuf> {
    let target = workspace.target.join("dist/build");
    compile(workspace, installing, &target, |cargo| {
        // The toolchain stays the one that was chosen outside: without RUSTUP_TOOLCHAIN, rustup's
        // rustc obeys the rust-toolchain.toml of each crate that it compiles.
        cargo.env(
            "CARGO_ENCODED_RUSTFLAGS",
            ebpf::remapped_paths(workspace).join("\u{1f}"),
        );
    })
}

/// The same for arm64, whatever this machine is. The eBPF object is the same: both have their bytes
/// in the same order.
pub(crate) fn for_arm64(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let compiler = arm64::Compiler::get(workspace, installing)?;
    let cargo = compiler.cargo("build", &ebpf::remapped_paths(workspace));
    finish(
        workspace,
        installing,
        cargo,
        "ftp-nat, release for arm64",
        compiler.release("ftp-nat"),
    )
}

fn compile(
    workspace: &Workspace,
    installing: Installing,
    target: &Path,
    prepare: impl Fn(&mut Command),
) -> anyhow::Result<PathBuf> {
    let mut cargo = cargo();
    cargo.arg("build").env("CARGO_TARGET_DIR", target);
    prepare(&mut cargo);
    let binary = target.join("release/ftp-nat");
    finish(workspace, installing, cargo, "ftp-nat, release", binary)
}

/// Has this cargo build the command with the object inside, which then is `binary`.
fn finish(
    workspace: &Workspace,
    installing: Installing,
    mut cargo: Command,
    what: &str,
    binary: PathBuf,
) -> anyhow::Result<PathBuf> {
    let object = ebpf::build(workspace, installing, ebpf::Crate::Datapath)?;
    step(what, || {
        run(cargo
            .args(["--quiet", "--release", "--locked", "--package", "ftp-nat"])
            .current_dir(&workspace.root)
            .env(OBJECT_VARIABLE, &object))
    })?;
    if !binary.exists() {
        bail!("cargo built ftp-nat but left no {}", binary.display());
    }
    Ok(binary)
}
