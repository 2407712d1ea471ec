//! Where things are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The checkout and its target directory.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace this xtask was started in.
    pub(crate) fn find() -> anyhow::Result<Self> {
        // Cargo sets the variable for `cargo run`; the path of the build may no longer be there.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .context("xtask must be started by cargo: `cargo xtask <command>`")?;
        let root = Path::new(&manifest)
            .parent()
            .context("xtask lies in the workspace's root")?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => env::current_dir()?.join(target),
            None => root.join("target"),
        };
        fs::create_dir_all(&target)
            .with_context(|| format!("cannot make the target directory {}", target.display()))?;
        Ok(Self { root, target })
    }

    /// Where xtask builds the tools it needs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The target directory of the eBPF object: apart, because another compiler builds it.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// `path` as a reader in the checkout would write it.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}
