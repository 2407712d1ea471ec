//! The configuration as the command line has it.

use std::path::PathBuf;

use clap::Args;

use super::options::{Attach, DEFAULT_FILE, DEFAULT_STATE_DIR, Datapath, FirstPacket};
use crate::output::logging::LogFormat;

/// Arguments of `ftp-nat run`. What is given here replaces what the file says.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    #[arg(
        short,
        long,
        value_name = "FILE",
        help = format!("Configuration file [default: {DEFAULT_FILE}, if there]")
    )]
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// Interface to the outside (repeatable)
    #[arg(long, value_name = "IF")]
    pub wan: Vec<String>,
    /// Interface to the inside (repeatable), or `none`: attach to the WAN only and let the stack
    /// forward [default: found by the routes to servers and clients]
    #[arg(long, value_name = "IF|none")]
    pub lan: Vec<String>,
    /// Publish a server.
    #[arg(
        long,
        value_name = "PUBLIC[=SERVER]",
        help = "Publish a server (repeatable): PUBLIC is ADDR:PORT, [V6]:PORT or IF:PORT (that \
                interface's address, followed as it changes), SERVER is ADDR:PORT, [V6]:PORT or \
                `local`. Without SERVER nothing is translated, only let in: PUBLIC is the server's \
                own, or NET/BITS:PORT for all of a network"
    )]
    pub publish: Vec<String>,
    /// Let the clients of a network fetch from servers outside in active mode (repeatable).
    #[arg(
        long,
        value_name = "NET[:PORT]",
        help = "Serve clients behind this gateway (repeatable), whose addresses the kernel's own \
                NAT translates: NET is ADDR/BITS, PORT the control port of the servers outside \
                [default: 21]"
    )]
    pub masquerade: Vec<String>,
    #[arg(
        long,
        value_name = "DIR",
        help = format!("Where kernel objects are pinned, on a bpffs [default: {DEFAULT_STATE_DIR}]")
    )]
    /// Where kernel objects are pinned.
    pub state_dir: Option<PathBuf>,
    /// Mark of translated packets that the stack forwards, for a firewall's rule; 0: none
    /// [default: 0x40]
    #[arg(long, value_name = "N")]
    pub mark: Option<String>,
    /// Ports to use when the announced one is taken [default: 61000-65535]
    #[arg(long, value_name = "FIRST-LAST")]
    pub remap_ports: Option<String>,
    /// How translated packets reach the other side: `redirect` from interface to interface, past
    /// the firewall; `xdp` the same, and data by XDP where the drivers have it; `stack` through
    /// it; `auto` takes redirect where the interfaces allow it [default: auto]
    #[arg(long, value_enum, value_name = "HOW")]
    pub datapath: Option<Datapath>,
    /// Which way the first packet of a session takes to a published server: `redirect` as all others,
    /// `firewall` through the firewall's rules, so that bans made there hold [default: redirect]
    #[arg(long, value_enum, value_name = "WAY")]
    pub first_packet: Option<FirstPacket>,
    /// Largest TCP segment that redirected connections may agree on: `auto` takes what fits both
    /// interfaces, `off` leaves it to the ends, or a number of bytes [default: auto]
    #[arg(long, value_name = "auto|off|N")]
    pub mss_clamp: Option<String>,
    /// Serve Prometheus metrics over HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<String>,
    /// Append who was let in, and who was not, to a file: one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Keep what is added to the deny and allow lists in a file [default:
    /// /var/lib/ftp-nat/lists-WAN.json]
    #[arg(long, value_name = "FILE")]
    pub lists_file: Option<PathBuf>,
    /// Do not tell who transferred and changed what: control connections' commands stay in the kernel
    #[arg(long)]
    pub no_transfers: bool,
    /// Append each file that was transferred to a file, in xferlog's format
    #[arg(long, value_name = "FILE", conflicts_with = "no_transfers")]
    pub xferlog: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// How to attach: `auto` takes TCX where the kernel has it (Linux 6.6), else clsact
    #[arg(long, value_enum, value_name = "HOW")]
    pub attach: Option<Attach>,
    /// Room for this many connections, for each of IPv4 and IPv6 [default: 131072]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u32>,
    /// Room for this many control connections [default: 32768]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<u32>,
    /// Room for this many announced connections [default: 65536]
    #[arg(long, value_name = "N")]
    pub max_mappings: Option<u32>,
}
