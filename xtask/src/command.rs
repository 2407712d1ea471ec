//! Starting other programs with an environment that the outer cargo has not touched.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// What `cargo run` and rustup set for xtask itself and what would change a build that xtask
/// starts: the version of *this* package, the compiler of *this* build, library paths.
fn belongs_to_outer_cargo(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "CARGO",
        "CARGO_CRATE_NAME",
        "CARGO_BIN_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_ENCODED_RUSTFLAGS",
        "LD_LIBRARY_PATH",
        "OUT_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUST_RECURSION_COUNT",
        "__CARGO_DEFAULT_LIB_METADATA",
    ];
    NAMES.contains(&name)
        || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_BIN_EXE_")
}

/// What chooses a compiler or its flags; a build with a compiler of its own must not inherit it.
fn chooses_a_compiler(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_BOOTSTRAP",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
    ];
    NAMES.contains(&name)
        || name.starts_with("CARGO_TARGET_BPF")
        || name.starts_with("CARGO_PROFILE_")
}

/// A command without the traces of the outer cargo, and without standard input: nothing that xtask
/// starts may wait for a terminal.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// The cargo that runs this xtask, with the toolchain it was started with.
pub(crate) fn cargo() -> Command {
    program(outer_cargo())
}

/// The path of the cargo that runs this xtask.
pub(crate) fn outer_cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Removes from `command` every choice of a compiler that came from outside.
pub(crate) fn forget_compiler(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(chooses_a_compiler) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end, its output going where xtask's goes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// Runs `command` and gives its standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a person would type it.
fn describe(command: &Command) -> String {
    let mut words: Vec<OsString> = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(OsStr::to_owned));
    format!("`{}`", words.join(OsStr::new(" ")).display())
}
