//! What the lab runs: programs, servers and ftp-nat itself.

use std::path::PathBuf;

use anyhow::bail;
use ftp_nat_tests::tools::Tools;

use crate::{
    apt::{self, Installing},
    build, servers,
    workspace::Workspace,
};

/// Installs what the lab lacks, and builds what it runs.
pub(crate) fn prepare(workspace: &Workspace, installing: Installing) -> anyhow::Result<Tools> {
    Ok(Tools {
        servers: servers(workspace, installing)?,
        binary: build::release(workspace, installing)?,
    })
}

/// Installs the programs that the lab lacks, and unpacks its servers: gives their folder.
///
/// # Errors
///
/// When this process is not root, or something cannot be had.
pub(crate) fn servers(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the lab makes network namespaces and loads eBPF, which needs root \
             (`cargo test` runs the tests that need none)"
        );
    }
    apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
    servers::unpack(workspace, installing)
}
