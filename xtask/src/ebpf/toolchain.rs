//! Which compiler builds the eBPF object.
//!
//! `core` for BPF comes with no toolchain that rustup installs. Two routes lead to one: Debian's
//! packages have it compiled, and rustup's nightly can build it from its sources.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    apt::{self, Installing},
    command::{cargo, forget_compiler, outer_cargo, output, program},
    workspace::Workspace,
};

/// The target of the kernel this machine would run: BPF has the byte order of its host.
pub(super) const TARGET: &str = if cfg!(target_endian = "little") {
    "bpfel-unknown-none"
} else {
    "bpfeb-unknown-none"
};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that has, or can build, `core` for BPF.
pub(crate) struct Toolchain {
    route: Route,
    /// As `rustc -vV` says it: "22.1.8".
    llvm: String,
    /// As `rustc -vV` says it: "1.96.0".
    release: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Debian's rustc with its compiled `core`.
    Debian,
    /// rustup's nightly, which compiles `core` from its sources.
    Nightly,
}

impl Toolchain {
    /// Chooses what the machine has, or installs Debian's packages where that is possible.
    pub(crate) fn choose(workspace: &Workspace, installing: Installing) -> anyhow::Result<Self> {
        if debian_has_core() {
            return Self::new(Route::Debian);
        }
        if nightly_has_sources() {
            return Self::new(Route::Nightly);
        }
        if !apt::available() {
            bail!(
                "no compiler for {TARGET}: run `rustup toolchain install nightly --component rust-src`"
            );
        }
        if installing == Installing::Allowed && !apt::offers("libstd-rust-web-dev-bpf") {
            apt::update_once(workspace);
        }
        apt::require(
            workspace,
            installing,
            &["rustc-web", "libstd-rust-web-dev-bpf"],
            "the eBPF compiler",
        )
        .context(
            "no compiler for BPF (the other way to one is \
             `rustup toolchain install nightly --component rust-src`)",
        )?;
        if !debian_has_core() {
            bail!("Debian's packages are installed, but {DEBIAN_RUSTC} has no core for {TARGET}");
        }
        Self::new(Route::Debian)
    }

    fn new(route: Route) -> anyhow::Result<Self> {
        let version = output(rustc(route).arg("-vV"))?;
        let field = |name: &str| {
            version
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
                .with_context(|| format!("`rustc -vV` does not say its {name}"))
        };
        Ok(Self {
            route,
            llvm: field("LLVM version: ")?,
            release: field("release: ")?,
        })
    }

    /// The version of LLVM that this compiler writes its bitcode with.
    pub(crate) fn llvm(&self) -> &str {
        &self.llvm
    }

    /// The first number of [`Self::llvm`], which Debian's package names have.
    pub(crate) fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or(&self.llvm)
    }

    /// The cargo that drives this compiler.
    ///
    /// With Debian's compiler that is the cargo of this very run: cargo asks the compiler what it
    /// can do, so the two need not be of one version.
    pub(crate) fn cargo(&self) -> Command {
        match self.route {
            Route::Debian => {
                let mut cargo = own_compiler(cargo());
                set_debian_compiler(&mut cargo);
                cargo
            }
            Route::Nightly => {
                let mut rustup = own_compiler(program("rustup"));
                rustup.args(["run", "nightly", "cargo"]);
                rustup
            }
        }
    }

    /// `cargo clippy` with the clippy that belongs to this compiler.
    pub(crate) fn clippy(
        &self,
        workspace: &Workspace,
        installing: Installing,
    ) -> anyhow::Result<Command> {
        match self.route {
            Route::Debian => {
                apt::require(
                    workspace,
                    installing,
                    &["rust-web-clippy"],
                    "clippy of the eBPF crate",
                )?;
                // cargo-clippy starts the clippy-driver beside itself, and the cargo of `CARGO`.
                let mut clippy = own_compiler(program("/usr/bin/cargo-clippy"));
                set_debian_compiler(&mut clippy);
                clippy.arg("clippy").env("CARGO", outer_cargo());
                Ok(clippy)
            }
            Route::Nightly => {
                let mut cargo = self.cargo();
                cargo.arg("clippy");
                Ok(cargo)
            }
        }
    }

    /// What cargo must be told about `core`.
    pub(crate) fn std_arguments(&self) -> &'static [&'static str] {
        match self.route {
            Route::Debian => &[],
            Route::Nightly => &["-Zbuild-std=core"],
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.route {
            Route::Debian => "Debian's",
            Route::Nightly => "rustup's",
        };
        write!(f, "{whose} rustc {} (LLVM {})", self.release, self.llvm)
    }
}

/// Debian's compiler is a stable one; what aya-ebpf asks for is not.
fn set_debian_compiler(command: &mut Command) {
    command
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1");
}

fn rustc(route: Route) -> Command {
    match route {
        Route::Debian => own_compiler(program(DEBIAN_RUSTC)),
        Route::Nightly => {
            let mut rustup = own_compiler(program("rustup"));
            rustup.args(["run", "nightly", "rustc"]);
            rustup
        }
    }
}

fn sysroot(route: Route) -> Option<PathBuf> {
    let path = output(rustc(route).args(["--print", "sysroot"])).ok()?;
    Some(PathBuf::from(path.trim()))
}

fn debian_has_core() -> bool {
    Path::new(DEBIAN_RUSTC).exists()
        && sysroot(Route::Debian).is_some_and(|root| root.join("lib/rustlib").join(TARGET).is_dir())
}

fn nightly_has_sources() -> bool {
    sysroot(Route::Nightly).is_some_and(|root| {
        root.join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
    })
}

/// A cargo command whose compiler only xtask chooses.
fn own_compiler(mut command: Command) -> Command {
    forget_compiler(&mut command);
    command
}
