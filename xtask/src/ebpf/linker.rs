//! bpf-linker, which makes one BPF object of LLVM bitcode.

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};

use super::toolchain::Toolchain;
use crate::{
    apt::{self, Installing},
    cargo_tools::CargoTool,
    workspace::Workspace,
};

const VERSION: &str = "0.13.0";
/// The versions of LLVM that [`VERSION`] can be built with.
const LLVM_MAJORS: [&str; 3] = ["21", "22", "23"];

/// A linker for `toolchain`'s bitcode: the one under target/, built when it is not there.
///
/// The linker must read what the compiler wrote, and LLVM refuses the bitcode of a newer LLVM even
/// when only the minor version differs. So it is built against the compiler's own LLVM.
pub(crate) fn find_or_build(
    workspace: &Workspace,
    installing: Installing,
    toolchain: &Toolchain,
) -> anyhow::Result<PathBuf> {
    let variant = format!("LLVM {}", toolchain.llvm());
    let linker = CargoTool {
        name: "bpf-linker",
        version: VERSION,
        variant: &variant,
    };
    if let Some(program) = linker.find(workspace) {
        return Ok(program);
    }

    let major = toolchain.llvm_major();
    if !LLVM_MAJORS.contains(&major) {
        bail!(
            "{toolchain} needs a bpf-linker for LLVM {major}, but bpf-linker {VERSION} knows only {}",
            LLVM_MAJORS.join(", ")
        );
    }
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if !prefix.join("bin/llvm-config").exists() {
        let package = format!("llvm-{major}-dev");
        if !apt::available() || !apt::offers(&package) {
            return linker_from_path(toolchain);
        }
        apt::require(workspace, installing, &[&package], "bpf-linker")?;
    }

    linker.find_or_build(workspace, |cargo| {
        let mut path = vec![prefix.join("bin")];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        cargo
            .arg("--no-default-features")
            .args(["--features", &format!("llvm-{major}")])
            .env("LLVM_PREFIX", &prefix)
            .env("PATH", env::join_paths(path)?);
        Ok(())
    })
}

/// A machine without a matching llvm-N-dev can have a released bpf-linker with LLVM inside.
fn linker_from_path(toolchain: &Toolchain) -> anyhow::Result<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "no bpf-linker: {toolchain} needs one whose LLVM is not older \
                 (`cargo binstall bpf-linker`), or llvm-{}-dev to build it",
                toolchain.llvm_major()
            )
        })
}
