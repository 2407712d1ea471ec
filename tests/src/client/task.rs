//! What a client is asked to do.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a client waits for a connection or a reply, unless it is told otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client's whole job may take.
pub(super) const JOB_LIMIT: Duration = Duration::from_secs(60);

/// How the data connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client connects where the 227 says.
    Pasv,
    /// The client connects to the port that the 229 says.
    Epsv,
    /// The server connects where PORT says.
    Port,
    /// The server connects where EPRT says.
    Eprt,
}

/// Which TLS a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// The newest one that both ends know.
    #[default]
    Newest,
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// The server as its client knows it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
    /// Whether to speak TLS (AUTH TLS), on the data connection too; any certificate is accepted.
    pub tls: bool,
    /// Which TLS.
    pub tls_version: TlsVersion,
    /// Whether it is spoken from the first byte on instead of after AUTH TLS: curl and lftp.
    pub implicit_tls: bool,
}

/// What a client shall do.
#[derive(Clone, Copy, Debug)]
pub enum Job<'a> {
    /// Fetch the file of this path.
    Fetch(&'a str),
    /// Store a local file as this path.
    Store(&'a Path, &'a str),
    /// List this folder.
    List(&'a str),
}

impl<'a> Job<'a> {
    /// The path on the server.
    pub(super) fn path(&self) -> &'a str {
        match self {
            Self::Fetch(path) | Self::Store(_, path) | Self::List(path) => path,
        }
    }
}

/// All that a client's command line is made of.
pub(super) struct Task<'a> {
    pub(super) target: &'a Target,
    pub(super) mode: Mode,
    pub(super) job: Job<'a>,
    /// Where the client puts what it fetched or listed.
    pub(super) output: PathBuf,
    pub(super) home: &'a Path,
    /// How long it waits for a connection or a reply.
    pub(super) patience: Duration,
    /// How long all of it may take.
    pub(super) limit: Duration,
}
