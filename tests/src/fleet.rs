//! Two gateways between a client and a server, Redis between the gateways, and keepalived.
//!
//! ```text
//!                  ┌─ wan a lan ─┐
//!  client ── wan ──┤   engine    ├── lan ── server
//!                  └─ wan b lan ─┘
//! ```
//!
//! The shared addresses are 198.51.100.1 and 10.0.0.1, as in the lab of one router; keepalived moves
//! both together.

pub mod client;
pub mod cost;
pub mod figures;
pub mod kernel;
pub mod moves;
pub mod speaker;
mod turn;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use self::turn::Turn;
use crate::{
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, LAN, WAN},
    namespace::Namespace,
    process::{self, Running},
    reaper,
    scratch::Scratch,
    tools::Tools,
    unpacked::unpacked_program,
};

/// The engine's folder beside those of the servers, and its packages.
pub const REDIS: &str = "redis-server";
/// Debian's redis-server is a link to a program of redis-tools.
pub const REDIS_PACKAGES: &[&str] = &["redis-server", "redis-tools"];
/// The example configuration for keepalived, which operators get.
const EXAMPLE: &str = include_str!("../../packaging/keepalived/keepalived.conf");
/// What stands in it for a gateway that was installed.
const EXAMPLE_SCRIPT: &str = "/usr/bin/ftp-nat cluster ready";
/// What is not the same at both gateways.
const EXAMPLE_PRIORITY: &str = "priority 100";

/// The folder and package of keepalived.
pub const KEEPALIVED: &str = "keepalived";

/// The address that clients dial.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
/// The server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// The engine's address.
pub const ENGINE: &str = "10.9.0.1";
const START_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Starts an engine with nothing in it on a unix socket of this path, in a namespace.
///
/// # Errors
///
/// When it does not start; the message has what it said.
pub fn redis_at(namespace: &Namespace, socket: &Path) -> anyhow::Result<Running> {
    redis_with(namespace, |command| {
        command.args(["--port", "0", "--unixsocket"]).arg(socket);
    })
}

/// Starts an engine that keeps nothing on disk, with further arguments.
fn redis_with(
    namespace: &Namespace,
    options: impl FnOnce(&mut Command),
) -> anyhow::Result<Running> {
    let folder = Tools::get()?.servers.join(REDIS);
    let mut command = unpacked_program(namespace, &folder, "usr/bin/redis-server")?;
    command.args(["--save", "", "--appendonly", "no"]);
    options(&mut command);
    let mut engine = Running::start(&mut command)?;
    // "Ready to accept connections", by a unix socket "The server is now ready to accept connections".
    engine.wait_for("accept", START_LIMIT)?;
    Ok(engine)
}

/// The scene.
#[derive(Debug)]
pub struct Fleet {
    /// The client outside.
    pub client: Host,
    /// The server inside.
    pub server: Host,
    /// The two routers.
    pub routers: [Namespace; 2],
    /// The switches of all three networks, and the engine's host.
    switch: Namespace,
    folder: Scratch,
    engine: Option<Running>,
    /// The last one to be dropped.
    _turn: Turn,
}

impl Fleet {
    /// Sets everything up, with the engine running and nobody having the shared addresses yet. Of
    /// more than two in a process, one waits for another's end.
    ///
    /// # Errors
    ///
    /// For want of root, of iproute2, or of an unpacked engine.
    pub fn new() -> anyhow::Result<Self> {
        let turn = Turn::wait();
        let name = reaper::unique_name();
        let namespace = |role: &str| Namespace::create(&format!("{name}-{role}"));
        let switch = namespace("switch")?;
        for bridge in ["outside", "inside", "engine"] {
            switch.ip(&format!(
                "link add {bridge} type bridge forward_delay 0 mcast_snooping 0\nlink set {bridge} up"
            ))?;
        }
        switch.ip(&format!("addr add {ENGINE}/24 dev engine"))?;
        let client = host(&switch, namespace("client")?, "outside", CLIENT, None)?;
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let server = host(
            &switch,
            namespace("server")?,
            "inside",
            SERVER,
            Some(gateway),
        )?;
        let mut routers = Vec::new();
        for (place, role) in ["a", "b"].into_iter().enumerate() {
            let router = namespace(role)?;
            for (bridge, interface, network) in [
                ("outside", WAN, "198.51.100"),
                ("inside", LAN, "10.0.0"),
                ("engine", "eng", "10.9.0"),
            ] {
                plug(&switch, &router, bridge, interface, role)?;
                let own = place + 2;
                router.ip(&format!("addr add {network}.{own}/24 dev {interface}"))?;
            }
            router.sysctl("net.ipv4.ip_forward", "1")?;
            routers.push(router);
        }
        let routers: [Namespace; 2] = routers.try_into().ok().context("two routers")?;
        let mut fleet = Self {
            client,
            server,
            routers,
            switch,
            folder: Scratch::new()?,
            engine: None,
            _turn: turn,
        };
        fleet.start_engine()?;
        Ok(fleet)
    }

    /// Starts the engine, empty.
    ///
    /// # Errors
    ///
    /// When it does not answer; the message has what it said.
    pub fn start_engine(&mut self) -> anyhow::Result<()> {
        self.engine = Some(self.redis(&["--port", "6379"])?);
        Ok(())
    }

    /// Starts one more server of the engine's kind beside it, with these options.
    ///
    /// # Errors
    ///
    /// When it does not answer; the message has what it said.
    pub fn redis(&self, options: &[&str]) -> anyhow::Result<Running> {
        redis_with(&self.switch, |command| {
            command
                .args(["--bind", ENGINE, "--protected-mode", "no", "--dir"])
                .arg(self.folder.path())
                .args(options);
        })
    }

    /// Starts a sentinel that watches the master `edge` at this port of the engine's host.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn sentinel(&self, port: u16, master: u16) -> anyhow::Result<Running> {
        let config = self.folder.write(
            &format!("sentinel{port}.conf"),
            format!(
                "port {port}\nbind {ENGINE}\nprotected-mode no\nsentinel monitor edge {ENGINE} {master} 1\n\
                 sentinel down-after-milliseconds edge 1000\nsentinel failover-timeout edge 3000\n"
            ),
        )?;
        let folder = Tools::get()?.servers.join(REDIS);
        let mut command = unpacked_program(&self.switch, &folder, "usr/bin/redis-server")?;
        command.arg(config).arg("--sentinel");
        let mut sentinel = Running::start(&mut command)?;
        sentinel.wait_for("monitor", START_LIMIT)?;
        Ok(sentinel)
    }

    /// A folder for what tests write; it goes with the scene.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The engine's process id, while it runs.
    #[must_use]
    pub fn engine_pid(&self) -> Option<u32> {
        self.engine.as_ref().map(Running::pid)
    }

    /// Ends the engine.
    pub fn stop_engine(&mut self) {
        self.engine = None;
    }

    /// Runs a command of the engine's own command line.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn engine(&self, words: &[&str]) -> anyhow::Result<String> {
        let folder = Tools::get()?.servers.join(REDIS);
        let mut command = unpacked_program(&self.switch, &folder, "usr/bin/redis-cli")?;
        command.args(["-h", ENGINE]).args(words);
        Ok(process::run(&mut command, ANSWER_LIMIT)?
            .expect_success()?
            .text())
    }

    /// Starts ftp-nat on router number `place`, with this in its configuration beside the cluster.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn gateway(&self, place: usize, more: &str) -> anyhow::Result<Gateway<'_>> {
        self.gateway_by(place, place + 1, &usual_engine(), more)
    }

    /// Starts ftp-nat on router number `place`, as one that shares nothing with anybody.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn lone_gateway(&self, place: usize, more: &str) -> anyhow::Result<Gateway<'_>> {
        let text = format!(
            "[gateway]\nwan = [\"{WAN}\"]\nlan = [\"{LAN}\"]\n\n[[publish]]\npublic = \
             \"{PUBLIC}:21\"\nserver = \"{SERVER}:21\"\n{more}"
        );
        let config = self.folder.write(&format!("{place}-alone.toml"), text)?;
        let path = config.to_str().context("a path of UTF-8")?;
        Gateway::start(&self.routers[place], &["--config", path])
    }

    /// Gives router number `place` the shared addresses, without keepalived.
    ///
    /// # Errors
    ///
    /// When ip fails.
    pub fn give_addresses(&self, place: usize) -> anyhow::Result<()> {
        self.routers[place].ip(&format!(
            "addr add {PUBLIC}/24 dev {WAN}\naddr add 10.0.0.1/24 dev {LAN}"
        ))
    }

    /// As [`Self::gateway`], with this number of a gateway and this engine; `engine` may end the string and go on with
    /// further keys of `[cluster]`.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn gateway_by(
        &self,
        place: usize,
        node: usize,
        engine: &str,
        more: &str,
    ) -> anyhow::Result<Gateway<'_>> {
        let config = self.configure(place, node, engine, more)?;
        let path = config.to_str().context("a path of UTF-8")?;
        Gateway::start(&self.routers[place], &["--config", path])
    }

    /// Writes the configuration file of [`Self::gateway_by`].
    fn configure(
        &self,
        place: usize,
        node: usize,
        engine: &str,
        more: &str,
    ) -> anyhow::Result<PathBuf> {
        let (engine, keys) = engine.split_once('\n').unwrap_or((engine, ""));
        self.folder.write(
            &format!("{place}.toml"),
            format!(
                "[gateway]\nwan = [\"{WAN}\"]\nlan = [\"{LAN}\"]\n\n[cluster]\nengine = \
                 [\"{engine}\"]\nname = \"lab\"\nnode = {node}\n{keys}\n\n[[publish]]\npublic = \
                 \"{PUBLIC}:21\"\nserver = \"{SERVER}:21\"\n{more}"
            ),
        )
    }

    /// Gives a gateway of [`Self::gateway`] on router number `place` another configuration.
    ///
    /// # Errors
    ///
    /// When it does not take it.
    pub fn reconfigure(
        &self,
        place: usize,
        gateway: &Gateway<'_>,
        more: &str,
    ) -> anyhow::Result<()> {
        self.configure(place, place + 1, &usual_engine(), more)?;
        gateway.ask(&["reload"])?.expect_success()?;
        Ok(())
    }

    /// Starts keepalived on router number `place`: the first one is the master as long as it can be.
    /// It asks the gateway there whether it is ready.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn keepalived(&self, place: usize, gateway: &Gateway<'_>) -> anyhow::Result<Running> {
        self.keepalived_with(place, Some(gateway))
    }

    /// The same; without a gateway it asks nobody.
    ///
    /// # Errors
    ///
    /// As [`Self::keepalived`].
    pub fn keepalived_with(
        &self,
        place: usize,
        gateway: Option<&Gateway<'_>>,
    ) -> anyhow::Result<Running> {
        let ready = match gateway {
            Some(gateway) => format!(
                "{} cluster ready --state-dir {}",
                Tools::get()?.binary.display(),
                gateway.state_dir().display()
            ),
            None => "/bin/true".to_owned(),
        };
        let name = format!("keepalived{place}");
        let text = adapted(&[
            (EXAMPLE_SCRIPT, &ready),
            (EXAMPLE_PRIORITY, &format!("priority {}", 100 - place)),
        ])?;
        let config = self.folder.write(&format!("{name}.conf"), text)?;
        let folder = Tools::get()?.servers.join(KEEPALIVED);
        let mut command = unpacked_program(&self.routers[place], &folder, "usr/sbin/keepalived")?;
        let file = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        command
            .args([
                "--dont-fork",
                "--log-console",
                "--log-detail",
                "--vrrp",
                "-f",
            ])
            .arg(config)
            .arg("-p")
            .arg(file("pid"))
            .arg("-r")
            .arg(file("vrrp"));
        Running::start(&mut command)
    }

    /// The router that has the shared addresses; none, or both, is an error after a while.
    ///
    /// # Errors
    ///
    /// When there is not exactly one within ten seconds.
    pub fn master(&self) -> anyhow::Result<usize> {
        let start = Instant::now();
        loop {
            let mut holders = Vec::new();
            for place in 0..self.routers.len() {
                if self.has_address(place)? {
                    holders.push(place);
                }
            }
            if let [master] = holders[..] {
                return Ok(master);
            }
            if start.elapsed() > Duration::from_secs(10) {
                bail!("the shared address is at {holders:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_address(&self, place: usize) -> anyhow::Result<bool> {
        let mut command = self.routers[place].command("ip")?;
        command.args(["-4", "-o", "addr", "show", "dev", WAN]);
        let text = process::run(&mut command, ANSWER_LIMIT)?.text();
        Ok(text.contains(&format!("{PUBLIC}/")))
    }

    /// Waits until router number `place` has the shared addresses.
    ///
    /// # Errors
    ///
    /// When that takes more than ten seconds.
    pub fn wait_for_address(&self, place: usize) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.has_address(place)? {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("the shared address does not come to router {place}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether the client and the server send to router number `place`, by their neighbour tables.
    ///
    /// # Errors
    ///
    /// When ip fails.
    pub fn is_used(&self, place: usize) -> anyhow::Result<bool> {
        let address_of = |namespace: &Namespace, interface: &str| -> anyhow::Result<String> {
            let mut command = namespace.command("ip")?;
            command.args(["-o", "link", "show", "dev", interface]);
            let text = process::run(&mut command, ANSWER_LIMIT)?.text();
            let mut words = text.split_whitespace();
            words.find(|word| *word == "link/ether");
            Ok(words.next().context("an Ethernet address")?.to_owned())
        };
        let router = &self.routers[place];
        let public = PUBLIC.to_string();
        for (host, next, interface) in [
            (&self.client, public.as_str(), WAN),
            (&self.server, "10.0.0.1", LAN),
        ] {
            let mut command = host.namespace.command("ip")?;
            command.args(["neigh", "show", next]);
            let known = process::run(&mut command, ANSWER_LIMIT)?.text();
            if !known.contains(&address_of(router, interface)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has the network between the gateways lose keepalived's advertisements, or no more.
    ///
    /// # Errors
    ///
    /// When nft fails.
    pub fn lose_advertisements(&self, are_lost: bool) -> anyhow::Result<()> {
        self.switch.nft(if are_lost {
            "table bridge lost {\n chain through { type filter hook forward priority 0; \
             ether type ip ip protocol 112 drop; }\n}\n"
        } else {
            "delete table bridge lost\n"
        })
    }

    /// Whether router number `place` has the shared addresses.
    ///
    /// # Errors
    ///
    /// When ip fails.
    pub fn is_master(&self, place: usize) -> anyhow::Result<bool> {
        self.has_address(place)
    }

    /// Pulls all cables of a router at once, or plugs them in again.
    ///
    /// # Errors
    ///
    /// When nft or ip fails.
    pub fn cable(&self, place: usize, is_plugged: bool) -> anyhow::Result<()> {
        let role = ["a", "b"][place];
        let ports = ["outside", "inside", "engine"].map(|bridge| port(bridge, role));
        let state = if is_plugged { "up" } else { "down" };
        let lines = ports
            .each_ref()
            .map(|port| format!("link set {port} {state}"));
        if !is_plugged {
            // Links go down one by one, some milliseconds apart; a ruleset comes into force at once.
            let devices = ports.join(", ");
            self.switch.nft(&format!(
                "table netdev cut {{\n chain from {{ type filter hook ingress devices = {{ {devices} }} \
                 priority 0; drop; }}\n chain to {{ type filter hook egress devices = {{ {devices} }} \
                 priority 0; drop; }}\n}}\n"
            ))?;
        }
        self.switch.ip(&lines.join("\n"))?;
        if !is_plugged {
            self.switch.nft("delete table netdev cut\n")?;
        }
        Ok(())
    }
}

/// The name of a switch's port.
fn port(bridge: &str, role: &str) -> String {
    format!("{}-{role}", &bridge[..3])
}

/// Joins an interface of a namespace to a switch.
fn plug(
    switch: &Namespace,
    namespace: &Namespace,
    bridge: &str,
    interface: &str,
    role: &str,
) -> anyhow::Result<()> {
    let port = port(bridge, role);
    switch.ip(&format!(
        "link add {port} type veth peer name {interface} netns {}\nlink set {port} master {bridge} up",
        namespace.name()
    ))?;
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    namespace.ip(&format!("link set {interface} up"))
}

fn host(
    switch: &Namespace,
    namespace: Namespace,
    bridge: &str,
    address: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
) -> anyhow::Result<Host> {
    plug(switch, &namespace, bridge, HOST_INTERFACE, "host")?;
    namespace.ip(&format!("addr add {address}/24 dev {HOST_INTERFACE}"))?;
    if let Some(gateway) = gateway {
        namespace.ip(&format!("route add default via {gateway}"))?;
    }
    Ok(Host {
        namespace,
        v4: address,
        v6: Ipv6Addr::UNSPECIFIED,
    })
}

/// Where the engine is.
fn usual_engine() -> String {
    format!("redis://{ENGINE}:6379")
}

/// [`EXAMPLE`] with these pieces replaced, each of which stands there once.
fn adapted(pieces: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = EXAMPLE.to_owned();
    for (piece, instead) in pieces {
        ensure!(
            text.matches(piece).count() == 1,
            "packaging/keepalived/keepalived.conf does not have {piece:?} once"
        );
        text = text.replace(piece, instead);
    }
    Ok(text)
}
