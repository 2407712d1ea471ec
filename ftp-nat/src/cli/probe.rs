//! Arguments of `ftp-nat probe`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `ftp-nat probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The server: a name or an address, IPv6 in brackets where a port follows [default port: 21,
    /// with --implicit-tls 990]
    #[arg(value_name = "HOST[:PORT]")]
    pub target: String,
    /// Use IPv4 only
    #[arg(short = '4', long = "ipv4", conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long = "ipv6")]
    pub ipv6: bool,
    /// Log in as this user, instead of anonymously
    ///
    /// The password is taken from --password-file, else from the environment variable
    /// FTP_NAT_PASSWORD, else it is asked for on the terminal. It is shown nowhere.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Read the password from the first line of this file; `-`: from standard input
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Encrypt: ask for TLS with AUTH TLS, and protect data connections too (PROT P)
    #[arg(long, conflicts_with = "implicit_tls")]
    pub tls: bool,
    /// Encrypt from the first byte on, as servers on port 990 want it
    #[arg(long)]
    pub implicit_tls: bool,
    /// Accept any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Try active mode too (PORT and EPRT): the server connects to this machine
    #[arg(long)]
    pub active: bool,
    /// How many ports to try in each passive mode: some may be open and others not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub samples: u16,
    /// How long to wait for a connection or an answer; all together takes at most twelve times that
    #[arg(long, value_name = "SECS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=300))]
    pub timeout: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
