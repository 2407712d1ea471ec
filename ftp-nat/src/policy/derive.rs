//! From the configuration and the network to a policy.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use ftp_nat_common::{
    abi::{
        PoolServer, Publish, PublishKey, RoutedKey, inside, interface_flag, port, publish_flag,
        session_flag,
    },
    wire::addr::{Addr, Endpoint, Port},
};

use super::{
    desired::Policy,
    interfaces::{lans, named},
    obstacle::{Obstacle, no_interface},
};
use crate::{
    config::{
        self, Config, ControlNat, Datapath, Limits, Peer, TowardServer,
        value::{Public, Server},
    },
    datapath::{
        maps::{Prefix, RoutedPrefix},
        program::Program,
    },
    kernel::network::{Link, Network},
    model::prefix,
};

impl Policy {
    /// What the configuration means on this network, as far as it can be put into effect, and what
    /// stands in the way of the rest.
    pub fn derive(config: &Config, network: &Network) -> (Self, Vec<Obstacle>) {
        let mut policy = Self::default();
        let mut obstacles = Vec::new();
        let wans = named(&config.wan, network, &mut obstacles);
        let lans = lans(config, network, &wans, &mut obstacles);
        for link in &wans {
            for program in Program::outside(link.ethernet) {
                policy.attach(link, program);
            }
            policy.shortcut(config, link, Program::WanXdp);
            policy.interface(link, interface_flag::WAN);
        }
        for link in &lans {
            policy.attach(link, Program::inside(link.ethernet));
            if link.name != "lo" {
                policy.shortcut(config, link, Program::LanXdp);
            }
            policy.interface(link, interface_flag::LAN);
        }
        for (index, publish) in config.publish.iter().enumerate() {
            policy.publish(index, publish, &config.limits, network, &mut obstacles);
        }
        for masquerade in &config.masquerade {
            policy.masquerade(masquerade);
        }
        policy.warnings.extend(unowned_addresses(config, network));
        if config.cluster.is_some() {
            let unowned = unowned(config, network).into_iter().map(Addr::from);
            policy.away = unowned.collect();
        }
        (policy, obstacles)
    }

    /// XDP on an interface, where it is wanted and its packets are frames.
    fn shortcut(&mut self, config: &Config, link: &Link, program: Program) {
        if config.datapath != Datapath::Xdp {
            return;
        }
        if link.ethernet {
            self.attach(link, program);
        } else {
            self.warnings.insert(format!(
                "{} has no Ethernet header, and XDP needs one: its packets go by TC",
                link.name
            ));
        }
    }

    fn masquerade(&mut self, masquerade: &config::Masquerade) {
        for number in &masquerade.control_ports {
            *self.ports.entry(*number).or_default() |= port::MASQUERADED;
        }
        for clients in &masquerade.clients {
            let clients = clients.value;
            let first = if clients.address.is_ipv4() { 96 } else { 0 };
            let network = Prefix {
                bits: first + u32::from(clients.bits),
                address: Addr::from(clients.address),
            };
            let translated = if masquerade.translate {
                inside::TRANSLATED
            } else {
                inside::ROUTED
            };
            // Two entries may name the same network, for different ports: both have their say.
            let entry = self.inside.entry(network).or_default();
            entry.translated = translated;
            entry.deny |= masquerade.commands.denied();
            entry.flags |= u32::from(session_flags(&masquerade.commands));
        }
    }

    fn publish(
        &mut self,
        index: usize,
        publish: &config::Publish,
        limits: &Limits,
        network: &Network,
        obstacles: &mut Vec<Obstacle>,
    ) {
        let mut template = template(index, publish, limits);
        if let Public::Network { network, port } = publish.public.value {
            self.routed.insert(routed_prefix(network, port), template);
            *self.ports.entry(port).or_default() |= port::PUBLISHED;
            return;
        }
        if publish.server.value == Server::Local {
            template.flags |= publish_flag::LOCAL;
        }
        if matches!(publish.server.value, Server::Pool(_)) {
            template.flags |= publish_flag::POOL;
        }
        let near = |server: SocketAddr| {
            let source = network.source_toward(server.ip());
            source.map_or_else(Addr::default, Addr::from)
        };
        for public in self.public_ends(publish, network, obstacles) {
            let behind = publish.server.value.behind();
            let server = behind.first().copied().unwrap_or(public);
            let advertise = publish.advertise.as_ref().map(|advertise| advertise.value);
            let key = PublishKey {
                addr: Addr::from(public.ip()),
                port: Port::new(public.port()),
                pad: 0,
            };
            let entry = Publish {
                server: endpoint(server),
                advertise: Addr::from(advertise.unwrap_or(public.ip())),
                near: near(server),
                ..template
            };
            if self.published.contains_key(&key) {
                self.warnings.insert(format!(
                    "{} is {public} now, which is published already: this entry has no effect",
                    publish.public.value
                ));
                continue;
            }
            self.published.insert(key, entry);
            if matches!(publish.server.value, Server::Pool(_)) {
                let servers = behind.iter().map(|server| PoolServer {
                    server: endpoint(*server),
                    near: near(*server),
                    ..PoolServer::default()
                });
                self.pools.insert(key, servers.collect());
            }
            // A reply carries the server's own port, until it is translated.
            let servers = behind.iter().map(SocketAddr::port);
            for number in servers.chain([public.port()]) {
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
                return vec![*address];
            }
            Public::Network { .. } => return Vec::new(),
            Public::Interface { name, port } => (name, *port),
        };
        let Some(link) = network.named(name) else {
            obstacles.push(no_interface(name, &publish.public.origin, network));
            return Vec::new();
        };
        let ends: Vec<_> = publish
            .families()
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
}

/// The bits of [`session_flag`] for the sessions of clients.
const fn session_flags(commands: &config::Commands) -> u8 {
    let mut flags = 0;
    if commands.hide_greeting {
        flags |= session_flag::HIDE_GREETING;
    }
    if commands.require_tls {
        flags |= session_flag::REQUIRE_TLS;
    }
    flags
}

/// A warning of public addresses that are not this machine's, which is well where they are routed
/// here, and on a standby. There may be thousands.
pub(super) fn unowned_addresses(config: &Config, network: &Network) -> Option<String> {
    const NAMED: usize = 5;
    if config.may_lack_addresses() {
        return None;
    }
    let unowned = unowned(config, network);
    let named: Vec<_> = unowned
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let named = named.join(", ");
    match unowned.len() {
        0 => None,
        1 => Some(format!(
            "{named} is no address of this machine: its packets must be routed here all the same \
             (where another gateway has it now and this one takes it over: `standby = true`)"
        )),
        count => {
            let more = match count.saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            Some(format!(
                "{named}{more} are no addresses of this machine: their packets must be routed here \
                 all the same (where another gateway has them now and this one takes them over: \
                 `standby = true`)"
            ))
        }
    }
}
/// Public addresses that are not this machine's, but for those of servers that keep theirs.
fn unowned(config: &Config, network: &Network) -> BTreeSet<IpAddr> {
    config
        .publish
        .iter()
        .filter_map(
            |publish| match (&publish.public.value, &publish.server.value) {
                // It is the server's.
                (_, Server::Itself) => None,
                (Public::Address(address), server) if server.behind().contains(address) => None,
                (Public::Address(address), _) => Some(address.ip()),
                (Public::Interface { .. } | Public::Network { .. }, _) => None,
            },
        )
        .filter(|ip| !network.has(*ip))
        .collect()
}

/// What an entry of PUBLISHED or ROUTED has, whatever address it is for.
fn template(index: usize, publish: &config::Publish, limits: &Limits) -> Publish {
    let range = publish.passive_ports;
    let mut flags = 0;
    if publish.control_nat == ControlNat::Kernel {
        flags |= publish_flag::KERNEL_NAT;
    }
    if publish.peer == Peer::Any {
        flags |= publish_flag::ANY_PEER;
    }
    if publish.commands.hide_greeting {
        flags |= publish_flag::HIDE_GREETING;
    }
    if publish.commands.require_tls {
        flags |= publish_flag::REQUIRE_TLS;
    }
    if publish.toward_server.value == TowardServer::Gateway {
        flags |= publish_flag::TOWARD_GATEWAY;
    }
    Publish {
        flags,
        deny: publish.commands.denied(),
        passive_first: range.map_or(0, |range| range.first),
        passive_last: range.map_or(0, |range| range.last),
        index: u32::try_from(index).unwrap_or(u32::MAX),
        client_sessions: publish
            .client_sessions
            .unwrap_or_else(|| limits.client_sessions()),
        client_connections: publish
            .client_connections
            .unwrap_or_else(|| limits.client_connections()),
        ..Publish::default()
    }
}

/// A published network as the key of ROUTED.
fn routed_prefix(network: prefix::Prefix, port: u16) -> RoutedPrefix {
    let first = if network.address.is_ipv4() { 96 } else { 0 };
    RoutedPrefix {
        bits: RoutedKey::BEFORE_ADDRESS + first + u32::from(network.bits),
        key: RoutedKey {
            port: Port::new(port),
            pad: 0,
            addr: Addr::from(network.address),
        },
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(Addr::from(address.ip()), Port::new(address.port()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use ftp_nat_common::abi::InsideNetwork;

    use super::*;
    use crate::{
        config::{Origin, RunArgs, value::PortRange},
        kernel::{clock::Clock, network::Route},
    };

    const WAN: u32 = 2;
    const LAN: u32 = 3;

    fn network() -> Network {
        network_of(true, true)
    }

    /// Whether its interfaces have Ethernet headers.
    fn network_of(wan: bool, lan: bool) -> Network {
        Network::default()
            .with_link(WAN, "wan", wan)
            .with_link(LAN, "lan", lan)
            .with_address(WAN, "198.51.100.1")
            .with_address(LAN, "10.0.0.1")
            .with_route("10.0.0.5", Route::Through(LAN))
    }

    fn config(publishes: &[&str], lan: &[&str]) -> Config {
        let strings = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let args = RunArgs {
            wan: vec!["wan".into()],
            lan: strings(lan),
            publish: strings(publishes),
            ..RunArgs::default()
        };
        let mut config = Config::default();
        assert_eq!(config::flags::apply(&args, &mut config), []);
        config
    }

    fn derive(publish: &str, network: &Network) -> (Policy, Vec<String>) {
        let (policy, obstacles) = Policy::derive(&config(&[publish], &[]), network);
        (policy, obstacles.iter().map(ToString::to_string).collect())
    }

    fn hooks(policy: &Policy) -> Vec<(&str, Program)> {
        let hooks = policy.hooks.iter();
        hooks
            .map(|hook| (hook.link.name.as_str(), hook.program))
            .collect()
    }

    fn key(ip: &str, port: u16) -> PublishKey {
        let addr = Addr::from(ip.parse::<IpAddr>().unwrap());
        PublishKey {
            addr,
            port: Port::new(port),
            pad: 0,
        }
    }

    const BOTH_WAN: [(&str, Program); 2] =
        [("wan", Program::WanIngress), ("wan", Program::WanEgress)];
    const WITH_INSIDE: [(&str, Program); 3] = [
        ("wan", Program::WanIngress),
        ("wan", Program::WanEgress),
        ("lan", Program::LanIngress),
    ];

    #[test]
    fn the_inside_interface_is_the_one_that_leads_to_the_server() {
        let (policy, obstacles) = derive("198.51.100.1:21=10.0.0.5:2121", &network());
        assert_eq!(obstacles, [""; 0]);
        assert_eq!(
            hooks(&policy),
            [BOTH_WAN[0], BOTH_WAN[1], ("lan", Program::LanIngress)]
        );
        let flags = policy
            .interfaces
            .iter()
            .map(|(index, it)| (*index, it.flags));
        assert_eq!(
            flags.collect::<Vec<_>>(),
            [
                (WAN, interface_flag::WAN | interface_flag::ETHERNET),
                (LAN, interface_flag::LAN | interface_flag::ETHERNET),
            ]
        );
        let entry = policy.published[&key("198.51.100.1", 21)];
        assert_eq!(entry.server.to_string(), "10.0.0.5:2121");
        assert_eq!(entry.advertise.to_string(), "198.51.100.1");
        // A reply carries the server's own port.
        assert_eq!(policy.ports.keys().copied().collect::<Vec<_>>(), [21, 2121]);
        assert!(policy.warnings.is_empty());
    }

    #[test]
    fn without_an_inside_interface_the_stack_forwards() {
        for config in [
            config(&["198.51.100.1:21=10.0.0.5:21"], &["none"]),
            Config {
                datapath: Datapath::Stack,
                ..config(&["198.51.100.1:21=10.0.0.5:21"], &["lan"])
            },
        ] {
            let (policy, obstacles) = Policy::derive(&config, &network());
            assert_eq!(obstacles, []);
            assert_eq!(hooks(&policy), BOTH_WAN);
        }
    }

    #[test]
    fn a_server_that_cannot_be_behind_this_gateway_is_refused() {
        let here = network().with_route("10.0.0.5", Route::Here);
        let outside = network().with_route("10.0.0.5", Route::Through(WAN));
        let nowhere = network().with_route("10.0.0.5", Route::None);
        for (network, named) in [
            (here, "this machine itself"),
            (outside, "leaves by wan, which is a WAN interface"),
            (nowhere, "there is no route to the server 10.0.0.5"),
        ] {
            let (policy, obstacles) = derive("198.51.100.1:21=10.0.0.5:21", &network);
            assert!(obstacles[0].contains(named), "{obstacles:?}");
            // Nothing leads there; but a client may come by it.
            assert_eq!(hooks(&policy), WITH_INSIDE);
        }
    }

    #[test]
    fn who_dials_a_public_address_may_come_by_any_inside_interface_with_an_address() {
        let dmz = network()
            .with_link(4, "dmz", true)
            .with_link(5, "unused", true)
            .with_link(6, "tunnel", false)
            .with_link(7, "lo", true)
            .with_address(4, "172.17.0.1")
            .with_address(6, "10.9.0.1")
            .with_address(7, "127.0.0.1");
        let inside = |public: &str, lan: &[&str]| {
            let (policy, _) = Policy::derive(&config(&[public], lan), &dmz);
            let hooks = hooks(&policy).into_iter();
            let hooks = hooks.filter(|(_, program)| *program == Program::LanIngress);
            hooks.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            inside("198.51.100.1:21=10.0.0.5:21", &[]),
            ["lan", "dmz", "lo"]
        );
        assert_eq!(inside("198.51.100.1:21=10.0.0.5:21", &["lan"]), ["lan"]);
        assert_eq!(inside("198.51.100.1:21=local", &[]), [""; 0]);
        // This machine's own clients where somebody names the interfaces.
        assert_eq!(
            inside("198.51.100.1:21=10.0.0.5:21", &["lan", "lo"]),
            ["lan", "lo"]
        );
    }

    #[test]
    fn a_server_sees_this_machines_address_on_its_own_network() {
        let network = network().with_source("10.0.0.5", "10.0.0.1");
        let (policy, _) = derive("198.51.100.1:21=10.0.0.5:21", &network);
        let entry = policy.published[&key("198.51.100.1", 21)];
        assert_eq!(entry.near.to_string(), "10.0.0.1");
        assert_eq!(entry.flags & publish_flag::TOWARD_GATEWAY, 0);
    }

    #[test]
    fn a_pool_has_its_servers_and_each_its_way() {
        let network = network()
            .with_link(4, "far", true)
            .with_route("10.9.0.5", Route::Through(4))
            .with_source("10.0.0.5", "10.0.0.1")
            .with_source("10.9.0.5", "10.9.0.1");
        let config = config(&["198.51.100.1:21=10.0.0.5:21,10.9.0.5:2121"], &[]);
        let (policy, obstacles) = Policy::derive(&config, &network);
        assert_eq!(obstacles, []);
        let key = key("198.51.100.1", 21);
        assert_eq!(policy.published[&key].flags, publish_flag::POOL);
        let pool = policy.pools[&key].iter();
        let pool: Vec<_> = pool
            .map(|it| (it.server.to_string(), it.near.to_string()))
            .collect();
        let wanted = [("10.0.0.5:21", "10.0.0.1"), ("10.9.0.5:2121", "10.9.0.1")];
        assert_eq!(pool, wanted.map(|(one, other)| (one.into(), other.into())));
        assert_eq!(policy.ports.keys().copied().collect::<Vec<_>>(), [21, 2121]);
        let lans = hooks(&policy).into_iter().skip(BOTH_WAN.len());
        assert_eq!(
            lans.map(|(name, _)| name).collect::<Vec<_>>(),
            ["lan", "far"]
        );
        // Other gateways of a cluster have other addresses there, and must have the same servers.
        let mut other = policy.clone();
        for it in other.pools.get_mut(&key).unwrap() {
            it.near = Addr::default();
        }
        assert_eq!(policy.shared(), other.shared());
        other.pools.get_mut(&key).unwrap().pop();
        assert_ne!(policy.shared(), other.shared());
    }

    #[test]
    fn servers_of_a_pool_keep_their_states_for_as_long_as_they_are_in_it() {
        use ftp_nat_common::abi::health;
        let maps = crate::datapath::maps::scratch(64);
        let clock = Clock::of_this_kernel().unwrap();
        let network = network()
            .with_route("10.0.0.6", Route::Through(LAN))
            .with_route("10.0.0.7", Route::Through(LAN));
        let public = key("198.51.100.1", 21);
        let apply = |servers: &[&str]| {
            let mut config = config(&["198.51.100.1:21=10.0.0.5:21"], &[]);
            let servers = servers.iter().map(|it| it.parse().unwrap());
            config.publish[0].server.value = Server::Pool(servers.collect());
            let (policy, _) = Policy::derive(&config, &network);
            policy.apply(&maps, &clock).unwrap();
        };
        let states = || {
            let pool = maps.pools.get(&public).unwrap().unwrap();
            let states = pool.all().iter().map(|it| (it.health, it.draining));
            states.collect::<Vec<_>>()
        };
        apply(&["10.0.0.5:21", "10.0.0.6:21"]);
        let is = |it: &PoolServer, ip: &str| it.server.addr.to_string() == ip;
        let changed = maps.pools.change(&[public], |it| {
            if is(it, "10.0.0.5") {
                it.draining = 1;
            } else {
                it.health = health::DOWN;
            }
        });
        assert_eq!(changed.unwrap().len(), 2);
        apply(&["10.0.0.7:21", "10.0.0.6:21", "10.0.0.5:21"]);
        assert_eq!(
            states(),
            [
                (health::UNKNOWN, 0),
                (health::DOWN, 0),
                (health::UNKNOWN, 1)
            ]
        );
        let pool = maps.pools.get(&public).unwrap().unwrap();
        let getting = |pool: &ftp_nat_common::abi::Pool, ip: &str| {
            let slots = pool.slots.iter();
            slots
                .filter(|slot| is(&pool.servers[usize::from(**slot)], ip))
                .count()
        };
        assert_eq!(getting(&pool, "10.0.0.7"), pool.slots.len());
        apply(&["10.0.0.6:21"]);
        assert_eq!(states(), [(health::DOWN, 0)]);
        apply(&["10.0.0.5:21", "10.0.0.6:21"]);
        assert_eq!(states(), [(health::UNKNOWN, 0), (health::DOWN, 0)]);
        // One server that is no list is no pool.
        let (policy, _) = Policy::derive(&config(&["198.51.100.1:21=10.0.0.5:21"], &[]), &network);
        policy.apply(&maps, &clock).unwrap();
        assert_eq!(maps.pools.all().unwrap().len(), 0);
        let published = maps.published.get(&public).unwrap().unwrap();
        assert_eq!(published.flags & publish_flag::POOL, 0);
    }

    fn masquerading(networks: &[&str]) -> Config {
        let args = RunArgs {
            wan: vec!["wan".into()],
            masquerade: networks.iter().map(ToString::to_string).collect(),
            ..RunArgs::default()
        };
        let mut config = Config::default();
        assert_eq!(config::flags::apply(&args, &mut config), []);
        config
    }

    #[test]
    fn masqueraded_clients_are_known_by_their_networks_and_found_behind_them() {
        let config = masquerading(&["10.0.0.0/8", "10.0.0.0/8:2121"]);
        let network = network()
            .with_link(4, "far", true)
            .with_way("10.0.0.0/8", WAN)
            .with_way("10.0.0.0/8", LAN)
            .with_way("10.0.0.0/8", 4);
        let (policy, obstacles) = Policy::derive(&config, &network);
        assert_eq!(obstacles, []);
        let lans: Vec<_> = hooks(&policy).into_iter().skip(BOTH_WAN.len()).collect();
        assert_eq!(
            lans,
            [("lan", Program::LanIngress), ("far", Program::LanIngress)]
        );
        assert_eq!(
            policy.ports.into_iter().collect::<Vec<_>>(),
            [(21, port::MASQUERADED), (2121, port::MASQUERADED)]
        );
        let only = Prefix {
            bits: 96 + 8,
            address: Addr::from_octets([10, 0, 0, 0]),
        };
        let translated = InsideNetwork {
            translated: inside::TRANSLATED,
            ..InsideNetwork::default()
        };
        assert_eq!(policy.inside, HashMap::from([(only, translated)]));
    }

    #[test]
    fn clients_that_only_the_wan_leads_to_are_not_inside() {
        let network = network().with_way("10.0.0.0/8", WAN);
        let (_, obstacles) = Policy::derive(&masquerading(&["10.0.0.0/8"]), &network);
        assert_eq!(
            obstacles[0].to_string(),
            "--masquerade 10.0.0.0/8: there is no route to 10.0.0.0/8 but by the WAN: add one, or \
             name the clients' interface with --lan"
        );
    }

    #[test]
    fn an_address_has_the_passive_ranges_of_all_its_servers() {
        let mut config = config(
            &[
                "198.51.100.1:21=10.0.0.5:21",
                "198.51.100.1:2121=10.0.0.5:2121",
                "198.51.100.1:2122=local",
                "198.51.100.2:21=10.0.0.5:22",
            ],
            &[],
        );
        let ranges = [(50_000, 50_099), (40_000, 40_999), (1024, 65_535)];
        for (publish, (first, last)) in config.publish.iter_mut().zip(ranges) {
            publish.passive_ports = Some(PortRange { first, last });
        }
        let (policy, _) = Policy::derive(&config, &network());
        let all = policy.published_and_addresses();
        let both = all[&key("198.51.100.1", 0)];
        assert_eq!(both.flags, publish_flag::RANGE);
        assert_eq!((both.passive_first, both.passive_last), (40_000, 50_099));
        assert_eq!(all[&key("198.51.100.2", 0)], Publish::default());
    }

    #[test]
    fn a_standby_publishes_what_another_machine_has_and_says_nothing() {
        let mut config = config(&["203.0.113.77:21=10.0.0.5:21"], &[]);
        let (policy, _) = Policy::derive(&config, &network());
        let warnings: Vec<_> = policy.warnings.iter().collect();
        assert!(warnings[0].contains("`standby = true`"), "{warnings:?}");
        config.standby = true;
        let (policy, obstacles) = Policy::derive(&config, &network());
        assert_eq!((policy.warnings.len(), obstacles.len()), (0, 0));
        assert!(policy.published.contains_key(&key("203.0.113.77", 21)));
    }

    #[test]
    fn an_interface_with_both_families_has_a_server_for_each() {
        let network = network()
            .with_address(WAN, "2001:db8:1::1")
            .with_route("2001:db8::5", Route::Through(LAN));
        let config = config(&["wan:21=10.0.0.5:21", "wan:21=[2001:db8::5]:21"], &[]);
        let (policy, obstacles) = Policy::derive(&config, &network);
        assert_eq!(obstacles, []);
        assert_eq!(policy.warnings.len(), 0, "{:?}", policy.warnings);
        for (public, server) in [
            ("198.51.100.1", "10.0.0.5:21"),
            ("2001:db8:1::1", "[2001:db8::5]:21"),
        ] {
            assert_eq!(
                policy.published[&key(public, 21)].server.to_string(),
                server
            );
        }
    }

    #[test]
    fn what_a_policy_says_is_in_the_tables_and_nothing_else() {
        let maps = crate::datapath::maps::scratch(64);
        let both = Config {
            masquerade: masquerading(&["10.0.0.0/24:2121", "2001:db8::/32:2121"]).masquerade,
            ..config(&["198.51.100.1:21=10.0.0.5:990"], &[])
        };
        let other = config(&["198.51.100.1:2100=10.0.0.5:21"], &["none"]);
        let clock = Clock::of_this_kernel().unwrap();
        for config in [&both, &other, &both] {
            let (policy, _) = Policy::derive(config, &network());
            policy.apply(&maps, &clock).unwrap();
            let published = maps
                .published
                .all()
                .unwrap()
                .into_iter()
                .collect::<HashMap<_, _>>();
            // And each of their addresses without a port.
            assert_eq!(published, policy.published_and_addresses());
            assert_eq!(published.len(), 2);
            let interfaces = maps
                .interfaces
                .all()
                .unwrap()
                .into_iter()
                .collect::<BTreeMap<_, _>>();
            assert_eq!(interfaces, policy.interfaces);
            let inside = maps
                .inside
                .all()
                .unwrap()
                .into_iter()
                .collect::<HashMap<_, _>>();
            assert_eq!(inside, policy.inside);
            let control = port::PUBLISHED | port::MASQUERADED;
            let marked = maps.ports.marked().into_iter();
            let marked = marked.map(|(number, byte)| (number, byte & control));
            assert_eq!(
                marked.filter(|(_, bits)| *bits != 0).collect::<Vec<_>>(),
                policy.ports.clone().into_iter().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn what_a_file_names_is_waited_for_and_what_an_argument_names_is_not() {
        let flag = Origin::Flag("--wan eth9".into());
        let file = Origin::File {
            file: "f.toml".into(),
            line: 2,
            key: "gateway.wan".into(),
        };
        for (origin, awaited) in [(flag, false), (file, true)] {
            assert_eq!(
                no_interface("eth9", &origin, &network()).is_awaited(),
                awaited
            );
            assert!(!Obstacle::Mistake(config::Problem::new(&origin, "no")).is_awaited());
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_those_that_are() {
        let (_, obstacles) = derive("198.51.100.1:21=10.0.0.5:21", &Network::default());
        assert!(
            obstacles[0].contains("--wan wan: there is no interface wan"),
            "{obstacles:?}"
        );
        let (_, obstacles) = derive("eth9:21=10.0.0.5:21", &network());
        assert!(
            obstacles[0].contains("no interface eth9: there are lan, wan"),
            "{obstacles:?}"
        );
    }

    #[test]
    fn an_interfaces_address_is_published_as_long_as_it_has_it() {
        let (policy, _) = derive("wan:21=10.0.0.5:21", &network());
        assert!(policy.published.contains_key(&key("198.51.100.1", 21)));
        let without = Network::default()
            .with_link(WAN, "wan", true)
            .with_link(LAN, "lan", true)
            .with_route("10.0.0.5", Route::Through(LAN));
        let (policy, obstacles) = derive("wan:21=10.0.0.5:21", &without);
        assert!(policy.published.is_empty() && obstacles.is_empty());
        assert!(
            policy
                .warnings
                .iter()
                .any(|it| it.contains("wan has no address yet"))
        );
    }

    #[test]
    fn a_local_server_is_its_own_public_end_in_each_family() {
        let network = network().with_address(WAN, "2001:db8::1");
        let (policy, obstacles) = derive("wan:21=local", &network);
        assert_eq!(obstacles, [""; 0]);
        for ip in ["198.51.100.1", "2001:db8::1"] {
            let entry = policy.published[&key(ip, 21)];
            assert_eq!(entry.flags, publish_flag::LOCAL);
            assert_eq!(entry.server.addr.to_string(), ip);
        }
        assert_eq!(hooks(&policy), BOTH_WAN);
    }

    #[test]
    fn two_entries_for_one_address_are_noticed() {
        let config = config(
            &["198.51.100.1:21=10.0.0.5:21", "wan:21=10.0.0.5:2121"],
            &[],
        );
        let (policy, _) = Policy::derive(&config, &network());
        assert_eq!(policy.published.len(), 1);
        assert_eq!(policy.published[&key("198.51.100.1", 21)].index, 0);
        assert!(
            policy
                .warnings
                .iter()
                .any(|it| it.contains("published already"))
        );
    }

    #[test]
    fn an_address_that_is_not_ours_works_but_is_mentioned() {
        let (policy, _) = derive("203.0.113.9:21=10.0.0.5:21", &network());
        assert_eq!(policy.published.len(), 1);
        assert!(
            policy
                .warnings
                .iter()
                .any(|it| it.contains("no address of this machine"))
        );
    }

    #[test]
    fn a_route_that_is_away_for_a_moment_keeps_its_hook() {
        // By which no client would come.
        let unnumbered = || {
            Network::default()
                .with_link(WAN, "wan", true)
                .with_link(LAN, "lan", true)
                .with_address(WAN, "198.51.100.1")
        };
        let there = unnumbered().with_route("10.0.0.5", Route::Through(LAN));
        let (old, _) = derive("198.51.100.1:21=10.0.0.5:21", &there);
        let away = unnumbered().with_route("10.0.0.5", Route::None);
        let (mut policy, _) = derive("198.51.100.1:21=10.0.0.5:21", &away);
        assert!(old.has_inside_beside(&policy));
        let mut unneeded = policy.clone();
        unneeded.keep_inside(&old, &away, |_| false);
        assert_eq!(unneeded, policy);
        policy.keep_inside(&old, &away, |_| true);
        assert!(!old.has_inside_beside(&policy));
        // New connections would not find their way there.
        let mut leaving = old.clone();
        if let Some(interface) = leaving.interfaces.get_mut(&LAN) {
            interface.flags |= interface_flag::LEAVING;
        }
        assert_eq!(policy, leaving);
    }

    #[test]
    fn an_interface_that_comes_back_is_known_by_its_name_and_a_renamed_one_is_not_taken_for_it() {
        let (old, _) = derive("198.51.100.1:21=10.0.0.5:21", &network());
        let wans = BTreeSet::from(["wan"]);
        let insides = ["lan", "other"].map(ToOwned::to_owned).into();
        let returned = |links: [(u32, &str); 2]| {
            let network = links
                .into_iter()
                .fold(Network::default(), |all, (index, name)| {
                    all.with_link(index, name, true)
                });
            let mut policy = old.clone();
            let is_changed = policy.add_returned(&network, &wans, &insides);
            is_changed.then(|| {
                let hooks = policy.hooks.iter();
                let mut indexes: Vec<_> = hooks.map(|hook| hook.link.index).collect();
                indexes.sort_unstable();
                indexes
            })
        };
        // A WAN by the name of an interface that was inside once; what was there all the time.
        assert_eq!(returned([(WAN, "other"), (LAN, "lan")]), None);
        assert_eq!(returned([(WAN, "wan"), (9, "elsewhere")]), None);
        assert_eq!(returned([(9, "wan"), (LAN, "lan")]), Some(vec![LAN, 9, 9]));
        assert_eq!(
            returned([(WAN, "wan"), (9, "lan")]),
            Some(vec![WAN, WAN, 9])
        );
    }

    #[test]
    fn a_wan_by_another_name_is_not_taken_for_an_inside_interface() {
        let network = |wan| {
            Network::default()
                .with_link(WAN, wan, true)
                .with_link(LAN, "lan", true)
                .with_address(WAN, "198.51.100.1")
                .with_route("10.0.0.5", Route::Through(LAN))
        };
        let (old, _) = derive("198.51.100.1:21=10.0.0.5:21", &network("wan"));
        let renamed = network("other");
        let (mut policy, _) = derive("198.51.100.1:21=10.0.0.5:21", &renamed);
        assert_eq!(
            policy.interfaces[&WAN].flags & interface_flag::LAN,
            interface_flag::LAN
        );
        let taken_for_inside = policy.clone();
        policy.keep_renamed(&old, &renamed);
        assert_eq!(policy.interfaces, old.interfaces);
        let programs = |policy: &Policy| {
            let hooks = policy.hooks.iter();
            let mut all: Vec<_> = hooks.map(|it| (it.link.index, it.program)).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(programs(&policy), programs(&old));
        // By its old name again, it does not keep programs of the inside that connections use.
        let (mut policy, _) = derive("198.51.100.1:21=10.0.0.5:21", &network("wan"));
        policy.keep_inside(&taken_for_inside, &network("wan"), |_| true);
        assert_eq!(policy, old);
    }

    #[test]
    fn interfaces_without_ethernet_get_their_own_programs() {
        for (wan, lan) in [(false, true), (true, false), (false, false)] {
            let network = network_of(wan, lan);
            let (policy, obstacles) = derive("198.51.100.1:21=10.0.0.5:21", &network);
            assert_eq!(obstacles, [""; 0]);
            let [ingress, egress] = Program::outside(wan);
            assert_eq!(
                hooks(&policy),
                [
                    ("wan", ingress),
                    ("wan", egress),
                    ("lan", Program::inside(lan))
                ]
            );
            let has = |index| policy.interfaces[&index].flags & interface_flag::ETHERNET != 0;
            assert_eq!((has(WAN), has(LAN)), (wan, lan));
        }
    }

    #[test]
    fn xdp_stays_with_frames() {
        let config = Config {
            datapath: Datapath::Xdp,
            ..config(&["198.51.100.1:21=10.0.0.5:21"], &[])
        };
        let (policy, _) = Policy::derive(&config, &network_of(false, true));
        let xdp: Vec<_> = hooks(&policy)
            .into_iter()
            .filter(|(_, program)| program.is_xdp())
            .collect();
        assert_eq!(xdp, [("lan", Program::LanXdp)]);
        let said = policy.warnings.first().unwrap();
        assert!(said.contains("wan has no Ethernet header"), "{said}");
    }
}
