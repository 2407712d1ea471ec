//! Real FTP servers on a host of the lab.
//!
//! Debian's FTP servers exclude each other and start themselves on port 21 once installed. So they
//! are not installed: `cargo xtask` unpacks their packages under target/, and they run from there,
//! with configuration files of their own and without touching /etc or the system's users.

mod proftpd;
mod pure_ftpd;
mod pyftpdlib;
mod vsftpd;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    client::Target,
    lab::Host,
    process::{self, Running},
    scratch::Scratch,
    tools::Tools,
};

/// How long a server may take until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(15);

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

    fn command(self, host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
        match self {
            Self::Vsftpd => vsftpd::command(host, site, settings),
            Self::Proftpd => proftpd::command(host, site, settings),
            Self::PureFtpd => pure_ftpd::command(host, site, settings),
            Self::Pyftpdlib => pyftpdlib::command(host, site, settings),
        }
    }
}

/// The file with the certificate of who signs the servers' certificates.
const AUTHORITY: &str = "authority.pem";

/// Who may log in. Servers whose anonymous access needs a system user have an account of that name.
const USER: &str = "anonymous";
const PASSWORD: &str = "lab@example.net";

/// What a test may want to be different from one server to another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The control port.
    pub port: u16,
    /// The range of the passive ports; the server's own choice without.
    pub passive_ports: Option<RangeInclusive<u16>>,
    /// The address that the server announces in its 227, if not its own. With it vsftpd listens on
    /// IPv4 only: on a socket for both families it announces 0.0.0.0 instead.
    pub announce: Option<Ipv4Addr>,
    /// Whether it offers AUTH TLS, with a certificate made for the occasion.
    pub tls: bool,
    /// Whether it speaks TLS from the first byte on instead: vsftpd and ProFTPD.
    pub implicit_tls: bool,
    /// Whether a data connection must resume the control connection's TLS session: vsftpd and
    /// ProFTPD.
    pub tls_resumption: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 21,
            passive_ports: None,
            announce: None,
            tls: false,
            implicit_tls: false,
            tls_resumption: false,
        }
    }
}

/// The folders of one server: what it serves, and its own files.
#[derive(Debug)]
pub(crate) struct Site {
    scratch: Scratch,
    certificate: Option<PathBuf>,
}

impl Site {
    fn new(host: &Host, settings: &Settings) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let mut site = Self {
            certificate: None,
            scratch,
        };
        for folder in [site.root(), site.downloads(), site.empty()] {
            fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::create_dir(site.uploads())?;
        // Whichever user the server gives to its client may write here.
        fs::set_permissions(site.uploads(), fs::Permissions::from_mode(0o777))?;
        if settings.tls {
            site.certificate = Some(make_certificate(host, &site.scratch)?);
        }
        Ok(site)
    }

    /// The server's `/`.
    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn downloads(&self) -> PathBuf {
        self.root().join("download")
    }

    fn uploads(&self) -> PathBuf {
        self.root().join("upload")
    }

    /// A folder that stays empty, for a server's chroot.
    fn empty(&self) -> PathBuf {
        self.scratch.path().join("empty")
    }

    /// Where the server writes its log, if it writes one.
    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    /// Key and certificate in one PEM file.
    fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }
}

/// A running FTP server, which ends when this value is dropped.
#[derive(Debug)]
pub struct FtpServer {
    process: Running,
    site: Site,
    address: SocketAddr,
    tls: bool,
}

impl FtpServer {
    /// Starts a server on `host` and waits until it accepts connections. It serves `/download` and
    /// takes files into `/upload`, for the user of [`Self::target_at`].
    ///
    /// # Errors
    ///
    /// When it is not unpacked, or does not start; the message has what it said.
    pub fn start(kind: Kind, host: &Host, settings: &Settings) -> anyhow::Result<Self> {
        if settings.tls && !kind.speaks_tls() {
            bail!("the lab's {} has no TLS", kind.name());
        }
        if (settings.implicit_tls || settings.tls_resumption) && !kind.is_strict_about_tls() {
            bail!("the lab's {} knows AUTH TLS only", kind.name());
        }
        let site = Site::new(host, settings)?;
        let mut process = Running::start(&mut kind.command(host, &site, settings)?)?;
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
        }
    }

    /// The certificate of the authority that signed this server's, which is for its host's
    /// addresses; only servers with TLS have one.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.site.scratch.path().join(AUTHORITY)
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

/// The folder that `kind` was unpacked into.
fn folder(kind: Kind) -> anyhow::Result<PathBuf> {
    let folder = Tools::get()?.servers.join(kind.name());
    if !folder.is_dir() {
        bail!("{} was not unpacked: use `cargo xtask test`", kind.name());
    }
    Ok(folder)
}

/// A command for the program `path` of `kind`'s folder, with the libraries unpacked beside it.
fn unpacked(kind: Kind, host: &Host, path: &str) -> anyhow::Result<Command> {
    let folder = folder(kind)?;
    let mut command = host.namespace.command(folder.join(path))?;
    let mut libraries = Vec::new();
    for parent in ["usr/lib", "lib"] {
        for entry in fs::read_dir(folder.join(parent))
            .into_iter()
            .flatten()
            .flatten()
        {
            // "x86_64-linux-gnu" on one machine, another triplet on the next.
            if entry.file_name().to_string_lossy().contains("-linux-") {
                libraries.push(entry.path());
            }
        }
    }
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    Ok(command)
}

/// Makes a key and a certificate for the host, in one file, and the authority that signed it.
fn make_certificate(host: &Host, scratch: &Scratch) -> anyhow::Result<PathBuf> {
    let path = |name: &str| scratch.path().join(name);
    let request = |name: &str, key: &str| {
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .arg("-out")
            .arg(path(name))
            .arg("-keyout")
            .arg(path(key));
        command
    };
    let run = |command: &mut Command| {
        process::run(command, Duration::from_secs(30))?.expect_success()?;
        anyhow::Ok(())
    };
    run(request(AUTHORITY, "authority-key.pem").args(["-subj", "/CN=the lab"]))?;
    run(request("certificate.pem", "key.pem")
        .args(["-subj", "/CN=ftp.example.net"])
        .arg("-CA")
        .arg(path(AUTHORITY))
        .arg("-CAkey")
        .arg(path("authority-key.pem"))
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext"])
        .arg(format!("subjectAltName=IP:{},IP:{}", host.v4, host.v6)))?;
    let both = fs::read_to_string(path("certificate.pem"))? + &fs::read_to_string(path("key.pem"))?;
    fs::write(path("certificate.pem"), both)?;
    Ok(path("certificate.pem"))
}
