//! Real FTP servers on a host of the lab.
//!
//! Debian's FTP servers exclude each other and start themselves on port 21 once installed. So they
//! are not installed: `cargo xtask` unpacks their packages under target/, and they run from there,
//! with configuration files of their own and without touching /etc or the system's users.

mod kind;
mod proftpd;
mod pure_ftpd;
mod pyftpdlib;
mod site;
mod vsftpd;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::site::{PASSWORD, Site, USER};
pub use self::{kind::Kind, pyftpdlib::OPENSSL, site::Settings};
use crate::{
    client::{Target, TlsVersion},
    lab::Host,
    process::Running,
};

/// How long a server may take until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A running FTP server, which ends when this value is dropped.
#[derive(Debug)]
pub struct FtpServer {
    process: Running,
    site: Site,
    address: SocketAddr,
    tls: bool,
    implicit_tls: bool,
}

impl FtpServer {
    /// Starts a server on `host` and waits until it accepts connections. It serves `/download` and
    /// takes files into `/upload`, for the user of [`Self::target_at`].
    ///
    /// # Errors
    ///
    /// When it is not unpacked, or does not start; the message has what it said.
    pub fn start(kind: Kind, host: &Host, settings: &Settings) -> anyhow::Result<Self> {
        if settings.implicit_tls && !kind.speaks_implicit_tls() {
            bail!("{} knows AUTH TLS only", kind.name());
        }
        if settings.tls_resumption && !kind.can_insist_on_resumption() {
            bail!("{} does not insist on resumed sessions", kind.name());
        }
        let site = Site::new(host, settings)?;
        let mut process = Running::start(&mut command(kind, host, &site, settings)?)?;
        let address = host.at(settings.port);
        let start = Instant::now();
        while let Err(error) = host.namespace.run(|| {
            TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            Ok(())
        }) {
            if !process.is_alive()? || start.elapsed() > START_LIMIT {
                bail!(
                    "{} accepts no connection at {address}: {error}\n{}{}",
                    kind.name(),
                    process.log(),
                    fs::read_to_string(site.log_file()).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            process,
            site,
            address,
            tls: settings.tls,
            implicit_tls: settings.implicit_tls,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client needs that reaches this server at `address`.
    #[must_use]
    pub fn target_at(&self, address: SocketAddr) -> Target {
        Target {
            address,
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
            tls: self.tls,
            tls_version: TlsVersion::Newest,
            implicit_tls: self.implicit_tls,
        }
    }

    /// The certificate of the authority that signed this server's, which is for its host's
    /// addresses; only servers with TLS have one.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.site.authority()
    }

    /// Offers a file as `/download/NAME`.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn offer(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.path_of(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where `/download/NAME` is: for a file too large to be offered at once.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.site.downloads().join(name)
    }

    /// The content of `/upload/NAME`.
    ///
    /// # Errors
    ///
    /// When nobody has stored it.
    pub fn stored(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.site.uploads().join(name);
        fs::read(&path).with_context(|| format!("nobody stored {}", path.display()))
    }

    /// Removes `/upload/NAME`.
    ///
    /// # Errors
    ///
    /// When nobody has stored it.
    pub fn remove_stored(&self, name: &str) -> anyhow::Result<()> {
        let path = self.site.uploads().join(name);
        fs::remove_file(&path).with_context(|| format!("nobody stored {}", path.display()))
    }

    /// The replies with this code that left the server, oldest first. Only vsftpd logs them.
    #[must_use]
    pub fn replies(&self, code: &str) -> Vec<String> {
        // ... FTP response: Client "::ffff:198.51.100.20", "227 Entering Passive Mode (...)."
        self.log()
            .lines()
            .filter(|line| line.contains("FTP response:"))
            .filter_map(|line| line.strip_suffix('"')?.split("\", \"").last())
            .filter(|reply| reply.starts_with(code))
            .map(str::to_owned)
            .collect()
    }

    /// What the server has logged: with vsftpd, every command and every reply as it left the
    /// server.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.site.log_file()).unwrap_or_default() + &self.process.log()
    }
}

/// The command that starts a server of this kind.
fn command(kind: Kind, host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    match kind {
        Kind::Vsftpd => vsftpd::command(host, site, settings),
        Kind::Proftpd => proftpd::command(host, site, settings),
        Kind::PureFtpd => pure_ftpd::command(host, site, settings),
        Kind::Pyftpdlib => pyftpdlib::command(host, site, settings),
    }
}
