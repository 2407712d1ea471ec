//! The eBPF object: compiled for the kernel's virtual machine, with its BTF.

mod linker;
mod toolchain;

use std::{env, path::PathBuf, process::Command};

use anyhow::bail;

use self::toolchain::{TARGET, Toolchain};
use crate::{apt::Installing, command::run, progress::step, workspace::Workspace};

/// A crate that becomes an object for the kernel.
#[derive(Clone, Copy)]
pub(crate) enum Crate {
    /// The datapath.
    Datapath,
    /// What the benchmark runs in the kernel.
    Bench,
}

impl Crate {
    /// Its name, which is that of the object too.
    const fn name(self) -> &'static str {
        match self {
            Self::Datapath => "ftp-nat-ebpf",
            Self::Bench => "ftp-nat-bench-ebpf",
        }
    }
}

/// Builds the object and gives its path.
pub(crate) fn build(
    workspace: &Workspace,
    installing: Installing,
    of: Crate,
) -> anyhow::Result<PathBuf> {
    let toolchain = Toolchain::choose(workspace, installing)?;
    let linker = linker::find_or_build(workspace, installing, &toolchain)?;
    step(&format!("{}, with {toolchain}", of.name()), || {
        let mut cargo = toolchain.cargo();
        cargo.args(["build", "--quiet"]);
        select(&mut cargo, workspace, &toolchain, of);
        cargo.env(
            format!(
                "CARGO_TARGET_{}_LINKER",
                TARGET.to_uppercase().replace('-', "_")
            ),
            &linker,
        );
        run(&mut cargo)
    })?;
    let object = object(workspace, of);
    if !object.exists() {
        bail!("cargo built {} but left no {}", of.name(), object.display());
    }
    Ok(object)
}

/// Where [`build`] leaves the object.
pub(crate) fn object(workspace: &Workspace, of: Crate) -> PathBuf {
    workspace
        .bpf_target()
        .join(TARGET)
        .join("release")
        .join(of.name())
}

/// Runs clippy on the eBPF crates, with warnings denied.
pub(crate) fn clippy(workspace: &Workspace, installing: Installing) -> anyhow::Result<()> {
    let toolchain = Toolchain::choose(workspace, installing)?;
    for of in [Crate::Datapath, Crate::Bench] {
        let mut clippy = toolchain.clippy(workspace, installing)?;
        step(&format!("clippy of {} for {TARGET}", of.name()), || {
            clippy.arg("--quiet");
            select(&mut clippy, workspace, &toolchain, of);
            clippy.args(["--", "--deny", "warnings"]);
            run(&mut clippy)
        })?;
    }
    Ok(())
}

/// What to compile, how and whither: the same for a build and for clippy.
fn select(cargo: &mut Command, workspace: &Workspace, toolchain: &Toolchain, of: Crate) {
    cargo
        .current_dir(&workspace.root)
        .args(["--release", "--locked", "--package", of.name()])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(workspace.bpf_target())
        .args(toolchain.std_arguments())
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace));
}

/// `--btf` makes the linker turn debug information into the kernel's type information. Without
/// `--disable-expand-memcpy-in-order` every zeroed or copied struct is a call of a loop over its
/// bytes, which the verifier follows round by round: that alone was 45 in 100 of all that it
/// verified. v3 has the atomic and 32-bit instructions (Linux 5.12), and remapped paths keep this
/// machine's folders out of the object. Joined the way `CARGO_ENCODED_RUSTFLAGS` wants it, which allows blanks in paths.
fn rustflags(workspace: &Workspace) -> String {
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
    ];
    flags.extend(remapped_paths(workspace));
    flags.join("\u{1f}")
}

/// The compiler's flags that keep this machine's folders out of what it makes.
pub(crate) fn remapped_paths(workspace: &Workspace) -> Vec<String> {
    let mut flags = vec![format!(
        "--remap-path-prefix={}=.",
        workspace.root.display()
    )];
    if let Some(cargo_home) = cargo_home() {
        flags.push(format!(
            "--remap-path-prefix={}=cargo",
            cargo_home.display()
        ));
    }
    flags
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}
