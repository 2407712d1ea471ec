//! What one server is given: its settings, its folders, its user and its certificate.

use std::{
    fs,
    net::Ipv4Addr,
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;

use crate::{lab::Host, process, scratch::Scratch};

/// The file with the certificate of who signs the servers' certificates.
const AUTHORITY: &str = "authority.pem";

/// Who may log in. Servers whose anonymous access needs a system user have an account of that name.
pub(super) const USER: &str = "anonymous";
pub(super) const PASSWORD: &str = "lab@example.net";

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
    /// Whether it speaks TLS from the first byte on instead: not Pure-FTPd.
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
pub(super) struct Site {
    pub(super) scratch: Scratch,
    certificate: Option<PathBuf>,
}

impl Site {
    pub(super) fn new(host: &Host, settings: &Settings) -> anyhow::Result<Self> {
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
    pub(super) fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    pub(super) fn downloads(&self) -> PathBuf {
        self.root().join("download")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.root().join("upload")
    }

    /// A folder that stays empty, for a server's chroot.
    pub(super) fn empty(&self) -> PathBuf {
        self.scratch.path().join("empty")
    }

    /// Where the server writes its log, if it writes one.
    pub(super) fn log_file(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    /// Key and certificate in one PEM file.
    pub(super) fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// The certificate of the authority that signed the server's.
    pub(super) fn authority(&self) -> PathBuf {
        self.scratch.path().join(AUTHORITY)
    }
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
