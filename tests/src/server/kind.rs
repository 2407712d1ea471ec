//! The FTP server programs, and where each is unpacked.

use std::{path::PathBuf, process::Command};

use anyhow::bail;

use crate::{lab::Host, tools::Tools};

/// An FTP server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// vsftpd: `227 Entering Passive Mode (...).`
    Vsftpd,
    /// ProFTPD: `227 Entering Passive Mode (...).`
    Proftpd,
    /// Pure-FTPd: `227 Entering Passive Mode (...)`, without the full stop.
    PureFtpd,
    /// pyftpdlib: `227 Entering passive mode (...).`
    Pyftpdlib,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Vsftpd, Self::Proftpd, Self::PureFtpd, Self::Pyftpdlib];

    /// Its name, which is that of its folder too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vsftpd => "vsftpd",
            Self::Proftpd => "proftpd",
            Self::PureFtpd => "pure-ftpd",
            Self::Pyftpdlib => "pyftpdlib",
        }
    }

    /// The Debian packages to unpack into its folder, with the libraries that the machine lacks.
    #[must_use]
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Vsftpd => &["vsftpd"],
            Self::Proftpd => &["proftpd-core", "proftpd-mod-crypto"],
            Self::PureFtpd => &["pure-ftpd", "pure-ftpd-common"],
            Self::Pyftpdlib => &["python3-pyftpdlib"],
        }
    }

    /// Whether the lab knows how to make it speak TLS. (What pyftpdlib needs for that fits Debian's
    /// own Python only.)
    #[must_use]
    pub fn speaks_tls(self) -> bool {
        self != Self::Pyftpdlib
    }

    /// Whether it can insist on TLS from the first byte on, or on resumed sessions.
    #[must_use]
    pub fn is_strict_about_tls(self) -> bool {
        matches!(self, Self::Vsftpd | Self::Proftpd)
    }
}

/// The folder that `kind` was unpacked into.
pub(super) fn folder(kind: Kind) -> anyhow::Result<PathBuf> {
    let folder = Tools::get()?.servers.join(kind.name());
    if !folder.is_dir() {
        bail!("{} was not unpacked: use `cargo xtask test`", kind.name());
    }
    Ok(folder)
}

/// A command for the program `path` of `kind`'s folder, with the libraries unpacked beside it.
pub(super) fn unpacked(kind: Kind, host: &Host, path: &str) -> anyhow::Result<Command> {
    crate::unpacked::unpacked_program(&host.namespace, &folder(kind)?, path)
}
