//! What the workspace depends on: nothing that no line uses, and only what deny.toml allows.
//!
//! Known vulnerabilities (cargo-deny's advisories) are not asked for: their list is fetched from
//! the network and changes without us, so that the same source would pass today and fail tomorrow.
//! `cargo deny check advisories` asks for them.

use std::path::PathBuf;

use anyhow::bail;

use crate::{
    apt::Installing,
    cargo_tools::CargoTool,
    command::{program, run},
    progress::step,
    workspace::Workspace,
};

const MACHETE: CargoTool<'static> = CargoTool {
    name: "cargo-machete",
    version: "0.9.2",
    variant: "",
};

const DENY: CargoTool<'static> = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    variant: "",
};

/// Asks cargo-machete for unused dependencies, and cargo-deny for licences, sources and doubles.
pub(crate) fn check(workspace: &Workspace, installing: Installing) -> anyhow::Result<()> {
    let machete = find_or_build(&MACHETE, workspace, installing)?;
    step("dependencies that no line uses", || {
        run(program(machete)
            .current_dir(&workspace.root)
            .args(["--skip-target-dir", "."]))
    })?;
    let deny = find_or_build(&DENY, workspace, installing)?;
    step("licences and sources of dependencies", || {
        run(program(deny)
            .current_dir(&workspace.root)
            .args(["--log-level", "error", "--locked", "check"])
            .args(["bans", "licenses", "sources"]))
    })
}

/// Unoptimized: that takes a third of the time to build, and each runs for two seconds.
fn find_or_build(
    tool: &CargoTool<'_>,
    workspace: &Workspace,
    installing: Installing,
) -> anyhow::Result<PathBuf> {
    if installing == Installing::Forbidden && tool.find(workspace).is_none() {
        bail!(
            "{} {} is not under target/tools, and --no-install forbids building it",
            tool.name,
            tool.version
        );
    }
    tool.find_or_build(workspace, |cargo| {
        cargo
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        Ok(())
    })
}
