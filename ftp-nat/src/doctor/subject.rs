//! What is examined: a gateway as its configuration means it, as it is loaded, or both.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ftp_nat_common::{
    abi::{Publish, PublishKey, inside, interface_flag, port, publish_flag, setting},
    wire::addr::Endpoint,
};

use crate::{
    cli::Selection,
    client::view::{Loaded, View},
    config::{self, Config, DEFAULT_FILE, FirstPacket, RunArgs},
    datapath::{attach::Hook, maps::RoutedPrefix, pins::Pins, program::Program},
    kernel::network::{Network, Route},
    model::prefix::Prefix,
    output::failure::Failure,
    policy::{self, Obstacle, Policy},
};

/// A published server.
#[derive(Clone, Debug)]
pub struct Service {
    /// What clients dial.
    pub public: SocketAddr,
    /// Where the server is; the public end itself for a local one.
    pub server: SocketAddr,
    /// Whether it is on this machine.
    pub local: bool,
    /// Whether the kernel's own NAT translates the control connection.
    pub kernel_nat: bool,
    /// The address that replies announce.
    pub advertise: IpAddr,
    /// The server's own passive ports, where a range is configured.
    pub passive: Option<(u16, u16)>,
    /// Whether clients must speak TLS.
    pub requires_tls: bool,
    /// The way to the server.
    pub route: Route,
    /// Whether its packets leave straight to the other interface, past the stack.
    pub redirects: bool,
    /// Whether nothing is translated: its server has the public address itself.
    pub routed: bool,
    /// Whether the server sees this machine as its client.
    pub hides_clients: bool,
    /// All servers of a network; the others stand for an address of it then.
    pub network: Option<Prefix>,
}

/// Clients behind the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// Their network.
    pub network: Prefix,
    /// Whether the kernel's own NAT is to translate them.
    pub translate: bool,
}

impl Service {
    fn of(
        key: &PublishKey,
        entry: &Publish,
        server: &Endpoint,
        policy: &Policy,
        network: &Network,
    ) -> Self {
        let has = |flag| entry.flags & flag != 0;
        let server = SocketAddr::new(server.addr.to_ip(), server.port.number());
        let route = network.route(server.ip());
        Self {
            public: SocketAddr::new(key.addr.to_ip(), key.port.number()),
            server,
            local: has(publish_flag::LOCAL),
            kernel_nat: has(publish_flag::KERNEL_NAT),
            advertise: entry.advertise.to_ip(),
            passive: (entry.passive_first != 0)
                .then_some((entry.passive_first, entry.passive_last)),
            requires_tls: has(publish_flag::REQUIRE_TLS),
            route,
            redirects: redirects(route, policy),
            routed: policy::is_routed(key, entry),
            hides_clients: has(publish_flag::TOWARD_GATEWAY),
            network: None,
        }
    }

    /// The servers of a network, which a host of it stands for.
    fn of_network(
        prefix: &RoutedPrefix,
        entry: &Publish,
        policy: &Policy,
        network: &Network,
    ) -> Self {
        let servers = prefix.network();
        let end = SocketAddr::new(servers.first_host(), prefix.key.port.number());
        let is_wan = |index: u32| {
            let its = policy.interfaces.get(&index);
            its.is_some_and(|it| it.flags & interface_flag::WAN != 0)
        };
        let mut ways = network.ways_to(&servers);
        let way = ways.find(|link| !is_wan(link.index));
        let route = way.map_or(Route::None, |link| Route::Through(link.index));
        Self {
            public: end,
            server: end,
            advertise: end.ip(),
            route,
            redirects: redirects(route, policy),
            routed: true,
            network: Some(servers),
            ..Self::of(&prefix.of_address(), entry, &entry.server, policy, network)
        }
    }

    /// What clients dial, as people write it.
    pub fn title(&self) -> String {
        match &self.network {
            Some(network) => format!("{network}:{}", self.public.port()),
            None => self.public.to_string(),
        }
    }
}

fn redirects(route: Route, policy: &Policy) -> bool {
    let inside = match route {
        Route::Through(index) => policy.interfaces.get(&index).copied(),
        Route::Here | Route::None => None,
    };
    inside.is_some_and(|it| it.flags & interface_flag::LAN != 0)
}

/// A gateway to be examined.
pub struct Subject {
    /// Its name: its first WAN interface's.
    pub name: String,
    /// Where its pins are, or would be.
    pub state_dir: PathBuf,
    /// What is configured, if a configuration was given or is in its usual place.
    pub config: Option<Config>,
    /// What is loaded, if it is.
    pub loaded: Option<Loaded>,
    /// What should be in effect.
    pub policy: Policy,
    /// Why part of it cannot be.
    pub obstacles: Vec<Obstacle>,
    /// The machine's interfaces, addresses and routes.
    pub network: Network,
    /// The published servers, in the configuration's order.
    pub services: Vec<Service>,
    /// The clients behind the gateway.
    pub clients: Vec<Clients>,
    /// The control ports of the servers that those use.
    pub outside_ports: Vec<u16>,
    /// Whether the first packet of a session goes through the firewall, wherever others go.
    pub first_by_firewall: bool,
    /// The mark of packets that the stack forwards.
    pub mark: u32,
    /// The ports for a remap.
    pub remap: (u16, u16),
    /// The kernel's ticks now.
    pub now: u64,
}

impl Subject {
    /// The gateways that are asked about: the one that is configured, else all that are loaded.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong, or nothing can be read.
    pub fn find(args: &RunArgs) -> Result<Vec<Self>, Failure> {
        let is_configured = args.config.is_some()
            || !args.publish.is_empty()
            || !args.masquerade.is_empty()
            || std::path::Path::new(DEFAULT_FILE).exists();
        if is_configured {
            return Ok(vec![Self::configured(args)?]);
        }
        let selection = selection(args, args.wan.clone());
        match View::of(&selection) {
            Ok(view) => {
                let (now, gateways) = (view.now, view.loaded);
                gateways
                    .into_iter()
                    .map(|loaded| Self::as_loaded(loaded, now, &selection).map_err(Failure::from))
                    .collect()
            }
            Err(Failure::NotRunning(_)) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    fn configured(args: &RunArgs) -> Result<Self, Failure> {
        let config = config::assemble(args).map_err(|problems| {
            Failure::Usage(problems.iter().map(ToString::to_string).collect())
        })?;
        let (destinations, networks) = (policy::destinations(&config), policy::networks(&config));
        let network = Network::read(destinations, &networks)?;
        let (policy, obstacles) = Policy::derive(&config, &network);
        let wans: Vec<_> = config.wan.iter().map(|wan| wan.value.clone()).collect();
        let view = match View::of(&Selection {
            wan: wans.clone(),
            state_dir: config.state_dir.clone(),
        }) {
            Ok(view) => Some(view),
            Err(Failure::NotRunning(_)) => None,
            Err(failure) => return Err(failure),
        };
        let now = view.as_ref().map_or(0, |view| view.now);
        Ok(Self {
            name: wans.first().cloned().unwrap_or_default(),
            state_dir: config.state_dir.clone(),
            services: services(&policy, &network),
            clients: clients(&policy),
            outside_ports: masqueraded_ports(&policy),
            first_by_firewall: config.first_packet == FirstPacket::Firewall,
            mark: config.mark,
            remap: (config.remap_ports.first, config.remap_ports.last),
            loaded: view.and_then(|view| view.loaded.into_iter().next()),
            config: Some(config),
            policy,
            obstacles,
            network,
            now,
        })
    }

    /// From the tables of what is loaded alone.
    fn as_loaded(loaded: Loaded, now: u64, selection: &Selection) -> anyhow::Result<Self> {
        let maps = &loaded.maps;
        let mut published = maps.published.all()?;
        // Those without a port are only addresses.
        published.retain(|(key, _)| key.port.number() != 0);
        let pools = maps.pools.all()?;
        let pools: HashMap<_, _> = pools
            .into_iter()
            .map(|(public, pool)| (public, pool.all().to_vec()))
            .collect();
        let servers = published.iter().map(|(_, entry)| entry.server);
        let servers = servers.chain(pools.values().flatten().map(|it| it.server));
        let servers = servers.map(|server| server.addr.to_ip());
        let inside = maps.inside.all()?;
        let routed = maps.routed.all()?;
        let networks: Vec<_> = inside
            .iter()
            .map(|(prefix, _)| prefix.network())
            .chain(routed.iter().map(|(prefix, _)| prefix.network()))
            .collect();
        let network = Network::read(servers, &networks)?;
        let settings = maps.settings()?;
        let mut policy = Policy {
            interfaces: maps.interfaces.all()?.into_iter().collect(),
            published: published.into_iter().collect(),
            pools,
            inside: inside.into_iter().collect(),
            routed: routed.into_iter().collect(),
            ports: maps.ports.marked().into_iter().collect(),
            ..Policy::default()
        };
        for (index, interface) in &policy.interfaces {
            let Some(link) = network.numbered(*index) else {
                continue;
            };
            let ethernet = interface.flags & interface_flag::ETHERNET != 0;
            let programs = if interface.flags & interface_flag::WAN != 0 {
                Program::outside(ethernet).to_vec()
            } else {
                vec![Program::inside(ethernet)]
            };
            for program in programs {
                policy.hooks.push(Hook {
                    link: link.clone(),
                    program,
                });
            }
        }
        Ok(Self {
            name: loaded.gateway.name().to_owned(),
            state_dir: selection.state_dir.clone(),
            config: None,
            services: services(&policy, &network),
            clients: clients(&policy),
            outside_ports: masqueraded_ports(&policy),
            first_by_firewall: settings.flags & setting::SYN_BY_STACK != 0,
            mark: settings.mark,
            remap: (settings.remap_first, settings.remap_last),
            loaded: Some(loaded),
            policy,
            obstacles: Vec::new(),
            network,
            now,
        })
    }

    /// Its pins' folder for this network namespace.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell the namespace.
    pub fn pins(&self) -> anyhow::Result<Pins> {
        Pins::here(&self.state_dir)
    }

    /// The names of the interfaces in one role.
    pub fn interfaces(&self, flag: u32) -> impl Iterator<Item = &crate::kernel::network::Link> {
        self.policy
            .interfaces
            .iter()
            .filter(move |(_, it)| it.flags & flag != 0)
            .filter_map(|(index, _)| self.network.numbered(*index))
            .filter(|link| link.name != "lo")
    }

    /// Whether anything of it uses the family.
    pub fn uses(&self, v4: bool) -> bool {
        self.services.iter().any(|it| it.public.is_ipv4() == v4)
            || self
                .clients
                .iter()
                .any(|it| it.network.address.is_ipv4() == v4)
    }

    /// Whether packets of the family are forwarded, not only delivered here.
    pub fn forwards(&self, v4: bool) -> bool {
        let mut services = self.services.iter();
        services.any(|it| !it.local && it.public.is_ipv4() == v4)
            || self
                .clients
                .iter()
                .any(|it| it.network.address.is_ipv4() == v4)
    }
}

fn selection(args: &RunArgs, wan: Vec<String>) -> Selection {
    Selection {
        wan,
        state_dir: args
            .state_dir
            .clone()
            .unwrap_or_else(|| config::DEFAULT_STATE_DIR.into()),
    }
}

fn services(policy: &Policy, network: &Network) -> Vec<Service> {
    let mut entries: Vec<_> = policy.published.iter().collect();
    entries.sort_by_key(|(_, entry)| entry.index);
    let networks = policy.routed.iter();
    entries
        .into_iter()
        .flat_map(|(key, entry)| {
            let servers = match policy.pools.get(key) {
                Some(pool) => pool.iter().map(|it| it.server).collect(),
                None => vec![entry.server],
            };
            let of = |server: &Endpoint| Service::of(key, entry, server, policy, network);
            servers.iter().map(of).collect::<Vec<_>>()
        })
        .chain(networks.map(|(prefix, entry)| Service::of_network(prefix, entry, policy, network)))
        .collect()
}

fn clients(policy: &Policy) -> Vec<Clients> {
    let mut clients: Vec<_> = policy
        .inside
        .iter()
        .map(|(prefix, value)| Clients {
            network: prefix.network(),
            translate: value.translated == inside::TRANSLATED,
        })
        .collect();
    clients.sort_by_key(|it| (it.network.address, it.network.bits));
    clients
}

fn masqueraded_ports(policy: &Policy) -> Vec<u16> {
    policy
        .ports
        .iter()
        .filter(|(_, bits)| **bits & port::MASQUERADED != 0)
        .map(|(number, _)| *number)
        .collect()
}
