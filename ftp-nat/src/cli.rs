//! The command line, as clap sees it: help texts, manual pages and completions come from here.

pub mod filter;
mod networks;
mod probe;
mod selection;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::filter::{EndsFilter, KindFilter, SessionFilter, SinceFilter, StateFilter};
use crate::config::{DEFAULT_FILE, DEFAULT_STATE_DIR, RunArgs};

pub use self::{
    networks::{
        AddNetworksArgs, ListNetworksArgs, NetworksArgs, NetworksCommand, RemoveNetworksArgs, Time,
    },
    probe::ProbeArgs,
    selection::Selection,
    top::Sort,
};

/// FTP through NAT and firewalls, translated in the kernel.
///
/// ftp-nat attaches to a router's WAN interface, reads FTP's control connections, rewrites the
/// addresses in them and lets in exactly the data connections that were announced.
#[derive(Debug, Parser)]
#[command(name = "ftp-nat", version, max_term_width = 100)]
pub struct Cli {
    /// Say more: once for every event, twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway in the foreground
    ///
    /// Says `ready` once its programs are attached. They stay attached when the daemon stops or
    /// dies, so that no connection breaks; a new `ftp-nat run` takes them over and
    /// `ftp-nat unload` removes them.
    Run(Box<RunArgs>),
    /// Check a configuration file without touching anything
    Check(CheckArgs),
    /// Show what is attached and how much is alive
    Status(ShowArgs),
    /// Show the control connections
    ///
    /// Those that have ended are known for some seconds more, and shown with --all.
    Sessions(SessionsArgs),
    /// Show the announced data connections that have not come yet
    Mappings(MappingsArgs),
    /// Show all connections, control and data
    ///
    /// Those that have ended are known for some seconds more, and shown with --all.
    Flows(FlowsArgs),
    /// Watch sessions, transfers and counters on a live screen
    ///
    /// Works from the kernel's maps alone, whether the daemon runs or not. `?` shows the keys, `q`
    /// quits.
    Top(TopArgs),
    /// Print the counters as Prometheus text
    Metrics(ShowArgs),
    /// Show what has happened: who was let in to what port, when, because of which words
    ///
    /// The daemon keeps the last thousands of events; its audit log (`--audit-log`) keeps all.
    Events(EventsArgs),
    /// Show who fetched, stored, listed, renamed and deleted what
    ///
    /// From the control connections, which are read anyway: the login's name, the command and its path,
    /// bytes and duration of the data connection, and the reply that ended it. What is said inside TLS
    /// has no names. The daemon keeps the last two thousand; the audit log (`--audit-log`) and xferlog
    /// (`--xferlog`) keep all. `transfers = false` in the configuration turns it off.
    Transfers(TransfersArgs),
    /// End a session with all that belongs to it, or one connection
    ///
    /// Both ends get a TCP reset, so that their programs hear of it at once; what else they send is
    /// dropped. Works without a daemon too.
    End(EndArgs),
    /// Show what becomes of each packet, and why
    ///
    /// Packets on FTP's ports with their numbers, the connection that they are of, the verdict and
    /// its reasons, as the kernel's programs tell them. For as long as this runs, traced programs take
    /// the places of the gateway's own, on which tracing costs nothing; no connection notices. No
    /// more of a line than its first four letters is shown. Ends with Ctrl-C.
    Trace(TraceArgs),
    /// Ends a trace whose process was killed
    #[command(hide = true)]
    TraceGuard(TraceGuardArgs),
    /// Keep networks out: they begin no sessions any more, and those that they have end
    ///
    /// Holds until it is removed or its time is over, over restarts of the daemon and of the machine.
    /// A running daemon keeps the list; what is in it holds without one as well.
    Deny(NetworksArgs),
    /// Let nobody else in: once a list has a network, only its networks begin sessions
    ///
    /// Sessions that are there go on. Who is denied as well stays out.
    Allow(NetworksArgs),
    /// Show the gateways that share their sessions with this one
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Take a server of a pool out of service, and back
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Have a running daemon read its configuration file anew
    ///
    /// Connections that are there go on, whatever changes. A file with mistakes changes nothing:
    /// each is named, and the exit code is 2. SIGHUP does the same, and tells the log.
    Reload(ShowArgs),
    /// Look for what keeps FTP from working here, and say what to do
    ///
    /// Takes what `run` takes, and reads the same configuration file; without either it looks at
    /// what is loaded. Changes nothing and sends nothing but a connection to each server, for some
    /// seconds at most. Exit code 0: nothing is wrong.
    Doctor(Box<DoctorArgs>),
    /// Test an FTP server from the outside, and name what breaks it
    ///
    /// Speaks FTP as a client, from any machine and without privileges: logs in, opens passive data
    /// connections by PASV and EPSV (with --active also by PORT and EPRT) and lists the server's
    /// folder over each. Where that fails, it finds out how far the packets get, names the cause
    /// and what is usually done about it. --verbose shows the conversation. Exit code 0: all that was tried works; 1: something does
    /// not, or the server was not reached.
    Probe(ProbeArgs),
    /// Show what the gateway would do with each control line of a capture
    ///
    /// Runs the control connections of a pcap or pcapng file through the same code that runs in
    /// the kernel, and prints each line with what becomes of it and why. Passwords are not
    /// printed. Needs no privileges and no running gateway.
    Inspect(InspectArgs),
    /// Detach everything and remove every trace
    ///
    /// Of this network namespace's gateways, or with --all of every gateway of this machine. What
    /// network namespaces that are gone have left holds memory until --gone removes it.
    Unload(UnloadArgs),
    /// Show all gateways of this machine, those of other network namespaces too
    ///
    /// And those whose network namespace is gone: `ftp-nat unload --gone` removes them.
    List(ListArgs),
    /// Print a shell's completions of these commands and their options
    ///
    /// For bash: `ftp-nat completions bash > /etc/bash_completion.d/ftp-nat`. The Debian package
    /// brings those of bash, zsh and fish.
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    #[command(hide = true)]
    ManPages(ManPagesArgs),
}

/// The cluster's commands.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show this gateway, its engine and the other gateways
    Status(ShowArgs),
    /// Exit with 0 when this gateway has all that the others know, and may take over
    ///
    /// For keepalived's vrrp_script. Exit code 1: not yet, and why; 3: no daemon runs.
    Ready(ShowArgs),
}

/// The commands for pools: published servers that are several.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Send no more new sessions to a server; those that it has go on
    ///
    /// With all their data connections, for as long as they like: `ftp-nat status` shows how many are
    /// left, `ftp-nat end` ends one. It stays so over reloads and restarts of the daemon, until
    /// `undrain`, `ftp-nat unload` or a reboot. The gateways of a cluster are told one by one.
    Drain(DrainArgs),
    /// Send new sessions to a server again
    Undrain(DrainArgs),
}

/// Arguments of `ftp-nat pool drain` and `undrain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The server, in all pools that have it: ADDR:PORT, or ADDR for all its ports
    #[arg(value_name = "SERVER", value_parser = ServerName::parse)]
    pub server: ServerName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// A server of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName {
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its port; none: any.
    pub port: Option<u16>,
}

impl ServerName {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(end) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self {
                address: end.ip(),
                port: Some(end.port()),
            });
        }
        match text.parse() {
            Ok(address) => Ok(Self {
                address,
                port: None,
            }),
            Err(_) => Err("is neither ADDR:PORT, [V6]:PORT nor an address".to_owned()),
        }
    }
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// Arguments of `ftp-nat check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ftp-nat top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks, from 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub interval: std::time::Duration,
    /// Show only what contains this: an address, a port, a state
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// What comes first
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t)]
    pub sort: Sort,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.2..=60.0).contains(&seconds) => {
            Ok(std::time::Duration::from_secs_f64(seconds))
        }
        _ => Err("from 0.2 to 60 seconds".into()),
    }
}

/// Arguments of `ftp-nat doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What the gateway is, or would be, started with.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of the commands that only show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// In which form things are listed.
#[derive(Debug, Args)]
pub struct Form {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print only how many there are
    #[arg(long)]
    pub count: bool,
}

/// Arguments of `ftp-nat sessions`.
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// In which form.
    #[command(flatten)]
    pub form: Form,
    /// Between whom.
    #[command(flatten)]
    pub ends: EndsFilter,
    /// In which state.
    #[command(flatten)]
    pub state: StateFilter,
    /// Since when.
    #[command(flatten)]
    pub since: SinceFilter,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `ftp-nat mappings`.
#[derive(Debug, Args)]
pub struct MappingsArgs {
    /// In which form.
    #[command(flatten)]
    pub form: Form,
    /// Between whom.
    #[command(flatten)]
    pub ends: EndsFilter,
    /// Of which kind.
    #[command(flatten)]
    pub kind: KindFilter,
    /// Of which session.
    #[command(flatten)]
    pub session: SessionFilter,
    /// Since when.
    #[command(flatten)]
    pub since: SinceFilter,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `ftp-nat flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// In which form.
    #[command(flatten)]
    pub form: Form,
    /// Between whom.
    #[command(flatten)]
    pub ends: EndsFilter,
    /// In which state.
    #[command(flatten)]
    pub state: StateFilter,
    /// Of which kind.
    #[command(flatten)]
    pub kind: KindFilter,
    /// Of which session.
    #[command(flatten)]
    pub session: SessionFilter,
    /// Since when.
    #[command(flatten)]
    pub since: SinceFilter,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `ftp-nat events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on with what happens from now on, until interrupted
    #[arg(short, long, conflicts_with = "count")]
    pub follow: bool,
    /// In which form; JSON is one object a line.
    #[command(flatten)]
    pub form: Form,
    /// Only what happened under this name: session, opened, used, denied, ended.. (repeatable)
    #[arg(long, value_name = "NAME")]
    pub event: Vec<String>,
    /// Only for this reason, as the metrics name it: unannounced, bounce.. (repeatable)
    #[arg(long, value_name = "REASON")]
    pub reason: Vec<String>,
    /// About what.
    #[command(flatten)]
    pub about: RecordFilter,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Which of the events.
#[derive(Debug, Args)]
pub struct RecordFilter {
    /// Between whom; the server may be either end.
    #[command(flatten)]
    pub ends: EndsFilter,
    /// Of which kind of connection.
    #[command(flatten)]
    pub kind: KindFilter,
    /// Of which session.
    #[command(flatten)]
    pub session: SessionFilter,
    /// Since when.
    #[command(flatten)]
    pub since: SinceFilter,
}

/// Arguments of `ftp-nat transfers`.
#[derive(Debug, Args)]
pub struct TransfersArgs {
    /// Go on with those that end from now on, until interrupted
    #[arg(short, long, conflicts_with = "count")]
    pub follow: bool,
    /// In which form; JSON is one object a line.
    #[command(flatten)]
    pub form: Form,
    /// Only those of this user, as the table shows the name (repeatable)
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Only those by this command: RETR, STOR, DELE.. (repeatable)
    #[arg(long, value_name = "VERB")]
    pub command: Vec<String>,
    /// Only those that did not succeed
    #[arg(long)]
    pub failed: bool,
    /// About what.
    #[command(flatten)]
    pub about: RecordFilter,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `ftp-nat end`.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// A session's number, or a connection by its end outside, as `ftp-nat flows` shows it: ADDR:PORT;
    /// where that end has several, with the public end behind a comma: ADDR:PORT,ADDR:PORT
    #[arg(value_name = "SESSION|FLOW", value_parser = Ending::parse)]
    pub what: Ending,
    /// Tell neither end: their packets are dropped until they give up
    #[arg(long)]
    pub silently: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// What is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A session and all its connections and mappings.
    Session(u32),
    /// A connection.
    Flow {
        /// Its end outside.
        outside: std::net::SocketAddr,
        /// Its public end, where that is needed to tell it from others.
        public: Option<std::net::SocketAddr>,
    },
}

impl Ending {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() == 8
            && let Ok(number) = u32::from_str_radix(text, 16)
        {
            return Ok(Self::Session(number));
        }
        let (outside, public) = match text.split_once(',') {
            Some((outside, public)) => (outside, Some(public)),
            None => (text, None),
        };
        let end = |text: &str| {
            text.parse().map_err(|_| {
                format!(
                    "{text:?} is neither a session (eight hexadecimal digits, as `ftp-nat sessions` \
                     shows them) nor an end (ADDR:PORT, [V6]:PORT)"
                )
            })
        };
        Ok(Self::Flow {
            outside: end(outside)?,
            public: public.map(end).transpose()?,
        })
    }
}

/// Arguments of `ftp-nat trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Only packets from or to this address, be it an end outside, a public one or one inside
    #[arg(long, value_name = "ADDR")]
    pub peer: Option<std::net::IpAddr>,
    /// Only packets of this session, by its number in `ftp-nat sessions`
    #[arg(long, value_name = "NUMBER", value_parser = session_number)]
    pub session: Option<u32>,
    /// Print JSON: one object a line
    #[arg(long)]
    pub json: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

fn session_number(text: &str) -> Result<u32, String> {
    let number = u32::from_str_radix(text, 16).ok();
    number
        .filter(|number| *number != 0 && text.len() == 8)
        .ok_or_else(|| "eight hexadecimal digits, as `ftp-nat sessions` shows them".into())
}

/// Arguments of `ftp-nat trace-guard`.
#[derive(Debug, Args)]
pub struct TraceGuardArgs {
    /// The gateway's name
    pub gateway: String,
    /// Where kernel objects are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// Arguments of `ftp-nat inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Capture file, pcap or pcapng
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Address that the gateway announces (repeatable: one for IPv4, one for IPv6) [default: that
    /// of the end behind the gateway if it is a public one, else an example]
    #[arg(long, value_name = "ADDR")]
    pub public: Vec<std::net::IpAddr>,
    /// Which end is behind the gateway: `publish` the server, `masquerade` the client, `auto`
    /// judges by the addresses
    #[arg(long, value_enum, value_name = "ROLE", default_value = "auto")]
    pub role: InspectRole,
    /// Control port besides 21 (repeatable); sessions on other ports are recognised where their
    /// start was captured
    #[arg(long, value_name = "PORT")]
    pub control_port: Vec<u16>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which end is behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum InspectRole {
    /// Judged by the addresses.
    Auto,
    /// The server.
    Publish,
    /// The client.
    Masquerade,
}

/// Arguments of `ftp-nat list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where kernel objects are pinned
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// Arguments of `ftp-nat unload`.
#[derive(Debug, Args)]
pub struct UnloadArgs {
    /// Every gateway of this machine, those of other network namespaces too
    #[arg(long, conflicts_with_all = ["gone", "wan"])]
    pub all: bool,
    /// Only what network namespaces that are gone have left
    #[arg(long, conflicts_with = "wan")]
    pub gone: bool,
    /// Which gateway.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `ftp-nat completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Whose completions
    pub shell: clap_complete::Shell,
}

/// Arguments of `ftp-nat man-pages`.
#[derive(Debug, Args)]
pub struct ManPagesArgs {
    /// Where to, made if it is not there
    pub dir: PathBuf,
    // Not empty: an argument that is missing would shift those behind it.
    /// The date at the foot of each page
    #[arg(long, default_value = " ", hide_default_value = true)]
    pub date: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_command_and_every_argument_has_a_help_text() {
        fn look(command: &clap::Command, silent: &mut Vec<String>) {
            if command.get_about().is_none() {
                silent.push(command.get_name().to_owned());
            }
            for argument in command.get_arguments() {
                if argument
                    .get_help()
                    .is_none_or(|help| help.to_string().is_empty())
                {
                    silent.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            for command in command.get_subcommands() {
                look(command, silent);
            }
        }
        let mut silent = Vec::new();
        let mut root = Cli::command();
        root.build();
        look(&root, &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        Cli::command().debug_assert();
    }
}
