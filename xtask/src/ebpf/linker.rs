//! bpf-linker, which makes one BPF object of LLVM bitcode.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::toolchain::Toolchain;
use crate::{
    apt::{self, Installing},
    command::{cargo, run},
    progress::step,
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
    let tools = workspace.tools();
    let linker = tools.join("bin/bpf-linker");
    let stamp = tools.join("bpf-linker.stamp");
    let wanted = format!("bpf-linker {VERSION}, LLVM {}\n", toolchain.llvm());
    let is_built = || linker.exists() && fs::read_to_string(&stamp).is_ok_and(|s| s == wanted);
    if is_built() {
        return Ok(linker);
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

    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    // Two xtasks at once build it once.
    let lock = File::create(tools.join("bpf-linker.lock"))?;
    lock.lock()
        .context("cannot lock target/tools/bpf-linker.lock")?;
    if !is_built() {
        step(
            &format!("building bpf-linker {VERSION} for LLVM {major} (once, into target/tools)"),
            || install(&tools, &prefix, major),
        )?;
        fs::write(&stamp, &wanted)?;
    }
    Ok(linker)
}

fn install(tools: &Path, prefix: &Path, major: &str) -> anyhow::Result<()> {
    let mut path = vec![prefix.join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = cargo();
    cargo
        .args(["install", "--quiet", "--locked", "--force", "bpf-linker"])
        .args(["--version", VERSION, "--no-default-features"])
        .args(["--features", &format!("llvm-{major}")])
        .arg("--root")
        .arg(tools)
        // The workspace's own target directory is locked while something builds there.
        .arg("--target-dir")
        .arg(tools.join("build"))
        // Not from the checkout: its .cargo/config.toml is none of the linker's business.
        .current_dir(tools)
        .env("LLVM_PREFIX", prefix)
        .env("PATH", env::join_paths(path)?);
    run(&mut cargo)?;
    // A few hundred megabytes that nothing needs again.
    fs::remove_dir_all(tools.join("build")).context("cannot remove the linker's build files")
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
