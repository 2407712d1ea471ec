//! The lab's servers, FTP's, Prometheus, Redis, keepalived, a reader of xferlog and FileZilla, unpacked under target/ and not installed.

use std::path::PathBuf;

use ftp_nat_tests::{
    filezilla, fleet, prometheus,
    server::{Kind, OPENSSL},
    xferlog,
};

use crate::{apt::Installing, unpack, workspace::Workspace};

/// Unpacks the servers that are not there yet and gives the folder with all of them.
pub(crate) fn unpack(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let servers = workspace.target.join("lab/servers");
    let others = [
        OPENSSL,
        (prometheus::NAME, &[prometheus::NAME][..]),
        (fleet::REDIS, fleet::REDIS_PACKAGES),
        (fleet::KEEPALIVED, &[fleet::KEEPALIVED][..]),
        (fleet::kernel::CONNTRACKD, &[fleet::kernel::CONNTRACKD][..]),
        (xferlog::NAME, &[xferlog::NAME][..]),
        (filezilla::NAME, filezilla::PACKAGES),
    ];
    let kinds = Kind::ALL.iter().map(|kind| (kind.name(), kind.packages()));
    for (name, packages) in kinds.chain(others) {
        let folder = servers.join(name);
        unpack::require(workspace, installing, &folder, packages, "the lab")?;
    }
    Ok(servers)
}
