//! What the operator wants: the one typed form that arguments and configuration file both become.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ftp_nat_common::ftp::policy;
use serde::Serialize;

use super::{
    origin::Spanned,
    value::{MssClamp, PortRange, Public, Server},
};
use crate::model::prefix::Prefix;

/// Where the configuration is looked for when no `--config` names one.
pub const DEFAULT_FILE: &str = "/etc/ftp-nat/ftp-nat.toml";

/// Where pins live when nothing else is said.
pub const DEFAULT_STATE_DIR: &str = "/sys/fs/bpf/ftp-nat";

/// The mark of packets that were let in and go through the stack: one bit that no other program known
/// sets or asks for. docs/decisions.md has the table.
pub const DEFAULT_MARK: u32 = 0x40;

/// Ports for a remap: above Linux' `ip_local_port_range` (32768-60999), out of which masquerading
/// and the gateway's own connections take theirs.
pub const DEFAULT_REMAP_PORTS: PortRange = PortRange {
    first: 61000,
    last: 65535,
};

/// How inside interfaces are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lan {
    /// By the route to each server.
    ByRoute,
    /// Not at all: the WAN only, and the stack forwards.
    None,
    /// By name.
    Named(Vec<Spanned<String>>),
}

/// How translated packets reach the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// Redirected where the inside interface allows it, else through the stack.
    #[default]
    Auto,
    /// Through the stack: firewall rules and connection tracking see them.
    Stack,
    /// Straight to the other interface.
    Redirect,
    /// The same, and data by XDP where the interfaces' drivers have it.
    Xdp,
}

/// Which way a session's first packet takes to a published server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FirstPacket {
    /// The same as all others.
    #[default]
    Redirect,
    /// Through the stack, where the firewall's rules may drop it.
    Firewall,
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Attach {
    /// By TCX where the kernel has it, else by a clsact filter.
    #[default]
    Auto,
    /// By TCX (Linux 6.6).
    Tcx,
    /// By a clsact filter.
    Clsact,
}

/// Where programs stand among those of others on the same hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In front of all that are there: one that ends the chain does not keep packets from ours.
    #[default]
    First,
    /// Behind all that are there.
    Last,
    /// In front of the program of this name.
    Before(String),
    /// Behind it.
    After(String),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::Before(name) => write!(f, "before {name}"),
            Self::After(name) => write!(f, "after {name}"),
        }
    }
}

/// How and where programs are attached.
#[derive(Clone, Copy, Debug)]
pub struct Placing<'c> {
    /// By what.
    pub attach: Attach,
    /// Where among others.
    pub order: &'c Order,
}

/// The folder of what is added to the lists while running.
pub const DEFAULT_LISTS_FOLDER: &str = "/var/lib/ftp-nat";

/// Who translates the control connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlNat {
    /// ftp-nat itself: no netfilter rule is needed.
    #[default]
    Ebpf,
    /// The kernel's own NAT: nftables, iptables, Docker.
    Kernel,
}

/// Who may use a pinhole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// The client that holds the control connection.
    #[default]
    Same,
    /// Anybody.
    Any,
}

/// What the conversations of a server or of clients may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// Commands that are refused, in capitals.
    pub deny: Vec<String>,
    /// Whether those are refused that change what a server keeps.
    pub read_only: bool,
    /// Whether the words of a server's greeting are taken out.
    pub hide_greeting: bool,
    /// Whether a login in clear text is refused.
    pub require_tls: bool,
}

impl Commands {
    /// The commands that are refused, as the datapath has them: bits of [`policy::bit_of`].
    pub fn denied(&self) -> u64 {
        let named = self.deny.iter().map(String::as_str);
        let writing = policy::WRITING.iter().filter(|_| self.read_only).copied();
        let login = policy::LOGIN.iter().filter(|_| self.require_tls).copied();
        let all = named.chain(writing).chain(login);
        all.filter_map(policy::bit_of)
            .fold(0, |bits, bit| bits | bit)
    }
}

/// Whom a server sees as its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TowardServer {
    /// The client itself.
    #[default]
    Client,
    /// This gateway, so that the server's answers find back whatever its default route is.
    Gateway,
}

/// Networks outside that may not begin sessions, and those that alone may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Networks {
    /// Those that may not.
    pub deny: Vec<Prefix>,
    /// Those that alone may; empty: everybody.
    pub allow: Vec<Prefix>,
}

/// A server that clients outside reach through this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// What clients dial.
    pub public: Spanned<Public>,
    /// Where the server is; without a key, it is what clients dial.
    pub server: Spanned<Server>,
    /// The address that replies announce, if not the public one.
    pub advertise: Option<Spanned<IpAddr>>,
    /// Who translates the control connection.
    pub control_nat: ControlNat,
    /// The server's own passive ports, if it has a range.
    pub passive_ports: Option<PortRange>,
    /// Who may use a pinhole.
    pub peer: Peer,
    /// Who may begin sessions, besides what holds for all servers.
    pub lists: Networks,
    /// What is refused and hidden.
    pub commands: Commands,
    /// Whom the server sees as its client.
    pub toward_server: Spanned<TowardServer>,
    /// Control connections that a client of this server may have, with all servers together; 0: no
    /// bound. None: what [`Limits`] says.
    pub client_sessions: Option<u32>,
    /// The same of data connections.
    pub client_connections: Option<u32>,
}

impl Publish {
    /// The families of the addresses that an interface is published by ([`Public::Interface`]):
    /// whether each is IPv4.
    pub fn families(&self) -> &'static [bool] {
        let one = |v4| if v4 { &[true] } else { &[false] };
        match (self.server.value.behind().first(), &self.advertise) {
            (Some(server), _) => one(server.is_ipv4()),
            (None, Some(advertise)) => one(advertise.value.is_ipv4()),
            (None, None) => &[true, false],
        }
    }
}

/// Clients behind this gateway that reach servers outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Their networks.
    pub clients: Vec<Spanned<Prefix>>,
    /// The control ports of the servers outside.
    pub control_ports: Vec<u16>,
    /// Whether the kernel's own NAT translates them; else the outside knows their addresses.
    pub translate: bool,
    /// What is refused and hidden.
    pub commands: Commands,
}

/// How long things live without being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// An announced connection that does not come.
    pub mapping: Duration,
    /// A data connection without packets.
    pub data_idle: Duration,
    /// A control connection without packets.
    pub control_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            mapping: Duration::from_secs(60),
            data_idle: Duration::from_secs(3600),
            control_idle: Duration::from_secs(86400),
        }
    }
}

/// How much can be alive at once: the sizes of the kernel's tables, and what one client may have of
/// them. A client is an IPv4 address or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, control and data together, for each of IPv4 and IPv6.
    pub connections: u32,
    /// Control connections.
    pub sessions: u32,
    /// Announced connections that have not come yet.
    pub mappings: u32,
    /// Control connections of one client; 0: no bound. None: a part of [`Limits::sessions`].
    pub client_sessions: Option<u32>,
    /// Data connections of one client; 0: no bound. None: a part of [`Limits::connections`].
    pub client_connections: Option<u32>,
    /// Unfinished handshakes of one client that wait in the common table; 0: no bound.
    pub client_half_open: u32,
    /// Announcements of one client in a second; 0: no bound.
    pub client_announcements: u32,
    /// Announcements of one session in a second; 0: no bound.
    pub session_announcements: u32,
}

/// The part of the tables that one client may have, where nothing else is said.
const CLIENTS_PART: [u32; 2] = [16, 8];

/// And so many at least.
const CLIENTS_LEAST: u32 = 16;

impl Limits {
    /// Control connections of one client; 0: no bound.
    pub fn client_sessions(&self) -> u32 {
        let [part, _] = CLIENTS_PART;
        self.client_sessions
            .unwrap_or_else(|| (self.sessions / part).max(CLIENTS_LEAST))
    }

    /// Data connections of one client; 0: no bound.
    pub fn client_connections(&self) -> u32 {
        let [_, part] = CLIENTS_PART;
        self.client_connections
            .unwrap_or_else(|| (self.connections / part).max(CLIENTS_LEAST))
    }

    /// The same with every part as a number.
    pub fn resolved(&self) -> Self {
        Self {
            client_sessions: Some(self.client_sessions()),
            client_connections: Some(self.client_connections()),
            ..*self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 131_072,
            sessions: 32_768,
            mappings: 65_536,
            client_sessions: None,
            client_connections: None,
            client_half_open: 256,
            client_announcements: 20_000,
            session_announcements: 5_000,
        }
    }
}

/// How the servers of pools are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// How long the connection may take, and then the greeting.
    pub timeout: Duration,
    /// So many checks in a row must pass before a server that is down counts as up.
    pub rise: u32,
    /// So many checks in a row must fail before one that is up counts as down.
    pub fall: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            rise: 2,
            fall: 3,
        }
    }
}

/// Several gateways that share their sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where the engine is, Redis or Valkey: the first one that answers and is a master is used.
    pub engine: Vec<String>,
    /// The cluster's name, the same at all its gateways.
    pub name: String,
    /// This gateway's number in it, 1 to 63, its own.
    pub node: u8,
    /// The file with the certificate of the authority that has signed the engine's, as PEM; none: those
    /// that the system knows.
    pub ca: Option<PathBuf>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interfaces outside.
    pub wan: Vec<Spanned<String>>,
    /// The interfaces inside.
    pub lan: Lan,
    /// How packets go.
    pub datapath: Datapath,
    /// Which way the first packet of a session takes.
    pub first_packet: FirstPacket,
    /// How programs are attached.
    pub attach: Attach,
    /// Where they stand among those of others.
    pub order: Order,
    /// Where pins live.
    pub state_dir: PathBuf,
    /// Whether the public addresses may be on another machine, which this one stands in for.
    pub standby: bool,
    /// Whether packets for the outside leave by the interface and the router that their connection came by;
    /// otherwise as the routing tables say.
    pub symmetric_return: bool,
    /// The mark of translated packets that the stack forwards; 0: none.
    pub mark: u32,
    /// Ports for a remap.
    pub remap_ports: PortRange,
    /// The segment size that redirected connections may agree on.
    pub mss_clamp: MssClamp,
    /// Where metrics are served.
    pub metrics_listen: Option<Spanned<SocketAddr>>,
    /// The file that the audit trail is written to.
    pub audit_log: Option<PathBuf>,
    /// Who may begin sessions.
    pub lists: Networks,
    /// The file that keeps what is added to the lists while running; none: one by the name of the
    /// first WAN.
    pub lists_file: Option<PathBuf>,
    /// Whether it is told who transferred and changed what.
    pub transfers: bool,
    /// The file that transferred files are written to as xferlog.
    pub xferlog: Option<PathBuf>,
    /// The servers published.
    pub publish: Vec<Publish>,
    /// The clients masqueraded.
    pub masquerade: Vec<Masquerade>,
    /// How long things live.
    pub timeouts: Timeouts,
    /// How much can be alive.
    pub limits: Limits,
    /// How the servers of pools are checked.
    pub health: Health,
    /// The gateways that this one shares its sessions with.
    pub cluster: Option<Cluster>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wan: Vec::new(),
            lan: Lan::ByRoute,
            datapath: Datapath::default(),
            first_packet: FirstPacket::default(),
            attach: Attach::default(),
            order: Order::default(),
            standby: false,
            symmetric_return: true,
            state_dir: DEFAULT_STATE_DIR.into(),
            mark: DEFAULT_MARK,
            remap_ports: DEFAULT_REMAP_PORTS,
            mss_clamp: MssClamp::default(),
            metrics_listen: None,
            audit_log: None,
            lists: Networks::default(),
            lists_file: None,
            transfers: true,
            xferlog: None,
            publish: Vec::new(),
            masquerade: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            health: Health::default(),
            cluster: None,
        }
    }
}

impl Config {
    /// How and where its programs are attached.
    pub fn placing(&self) -> Placing<'_> {
        Placing {
            attach: self.attach,
            order: &self.order,
        }
    }

    /// The file that keeps what is added to the lists while running.
    pub fn lists_file(&self) -> PathBuf {
        self.lists_file.clone().unwrap_or_else(|| {
            let wan = self.wan.first().map_or("", |wan| wan.value.as_str());
            PathBuf::from(DEFAULT_LISTS_FOLDER).join(format!("lists-{wan}.json"))
        })
    }

    /// Whether the public addresses may be another machine's now, which this one takes over.
    pub fn may_lack_addresses(&self) -> bool {
        self.standby || self.cluster.is_some()
    }

    /// Whether packets may leave by redirect, which needs a program on the inside interface.
    pub fn redirects(&self) -> bool {
        self.datapath != Datapath::Stack && self.lan != Lan::None
    }
}
