//! What the lab runs: programs, servers and ftp-nat itself.

use anyhow::bail;
use ftp_nat_tests::tools::Tools;

use crate::{
    apt::{self, Installing},
    build, servers,
    workspace::Workspace,
};

/// Installs what the lab lacks, and builds what it runs.
pub(crate) fn prepare(workspace: &Workspace, installing: Installing) -> anyhow::Result<Tools> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the lab makes network namespaces and loads eBPF, which needs root \
             (`cargo test` runs the tests that need none)"
        );
    }
    apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
    Ok(Tools {
        servers: servers::unpack(workspace, installing)?,
        binary: build::release(workspace, installing)?,
    })
}
