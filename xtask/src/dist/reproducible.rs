//! What makes two packages of the same source the same: one time and one order for all files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    command::{output, program},
    workspace::Workspace,
};

/// The time that all files of a package carry: that of the last change, so that the same source
/// gives the same package.
pub(super) fn epoch(workspace: &Workspace) -> anyhow::Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given.parse().context("SOURCE_DATE_EPOCH is no number");
    }
    let time =
        output(
            program("git")
                .current_dir(&workspace.root)
                .args(["log", "-1", "--format=%ct"]),
        )
        .context("SOURCE_DATE_EPOCH is not set, and git does not tell the last change")?;
    time.trim().parse().context("git tells no time")
}

/// Files of a folder, sorted.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
