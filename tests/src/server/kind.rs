//! The FTP server programs, and where each is unpacked.

use std::{path::PathBuf, process::Command};

use anyhow::bail;

use crate::{client::Client, lab::Host, tools::Tools};

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

    /// Whether it can speak TLS from the first byte on.
    #[must_use]
    pub fn speaks_implicit_tls(self) -> bool {
        self != Self::PureFtpd
    }

    /// Whether this client can transfer by TLS with it. curl begins with TLS on a data connection as
    /// soon as that is there, before it asks for a file; Debian's pyftpdlib (1.5.7) closes it then.
    #[must_use]
    pub fn speaks_tls_with(self, client: Client) -> bool {
        client.speaks_tls() && !(self == Self::Pyftpdlib && client == Client::Curl)
    }

    /// Whether it can insist on data connections that resume the control connection's TLS session.
    #[must_use]
    pub fn can_insist_on_resumption(self) -> bool {
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
