//! What a reviewer should never have to say: formatting, clippy, broken documentation.

mod dependencies;
mod documents;
mod rooms;

use crate::{
    apt::Installing,
    command::{cargo, run},
    ebpf,
    progress::step,
    workspace::Workspace,
};

/// Runs every check, stopping at the first that fails.
pub(crate) fn run_all(workspace: &Workspace, installing: Installing) -> anyhow::Result<()> {
    let cargo = || {
        let mut cargo = cargo();
        cargo
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target);
        cargo
    };
    step("formatting", || {
        run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("rooms: no use goes up or round", || rooms::check(workspace))?;
    step("documents: links and paths", || documents::check(workspace))?;
    step("clippy of the workspace", || {
        run(cargo()
            .args([
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
            ])
            .args(["--exclude", "ftp-nat-ebpf", "--", "--deny", "warnings"]))
    })?;
    ebpf::clippy(workspace, installing)?;
    dependencies::check(workspace, installing)?;
    step("documentation", || {
        run(cargo()
            .args(["doc", "--quiet", "--locked", "--no-deps", "--workspace"])
            .args(["--exclude", "ftp-nat-ebpf", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings"))
    })
}
