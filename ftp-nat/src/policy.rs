//! What the configuration means on this machine now: the contents of the datapath's tables and the
//! hooks that it must be attached to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use ftp_nat_common::{
    abi::{Interface, Publish, PublishKey, Settings, interface_flag, port, publish_flag},
    addr::{Addr, Endpoint, Port},
};

use crate::{
    attach::{Hook, Program},
    clock::Clock,
    config::{
        self, Config, ControlNat, Lan, Peer, Place, Problem,
        value::{Public, Server},
    },
    maps::Maps,
    network::{Link, Network, Route},
};

/// How long an unfinished line is held: longer than a Linux sender's first two retransmissions
/// (1 s and 2 s at most for a fresh connection), so that its end gets the chance to come.
const HOLD: std::time::Duration = std::time::Duration::from_millis(2500);

/// What the datapath is to know and where it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where programs must be.
    pub hooks: Vec<Hook>,
    /// The INTERFACES map.
    pub interfaces: BTreeMap<u32, Interface>,
    /// The PUBLISHED map.
    pub published: HashMap<PublishKey, Publish>,
    /// The control ports' bits of the PORTS map.
    pub ports: BTreeMap<u16, u8>,
    /// What works, but perhaps not as meant.
    pub warnings: BTreeSet<String>,
}

/// Why the configuration cannot be put into effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is wrong: it names what is not there.
    Config(Problem),
    /// It may be right, but the machine is not ready for it.
    Machine(String),
}

impl Obstacle {
    /// Whether the machine may get over it by itself.
    pub const fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Machine(_))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problem) => problem.fmt(f),
            Self::Machine(what) => f.write_str(what),
        }
    }
}

/// The addresses whose routes a policy depends on.
pub fn destinations(config: &Config) -> Vec<IpAddr> {
    let mut servers: Vec<_> = servers(config).map(|(_, server)| server.ip()).collect();
    servers.sort_unstable();
    servers.dedup();
    servers
}

fn servers(config: &Config) -> impl Iterator<Item = (&config::Publish, SocketAddr)> {
    config.publish.iter().filter_map(|publish| {
        let Server::Behind(server) = publish.server.value else {
            return None;
        };
        Some((publish, server))
    })
}

impl Policy {
    /// What the configuration means on this network, as far as it can be put into effect, and what
    /// stands in the way of the rest.
    pub fn derive(config: &Config, network: &Network) -> (Self, Vec<Obstacle>) {
        let mut policy = Self::default();
        let mut obstacles = Vec::new();
        let wans = named(&config.wan, network, &mut obstacles);
        let lans = lans(config, network, &wans, &mut obstacles);
        for link in &wans {
            policy.attach(link, Program::WanIngress);
            policy.attach(link, Program::WanEgress);
            policy.interface(link, interface_flag::WAN);
        }
        for link in &lans {
            policy.attach(link, Program::LanIngress);
            policy.interface(link, interface_flag::LAN);
        }
        for (index, publish) in config.publish.iter().enumerate() {
            policy.publish(index, publish, network, &mut obstacles);
        }
        for masquerade in &config.masquerade {
            for number in &masquerade.control_ports {
                *policy.ports.entry(*number).or_default() |= port::MASQUERADED;
            }
        }
        (policy, obstacles)
    }

    fn attach(&mut self, link: &Link, program: Program) {
        self.hooks.push(Hook {
            link: link.clone(),
            program,
        });
    }

    fn interface(&mut self, link: &Link, flag: u32) {
        let ethernet = if link.ethernet {
            interface_flag::ETHERNET
        } else {
            0
        };
        let entry = self.interfaces.entry(link.index).or_default();
        entry.flags |= flag | ethernet;
        entry.mtu = link.mtu;
    }

    fn publish(
        &mut self,
        index: usize,
        publish: &config::Publish,
        network: &Network,
        obstacles: &mut Vec<Obstacle>,
    ) {
        for public in self.public_ends(publish, network, obstacles) {
            let (server, local) = match publish.server.value {
                Server::Behind(server) => (server, false),
                Server::Local => (public, true),
            };
            let advertise = publish.advertise.as_ref().map(|given| given.value);
            let range = publish.passive_ports;
            let mut flags = 0;
            for (set, flag) in [
                (local, publish_flag::LOCAL),
                (
                    publish.control_nat == ControlNat::Kernel,
                    publish_flag::KERNEL_NAT,
                ),
                (publish.peer == Peer::Any, publish_flag::ANY_PEER),
            ] {
                if set {
                    flags |= flag;
                }
            }
            let key = PublishKey {
                addr: Addr::from(public.ip()),
                port: Port::new(public.port()),
                pad: 0,
            };
            let entry = Publish {
                server: endpoint(server),
                advertise: Addr::from(advertise.unwrap_or(public.ip())),
                flags,
                passive_first: range.map_or(0, |range| range.first),
                passive_last: range.map_or(0, |range| range.last),
                pad: 0,
                index: u32::try_from(index).unwrap_or(u32::MAX),
            };
            if self.published.contains_key(&key) {
                self.warnings.insert(format!(
                    "{} is {public} now, which is published already: this entry has no effect",
                    publish.public.value
                ));
                continue;
            }
            self.published.insert(key, entry);
            // A reply carries the server's own port, until it is translated.
            for number in [public.port(), server.port()] {
                *self.ports.entry(number).or_default() |= port::PUBLISHED;
            }
        }
    }

    /// The addresses that clients dial; none while the interface that has them has none.
    fn public_ends(
        &mut self,
        publish: &config::Publish,
        network: &Network,
        obstacles: &mut Vec<Obstacle>,
    ) -> Vec<SocketAddr> {
        let (name, number) = match &publish.public.value {
            Public::Address(address) => {
                if !network.has(address.ip()) {
                    self.warnings.insert(format!(
                        "{} is no address of this machine: its packets must be routed here all \
                         the same",
                        address.ip()
                    ));
                }
                return vec![*address];
            }
            Public::Interface { name, port } => (name, *port),
        };
        let Some(link) = network.named(name) else {
            obstacles.push(no_interface(name, &publish.public.place, network));
            return Vec::new();
        };
        let families: &[bool] = match (publish.server.value, &publish.advertise) {
            (Server::Behind(server), _) => &[server.is_ipv4()],
            (Server::Local, Some(advertise)) => &[advertise.value.is_ipv4()],
            (Server::Local, None) => &[true, false],
        };
        let ends: Vec<_> = families
            .iter()
            .filter_map(|v4| network.address_of(link.index, *v4))
            .map(|ip| SocketAddr::new(ip, number))
            .collect();
        if ends.is_empty() {
            self.warnings.insert(format!(
                "{name} has no address yet: {} will be published when it gets one",
                publish.server.value
            ));
        }
        ends
    }

    /// Keeps the inside hooks of an earlier policy on interfaces that are still there.
    pub fn keep_inside(&mut self, old: &Self, network: &Network) {
        for hook in &old.hooks {
            if hook.program == Program::LanIngress
                && network.numbered(hook.link.index).is_some()
                && !self.hooks.contains(hook)
            {
                self.hooks.push(hook.clone());
                self.interface(&hook.link, interface_flag::LAN);
            }
        }
    }

    /// Writes what differs from what the tables hold.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn apply(&self, maps: &Maps) -> anyhow::Result<()> {
        self.mark_ports(maps);
        let tried = "cannot write the published servers";
        let old: HashMap<_, _> = maps.published.all().context(tried)?.into_iter().collect();
        for (key, entry) in &self.published {
            if old.get(key) != Some(entry) {
                maps.published.set(key, entry).context(tried)?;
            }
        }
        for key in old.keys().filter(|key| !self.published.contains_key(key)) {
            maps.published.delete(key).context(tried)?;
        }
        let tried = "cannot write the interfaces";
        let old = maps.interfaces.all().context(tried)?;
        for (index, interface) in &self.interfaces {
            maps.interfaces.set(index, interface).context(tried)?;
        }
        for (index, _) in old {
            if !self.interfaces.contains_key(&index) {
                maps.interfaces.delete(&index).context(tried)?;
            }
        }
        Ok(())
    }

    /// Sets the control ports' bits and clears those that are none any more. The datapath writes
    /// the same bytes without a lock, and once in a long while that undoes a bit: so this is
    /// repeated with every sweep.
    pub fn mark_ports(&self, maps: &Maps) {
        const CONTROL: u8 = port::PUBLISHED | port::MASQUERADED;
        for (number, bits) in &self.ports {
            maps.ports.set_bits(*number, *bits);
        }
        for (number, byte) in maps.ports.marked() {
            let wanted = self.ports.get(&number).copied().unwrap_or(0);
            maps.ports.clear_bits(number, byte & CONTROL & !wanted);
        }
    }
}

/// The settings for the datapath.
pub fn settings(config: &Config, clock: &Clock, route_epoch: u32) -> Settings {
    Settings {
        hz: clock.hz(),
        mark: config.mark,
        route_epoch,
        remap_first: config.remap_ports.first,
        remap_last: config.remap_ports.last,
        mapping_timeout: clock.ticks(config.timeouts.mapping),
        hold_timeout: clock.ticks(HOLD),
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(Addr::from(address.ip()), Port::new(address.port()))
}

fn named(
    names: &[config::Given<String>],
    network: &Network,
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Link> {
    let mut links = Vec::new();
    for name in names {
        match network.named(&name.value) {
            Some(link) => links.push(link.clone()),
            None => obstacles.push(no_interface(&name.value, &name.place, network)),
        }
    }
    links
}

fn no_interface(name: &str, place: &Place, network: &Network) -> Obstacle {
    let mut there: Vec<_> = network.names().filter(|name| *name != "lo").collect();
    there.sort_unstable();
    there.truncate(12);
    let hint = if there.is_empty() {
        "only lo is there; is this the right network namespace?".to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    Obstacle::Config(Problem::new(
        place,
        format!("there is no interface {name}: {hint}"),
    ))
}

fn lans(
    config: &Config,
    network: &Network,
    wans: &[Link],
    obstacles: &mut Vec<Obstacle>,
) -> Vec<Link> {
    if !config.redirects() {
        return Vec::new();
    }
    let mut lans: Vec<Link> = Vec::new();
    match &config.lan {
        Lan::None => {}
        Lan::Named(names) => lans = named(names, network, obstacles),
        Lan::ByRoute => {
            for (publish, server) in servers(config) {
                // What the kernel's own NAT translates goes through the stack anyway.
                if publish.control_nat == ControlNat::Kernel {
                    continue;
                }
                match by_route(server, publish, network, wans) {
                    Ok(link) if lans.contains(link) => {}
                    Ok(link) => lans.push(link.clone()),
                    Err(obstacle) => obstacles.push(obstacle),
                }
            }
        }
    }
    lans
}

fn by_route<'n>(
    server: SocketAddr,
    publish: &config::Publish,
    network: &'n Network,
    wans: &[Link],
) -> Result<&'n Link, Obstacle> {
    let ip = server.ip();
    let link = match network.route(ip) {
        Route::Through(index) => network.numbered(index),
        Route::Here => {
            return Err(Obstacle::Config(Problem::new(
                &publish.server.place,
                format!("{ip} is this machine itself: a server here is `local`"),
            )));
        }
        Route::None => None,
    };
    let Some(link) = link else {
        return Err(Obstacle::Machine(format!(
            "{}: there is no route to the server {ip}: add one, or name its interface with --lan",
            publish.server.place
        )));
    };
    if wans.contains(link) {
        return Err(Obstacle::Machine(format!(
            "{}: the route to the server {ip} leaves by {}, which is a WAN interface: check the \
             route, or name the server's own interface with --lan",
            publish.server.place, link.name
        )));
    }
    Ok(link)
}
