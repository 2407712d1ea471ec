//! The release binary: the daemon with the eBPF object inside.

use std::{path::PathBuf, process::Command};

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
    let mut cargo = cargo();
    cargo
        .arg("build")
        .env("CARGO_TARGET_DIR", &workspace.target);
    let binary = binary(workspace);
    finish(workspace, installing, cargo, "ftp-nat, release", binary)
}

/// How the C library comes with a binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linking {
    /// The machine has it.
    Dynamic,
    /// It is in the binary (static-pie): for any distribution.
    Static,
}

impl Linking {
    /// The compiler's flags for it.
    fn flags(self) -> Option<String> {
        (self == Self::Static).then(|| "-Ctarget-feature=+crt-static".to_owned())
    }
}

/// Builds the binary that is shipped, apart from the others: this machine's folders are not in it,
/// so that the same source gives the same bytes anywhere.
pub(crate) fn for_distribution(
    workspace: &Workspace,
    installing: Installing,
    linking: Linking,
) -> anyhow::Result<PathBuf> {
    // Procedural macros cannot be linked so: with a target that is named, they are built without the
    // flags. Its folder is a cache of its own.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = workspace.target.join("dist/build");
    let mut flags = ebpf::remapped_paths(workspace);
    flags.extend(linking.flags());
    let mut cargo = cargo();
    // The toolchain stays the one that was chosen outside: without RUSTUP_TOOLCHAIN, rustup's
    // rustc obeys the rust-toolchain.toml of each crate that it compiles.
    cargo
        .arg("build")
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let (what, binary) = match linking {
        Linking::Dynamic => ("ftp-nat, release", target.join("release/ftp-nat")),
        Linking::Static => {
            cargo.args(["--target", &triple]);
            let binary = target.join(&triple).join("release/ftp-nat");
            ("ftp-nat, release, static", binary)
        }
    };
    finish(workspace, installing, cargo, what, binary)
}

/// The same for arm64, whatever this machine is. The eBPF object is the same: both have their bytes
/// in the same order.
pub(crate) fn for_arm64(
    workspace: &Workspace,
    installing: Installing,
    linking: Linking,
) -> anyhow::Result<PathBuf> {
    let compiler = arm64::Compiler::get(workspace, installing)?;
    let mut flags = ebpf::remapped_paths(workspace);
    flags.extend(linking.flags());
    let mut cargo = compiler.cargo("build", &flags);
    let (what, binary) = match linking {
        Linking::Dynamic => ("ftp-nat, release for arm64", compiler.release("ftp-nat")),
        Linking::Static => {
            let target = workspace.target.join("arm64/static");
            cargo.env("CARGO_TARGET_DIR", &target);
            let binary = target.join(arm64::TARGET).join("release/ftp-nat");
            ("ftp-nat, release for arm64, static", binary)
        }
    };
    finish(workspace, installing, cargo, what, binary)
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
