//! `ftp-nat status`: what is attached and how much is alive.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use anyhow::Context as _;
use aya::programs::ProgramInfo;
use ftp_nat_common::{
    abi::{LAYOUT, Pool, Publish, PublishKey, interface_flag, publish_flag},
    counter::Counter,
    wire::addr::Endpoint,
};
use serde::Serialize;

use crate::{
    cli::ShowArgs,
    client::view::{Loaded, View},
    config::value::MssClamp,
    datapath::{
        attach::{self, Attachment, Kind},
        maps::Maps,
        pools::sessions_of_servers,
        shares::most_refused,
        stations,
    },
    ipc::{connection::Answer, message::LastReload},
    kernel::network::Network,
    metrics::session_states,
    model::pool,
    output::{
        columns::{Columns, Side},
        failure::Failure,
        human,
        print::{print, print_json},
        text::address,
    },
};

/// All of it, as JSON has it.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    layout: u32,
    namespace: String,
    gateways: Vec<GatewayStatus>,
}

#[derive(Debug, Serialize)]
struct GatewayStatus {
    name: String,
    state_dir: String,
    /// Of the ftp-nat that loaded the programs.
    datapath_version: String,
    /// Whether `ftp-nat trace` runs, or was killed just now.
    traced: bool,
    /// None while no daemon runs: the programs do without.
    daemon: Option<DaemonStatus>,
    interfaces: Vec<InterfaceStatus>,
    programs: Vec<ProgramStatus>,
    /// Programs that should be attached by TC: two on a WAN, one on an inside interface.
    programs_wanted: usize,
    published: Vec<PublishStatus>,
    sessions: Fill,
    /// The sessions by the states of their control connections.
    session_states: BTreeMap<&'static str, u64>,
    mappings: Fill,
    connections: Connections,
    /// Those that were refused most because they had their share, the first ones first.
    refused_clients: Vec<ClientStatus>,
    /// What each published server has announced for passive connections.
    announced: Vec<AnnouncedStatus>,
    settings: SettingsStatus,
    counters: Vec<Counted>,
}

#[derive(Debug, Serialize)]
struct DaemonStatus {
    pid: u32,
    state: DaemonState,
    /// None while it does not answer.
    version: Option<String>,
    /// Since when it is ready.
    since: Option<String>,
    /// None when there was none since its start.
    last_reload: Option<LastReload>,
}

impl DaemonStatus {
    fn text(&self) -> String {
        let mut text = format!("process {}", self.pid);
        if let Some(version) = &self.version {
            let _ = write!(text, ", ftp-nat {version}");
        }
        if let Some(since) = &self.since {
            let _ = write!(text, ", since {since}");
        }
        if let Some(LastReload { time, applied }) = &self.last_reload {
            let result = if *applied {
                "applied"
            } else {
                "refused, the old configuration stays"
            };
            let _ = write!(text, ", last reload {time} ({result})");
        }
        text
    }
}

/// How a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum DaemonState {
    Starting,
    Running,
    /// It has been ready, but does not answer.
    Hanging,
}

impl From<&Answer> for DaemonState {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Starting => Self::Starting,
            Answer::Hello(_) => Self::Running,
            Answer::None => Self::Hanging,
        }
    }
}

#[derive(Debug, Serialize)]
struct InterfaceStatus {
    /// None when it is gone.
    name: Option<String>,
    ifindex: u32,
    role: &'static str,
    mtu: u32,
    ethernet: bool,
}

#[derive(Debug, Serialize)]
struct ProgramStatus {
    name: &'static str,
    interface: String,
    attach: Kind,
    id: u32,
    /// As loaded: what the kernel runs.
    instructions: Option<u32>,
    /// That the verifier looked at, over all paths.
    verified_instructions: Option<u32>,
    jitted_bytes: Option<u32>,
}

#[derive(Debug, Serialize)]
struct PublishStatus {
    public: Option<String>,
    public_port: u16,
    server: Option<String>,
    server_port: u16,
    local: bool,
    advertise: Option<String>,
    control_nat: &'static str,
    passive_ports: Option<String>,
    peer: &'static str,
    /// The servers of a pool, of which `server` is the first one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pool: Vec<ServerStatus>,
}

/// A server of a pool.
#[derive(Debug, Serialize)]
struct ServerStatus {
    server: Option<String>,
    server_port: u16,
    /// `up`, `down`, `unknown` (not checked yet) or `draining`.
    state: &'static str,
    /// Seconds since it is so; none: it has always been so.
    seconds: Option<f64>,
    /// What its last check has met, while it is down; it may be drained as well.
    why_down: Option<String>,
    sessions: u64,
}

#[derive(Debug, Serialize)]
struct Fill {
    count: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct Connections {
    ipv4: Fill,
    ipv6: Fill,
}

#[derive(Debug, Serialize)]
struct ClientStatus {
    client: String,
    sessions: u32,
    connections: u32,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct AnnouncedStatus {
    server: String,
    /// The lowest port.
    first: u16,
    /// The highest port.
    last: u16,
    times: u64,
}

/// Clients that are named.
const NAMED: usize = 5;

#[derive(Debug, Serialize)]
struct SettingsStatus {
    mark: u32,
    remap_ports: String,
    mss_clamp: String,
    mapping_timeout: f64,
    route_epoch: u16,
}

#[derive(Debug, Serialize)]
struct Counted {
    family: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'static str,
    packets: u64,
    bytes: Option<u64>,
    #[serde(skip)]
    help: &'static str,
}

/// Shows it.
///
/// # Errors
///
/// When no gateway is loaded, or it cannot be read.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let network = Network::read([], &[])?;
    let gateways = view
        .loaded
        .iter()
        .map(|loaded| gateway(&view, loaded, &network))
        .collect::<anyhow::Result<_>>()?;
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        layout: LAYOUT,
        namespace: view.namespace,
        gateways,
    };
    if args.json {
        print_json(&status)?;
    } else {
        print(&status.text())?;
    }
    Ok(())
}

fn announced(maps: &Maps) -> anyhow::Result<Vec<AnnouncedStatus>> {
    let mut all = maps
        .announced
        .all()
        .context("cannot read the ports that servers have announced")?;
    all.sort_by_key(|(server, _)| server.to_ip());
    let status = all.into_iter().map(|(server, it)| AnnouncedStatus {
        server: server.to_string(),
        first: it.first,
        last: it.last,
        times: it.times,
    });
    Ok(status.collect())
}

fn gateway(view: &View, loaded: &Loaded, network: &Network) -> anyhow::Result<GatewayStatus> {
    let Loaded {
        gateway,
        maps,
        daemon,
    } = loaded;
    let settings = maps.settings()?;
    let fill = |count: usize, limit: u32| Fill {
        count: count as u64,
        limit: limit.into(),
    };
    // A connection has two entries, one a direction.
    let connections = |count: usize, limit: u32| Fill {
        count: count.div_ceil(2) as u64,
        limit: u64::from(limit / 2),
    };
    let mut interfaces: Vec<_> = maps
        .interfaces
        .all()?
        .into_iter()
        .map(|(ifindex, it)| InterfaceStatus {
            name: network.numbered(ifindex).map(|link| link.name.clone()),
            ifindex,
            role: if it.flags & interface_flag::WAN != 0 {
                "wan"
            } else {
                "lan"
            },
            mtu: it.mtu,
            ethernet: it.flags & interface_flag::ETHERNET != 0,
        })
        .collect();
    let programs_wanted = interfaces
        .iter()
        .map(|it| if it.role == "wan" { 2 } else { 1 })
        .sum();
    interfaces.sort_by_key(|it| (it.role == "lan", it.ifindex));
    let mut published = maps.published.all()?;
    // Those are only addresses.
    published.retain(|(key, _)| key.port.number() != 0);
    published.sort_by_key(|(_, entry)| entry.index);
    let routed = maps.routed.all()?;
    let pools = maps.pools.all().context("cannot read the pools")?;
    let sessions = if pools.is_empty() {
        HashMap::new()
    } else {
        sessions_of_servers(&maps.sessions).context("cannot count the sessions")?
    };
    Ok(GatewayStatus {
        name: gateway.name().to_owned(),
        state_dir: gateway.dir().display().to_string(),
        datapath_version: String::from_utf8_lossy(&settings.version)
            .trim_end_matches('\0')
            .to_owned(),
        traced: stations::are_replaced(gateway).unwrap_or(false),
        daemon: daemon.as_ref().map(|daemon| DaemonStatus {
            pid: daemon.pid,
            state: DaemonState::from(&daemon.answer),
            version: daemon.hello().map(|hello| hello.version.clone()),
            since: daemon.hello().and_then(|hello| hello.since.clone()),
            last_reload: daemon.hello().and_then(|hello| hello.last_reload.clone()),
        }),
        interfaces,
        programs: attach::attached(gateway, network)?
            .iter()
            .map(|it| program(loaded, it))
            .collect(),
        published: published
            .iter()
            .map(|(key, entry)| PublishStatus {
                pool: pools
                    .get(key)
                    .map_or_else(Vec::new, |pool| servers(view, key, pool, &sessions)),
                ..publish(key, entry)
            })
            .chain(routed.iter().map(|(prefix, entry)| PublishStatus {
                public: Some(prefix.network().to_string()),
                ..publish(&prefix.of_address(), entry)
            }))
            .collect(),
        programs_wanted,
        sessions: fill(maps.sessions.count()?, maps.sessions.room()?),
        session_states: session_states(maps)?.into_iter().collect(),
        mappings: fill(maps.mappings.count()?, maps.mappings.room()?),
        connections: Connections {
            ipv4: connections(maps.flows4.count()?, maps.flows4.room()?),
            ipv6: connections(maps.flows6.count()?, maps.flows6.room()?),
        },
        announced: announced(maps)?,
        refused_clients: most_refused(maps, NAMED)?
            .iter()
            .map(|it| ClientStatus {
                client: it.name(),
                sessions: it.share.sessions,
                connections: it.share.connections,
                refused: it.share.refused,
            })
            .collect(),
        settings: SettingsStatus {
            mark: settings.mark,
            remap_ports: format!("{}-{}", settings.remap_first, settings.remap_last),
            mss_clamp: MssClamp::of(settings.mss_clamp).to_string(),
            mapping_timeout: view.clock.time(settings.mapping_timeout).as_secs_f64(),
            route_epoch: settings.route_epoch,
        },
        counters: counters(loaded)?,
    })
}

fn program(loaded: &Loaded, it: &Attachment) -> ProgramStatus {
    // The pinned one is the one that is attached, unless a new daemon is just taking over.
    let info = ProgramInfo::from_pin(loaded.gateway.program(it.program))
        .ok()
        .filter(|info| info.id() == it.id);
    ProgramStatus {
        name: it.program.name(),
        interface: it.interface.clone(),
        attach: it.kind,
        id: it.id,
        instructions: info
            .as_ref()
            .and_then(ProgramInfo::size_translated)
            .map(|bytes| bytes / INSTRUCTION),
        verified_instructions: info
            .as_ref()
            .and_then(ProgramInfo::verified_instruction_count),
        jitted_bytes: info.as_ref().map(ProgramInfo::size_jitted),
    }
}

/// The size of a BPF instruction, in bytes.
const INSTRUCTION: u32 = 8;

fn publish(key: &PublishKey, entry: &Publish) -> PublishStatus {
    let has = |flag| entry.flags & flag != 0;
    PublishStatus {
        public: address(key.addr),
        public_port: key.port.number(),
        server: address(entry.server.addr),
        server_port: entry.server.port.number(),
        local: has(publish_flag::LOCAL),
        advertise: address(entry.advertise),
        control_nat: if has(publish_flag::KERNEL_NAT) {
            "kernel"
        } else if has(publish_flag::LOCAL) {
            "none"
        } else {
            "ebpf"
        },
        passive_ports: (entry.passive_first != 0)
            .then(|| format!("{}-{}", entry.passive_first, entry.passive_last)),
        peer: if has(publish_flag::ANY_PEER) {
            "any"
        } else {
            "same"
        },
        pool: Vec::new(),
    }
}

fn servers(
    view: &View,
    key: &PublishKey,
    pool: &Pool,
    sessions: &HashMap<(Endpoint, Endpoint), u64>,
) -> Vec<ServerStatus> {
    let public = Endpoint::new(key.addr, key.port);
    let servers = pool.all().iter().map(|it| ServerStatus {
        server: address(it.server.addr),
        server_port: it.server.port.number(),
        state: pool::state(it),
        seconds: (it.since != 0).then(|| view.age(it.since)),
        why_down: pool::why_down(it),
        sessions: sessions.get(&(public, it.server)).copied().unwrap_or(0),
    });
    servers.collect()
}

fn counters(loaded: &Loaded) -> anyhow::Result<Vec<Counted>> {
    let counts = loaded.maps.counters()?;
    Ok(Counter::ALL
        .iter()
        .zip(counts)
        .map(|(counter, count)| {
            let description = counter.description();
            Counted {
                family: description.family,
                label: description.label,
                value: description.value,
                packets: count.packets,
                bytes: description.bytes.then_some(count.bytes),
                help: description.help,
            }
        })
        .collect())
}

/// An end, as people write it.
fn end(address: &Option<String>, port: u16) -> String {
    let address = address.as_deref().unwrap_or("-");
    if address.contains(':') && !address.contains('/') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

impl Status {
    fn text(&self) -> String {
        let mut text = String::new();
        for (place, gateway) in self.gateways.iter().enumerate() {
            if place > 0 {
                text.push('\n');
            }
            gateway.write(&mut text, self);
        }
        text
    }
}

impl GatewayStatus {
    fn write(&self, text: &mut String, of: &Status) {
        let _ = writeln!(
            text,
            "gateway {} in {}: programs of ftp-nat {}, layout {}",
            self.name, of.namespace, self.datapath_version, of.layout
        );
        let _ = match &self.daemon {
            Some(daemon) => match daemon.state {
                DaemonState::Starting => {
                    writeln!(text, "daemon: process {} is starting", daemon.pid)
                }
                DaemonState::Running => writeln!(text, "daemon: {}", daemon.text()),
                DaemonState::Hanging => writeln!(
                    text,
                    "daemon: process {} does not answer: it hangs or is stopped (SIGSTOP); restart \
                     it, connections go on",
                    daemon.pid
                ),
            },
            None => writeln!(
                text,
                "daemon: not running (the programs go on; nothing is swept or followed)"
            ),
        };
        let attached = self.programs.iter().filter(|it| it.attach != Kind::Xdp);
        let _ = writeln!(
            text,
            "programs: {} of {} attached",
            attached.count(),
            self.programs_wanted
        );
        if self.traced {
            text.push_str("traced: `ftp-nat trace` runs\n");
        }
        self.write_programs(text);
        self.write_published(text);
        text.push('\n');
        for (what, fill) in [
            ("sessions", &self.sessions),
            ("mappings", &self.mappings),
            ("connections, IPv4", &self.connections.ipv4),
            ("connections, IPv6", &self.connections.ipv6),
        ] {
            let _ = writeln!(
                text,
                "{what:<18} {:>9} of {}",
                human::count(fill.count),
                human::count(fill.limit)
            );
            if what == "sessions" && fill.count > 0 {
                let states = self.session_states.iter();
                let states: Vec<_> = states
                    .filter(|(_, count)| **count > 0)
                    .map(|(state, count)| format!("{} {state}", human::count(*count)))
                    .collect();
                let _ = writeln!(text, "{:<18} {}", "", states.join(", "));
            }
        }
        self.write_refused(text);
        self.write_counters(text);
    }

    fn write_refused(&self, text: &mut String) {
        if self.refused_clients.is_empty() {
            return;
        }
        let mut columns = Columns::new(&[
            ("CLIENT AT ITS SHARE", Side::Left),
            ("REFUSED", Side::Right),
            ("SESSIONS", Side::Right),
            ("CONNECTIONS", Side::Right),
        ]);
        for it in &self.refused_clients {
            columns.row(vec![
                it.client.clone(),
                human::count(it.refused),
                human::count(it.sessions.into()),
                human::count(it.connections.into()),
            ]);
        }
        let _ = write!(text, "\n{}", columns.text());
    }

    fn write_programs(&self, text: &mut String) {
        let mut columns = Columns::new(&[
            ("INTERFACE", Side::Left),
            ("ROLE", Side::Left),
            ("MTU", Side::Right),
            ("PROGRAM", Side::Left),
            ("BY", Side::Left),
            ("ID", Side::Right),
            ("INSNS", Side::Right),
            ("VERIFIED", Side::Right),
        ]);
        let number = |number: Option<u32>| number.map_or("-".into(), |n| human::count(n.into()));
        for program in &self.programs {
            let interface = self
                .interfaces
                .iter()
                .find(|it| it.name.as_deref() == Some(&program.interface));
            columns.row(vec![
                program.interface.clone(),
                interface.map_or("-", |it| it.role).into(),
                interface.map_or("-".into(), |it| it.mtu.to_string()),
                program.name.into(),
                program.attach.name().into(),
                program.id.to_string(),
                number(program.instructions),
                number(program.verified_instructions),
            ]);
        }
        if self.programs.is_empty() {
            text.push_str("attached: nothing\n");
        } else {
            let _ = write!(text, "\n{}", columns.text());
        }
    }

    fn write_published(&self, text: &mut String) {
        if self.published.is_empty() {
            return;
        }
        let mut columns = Columns::new(&[
            ("PUBLIC", Side::Left),
            ("SERVER", Side::Left),
            ("ANNOUNCES", Side::Left),
            ("NAT", Side::Left),
            ("PASSIVE PORTS", Side::Left),
        ]);
        for it in &self.published {
            columns.row(vec![
                end(&it.public, it.public_port),
                if it.local {
                    "local".into()
                } else if !it.pool.is_empty() {
                    format!("{} servers", it.pool.len())
                } else if it.server_port == 0 {
                    "the same".into()
                } else {
                    end(&it.server, it.server_port)
                },
                it.advertise.clone().unwrap_or_else(|| "-".into()),
                it.control_nat.into(),
                it.passive_ports.clone().unwrap_or_else(|| "any".into()),
            ]);
        }
        let _ = write!(text, "\n{}", columns.text());
        self.write_pools(text);
    }

    fn write_pools(&self, text: &mut String) {
        let mut columns = Columns::new(&[
            ("POOL", Side::Left),
            ("SERVER", Side::Left),
            ("STATE", Side::Left),
            ("SINCE", Side::Right),
            ("SESSIONS", Side::Right),
            ("WHY DOWN", Side::Left),
        ]);
        let pools = self.published.iter();
        let servers = pools.flat_map(|it| it.pool.iter().map(move |server| (it, server)));
        let mut any = false;
        for (of, it) in servers {
            any = true;
            columns.row(vec![
                end(&of.public, of.public_port),
                end(&it.server, it.server_port),
                it.state.into(),
                it.seconds.map_or("-".into(), human::duration),
                human::count(it.sessions),
                it.why_down.clone().unwrap_or_default(),
            ]);
        }
        if any {
            let _ = write!(text, "\n{}", columns.text());
        }
    }

    fn write_counters(&self, text: &mut String) {
        let mut columns = Columns::new(&[
            ("COUNT", Side::Right),
            ("BYTES", Side::Right),
            ("WHAT", Side::Left),
        ]);
        let mut any = false;
        for it in self.counters.iter().filter(|it| it.packets > 0) {
            any = true;
            columns.row(vec![
                human::count(it.packets),
                it.bytes.map_or("-".into(), human::bytes),
                it.help.into(),
            ]);
        }
        if any {
            let _ = write!(text, "\n{}", columns.text());
        }
    }
}
