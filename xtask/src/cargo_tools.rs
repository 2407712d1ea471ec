//! Programs that cargo builds from crates.io, under target/tools.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use anyhow::Context as _;

use crate::{
    command::{cargo, run},
    progress::step,
    workspace::Workspace,
};

/// A program that a crate of its name has.
pub(crate) struct CargoTool<'a> {
    /// The crate and its program.
    pub(crate) name: &'a str,
    /// The version of the crate.
    pub(crate) version: &'a str,
    /// What else makes one build of it different from another, for people to read; may be empty.
    pub(crate) variant: &'a str,
}

impl CargoTool<'_> {
    /// Where it is, or would be.
    fn program(&self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join("bin").join(self.name)
    }

    /// The program, if it is there in this version and variant.
    pub(crate) fn find(&self, workspace: &Workspace) -> Option<PathBuf> {
        let stamp = fs::read_to_string(self.stamp(workspace)).ok()?;
        let program = self.program(workspace);
        (stamp == self.stamped() && program.exists()).then_some(program)
    }

    /// The program, built now if it is not there; `prepare` may change the `cargo install`.
    ///
    /// # Errors
    ///
    /// When cargo cannot fetch or build it.
    pub(crate) fn find_or_build(
        &self,
        workspace: &Workspace,
        prepare: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        if let Some(program) = self.find(workspace) {
            return Ok(program);
        }
        let tools = workspace.tools();
        fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
        // Two xtasks at once build it once.
        let lock = tools.join(format!("{}.lock", self.name));
        File::create(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .with_context(|| format!("cannot lock {}", lock.display()))
            .and_then(|_locked| {
                if self.find(workspace).is_none() {
                    let what = format!("building {} (once, into target/tools)", self.described());
                    step(&what, || self.install(workspace, prepare))?;
                    fs::write(self.stamp(workspace), self.stamped())?;
                }
                Ok(self.program(workspace))
            })
    }

    fn install(
        &self,
        workspace: &Workspace,
        prepare: impl FnOnce(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let tools = workspace.tools();
        // The workspace's own target directory is locked while something builds there.
        let build = tools.join(format!("{}.build", self.name));
        let mut cargo = cargo();
        cargo
            .args(["install", "--quiet", "--locked", "--force", self.name])
            .args(["--version", self.version])
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(&build)
            // Not from the checkout: its .cargo/config.toml is none of the program's business.
            .current_dir(&tools);
        prepare(&mut cargo)?;
        run(&mut cargo)?;
        // A few hundred megabytes that nothing needs again.
        fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
    }

    /// What tells which build is there.
    fn stamp(&self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join(format!("{}.stamp", self.name))
    }

    fn stamped(&self) -> String {
        format!("{}\n", self.described())
    }

    fn described(&self) -> String {
        let comma = if self.variant.is_empty() { "" } else { ", " };
        format!("{} {}{comma}{}", self.name, self.version, self.variant)
    }
}
