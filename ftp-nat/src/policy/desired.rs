//! The desired state: what the datapath's tables should hold and where its programs should be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::RangeInclusive,
};

use ftp_nat_common::{
    abi::{
        InsideNetwork, Interface, PoolServer, Publish, PublishKey, interface_flag, publish_flag,
    },
    wire::addr::{Addr, Endpoint, Port},
};

use crate::{
    datapath::{
        attach::Hook,
        maps::{Prefix, RoutedPrefix},
        program::Program,
    },
    kernel::network::{Link, Network},
};

/// The port that servers connect from (RFC 959 section 3.2).
const DATA_PORT: u16 = 20;

/// What the datapath is to know and where it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where programs must be.
    pub hooks: Vec<Hook>,
    /// The INTERFACES map.
    pub interfaces: BTreeMap<u32, Interface>,
    /// The PUBLISHED map.
    pub published: HashMap<PublishKey, Publish>,
    /// The servers of the pools among them, as they are before anything is known of them: for the POOLS
    /// map.
    pub pools: HashMap<PublishKey, Vec<PoolServer>>,
    /// The ROUTED map.
    pub routed: HashMap<RoutedPrefix, Publish>,
    /// The INSIDE map.
    pub inside: HashMap<Prefix, InsideNetwork>,
    /// The control ports' bits of the PORTS map.
    pub ports: BTreeMap<u16, u8>,
    /// Published addresses that another gateway of the cluster has now.
    pub away: HashSet<Addr>,
    /// What works, but perhaps not as meant.
    pub warnings: BTreeSet<String>,
}

impl Policy {
    /// What must be the same at all gateways of a cluster, in order.
    pub fn shared(&self) -> Vec<String> {
        // The gateway's own address toward the server is its own.
        let common = |entry: &Publish| Publish {
            near: Addr::default(),
            ..*entry
        };
        let published = self.published.iter();
        let published = published.map(|(key, entry)| format!("{key:?} {:?}", common(entry)));
        let pools = self.pools.iter().map(|(key, servers)| {
            let servers: Vec<_> = servers.iter().map(|it| it.server).collect();
            format!("{key:?} {servers:?}")
        });
        let routed = self.routed.iter();
        let routed = routed.map(|(key, entry)| format!("{key:?} {:?}", common(entry)));
        let inside = self.inside.iter().map(|it| format!("{it:?}"));
        let mut all: Vec<_> = published.chain(pools).chain(routed).chain(inside).collect();
        all.sort_unstable();
        all
    }

    /// The ports on which packets may come, once a published address comes here, of connections that
    /// another gateway has not told of: the passive ranges of the servers there, or all from 1024 up where
    /// one has none, and the port that servers connect from.
    pub fn takeover_ports(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges = BTreeSet::new();
        for (key, entry) in &self.published {
            if self.away.contains(&key.addr) && !is_routed(key, entry) {
                ranges.insert((DATA_PORT, DATA_PORT));
                ranges.insert(match entry.passive_first {
                    0 => (1024, u16::MAX),
                    first => (first, entry.passive_last),
                });
            }
        }
        ranges
            .into_iter()
            .map(|(first, last)| first..=last)
            .collect()
    }

    pub(super) fn attach(&mut self, link: &Link, program: Program) {
        self.hooks.push(Hook {
            link: link.clone(),
            program,
        });
    }

    pub(super) fn interface(&mut self, link: &Link, flag: u32) {
        let ethernet = if link.ethernet {
            interface_flag::ETHERNET
        } else {
            0
        };
        let entry = self.interfaces.entry(link.index).or_default();
        entry.flags |= flag | ethernet;
        entry.mtu = link.mtu;
    }

    /// Keeps those inside hooks of an earlier policy that are on interfaces which are still there
    /// and `needed`, for the connections that leave by them already. An interface that is outside now
    /// keeps none: what comes by it would count as the inside's.
    pub fn keep_inside(&mut self, old: &Self, network: &Network, needed: impl Fn(u32) -> bool) {
        for hook in &old.hooks {
            let index = hook.link.index;
            if hook.program.is_inside()
                && !self.has(hook.program, index)
                && !self.is_outside(index)
                && needed(index)
                && let Some(link) = network.numbered(index)
            {
                self.attach(link, hook.program);
                let is_inside = self.interfaces.contains_key(&index);
                let leaving = if is_inside {
                    0
                } else {
                    interface_flag::LEAVING
                };
                self.interface(link, interface_flag::LAN | leaving);
            }
        }
    }

    /// Keeps those outside hooks of an earlier policy whose interface is still there, under another
    /// name: its connections go on. By that name it may have been taken for an inside interface, which it
    /// is not.
    pub fn keep_renamed(&mut self, old: &Self, network: &Network) {
        for hook in &old.hooks {
            let index = hook.link.index;
            if !hook.program.is_inside()
                && !self.has(hook.program, index)
                && let Some(link) = network.numbered(index)
            {
                self.hooks
                    .retain(|it| it.link.index != index || !it.program.is_inside());
                self.interfaces.remove(&index);
                self.attach(link, hook.program);
                self.interface(link, interface_flag::WAN);
                self.warnings.insert(format!(
                    "{} is no WAN interface of the configuration any more, or has another name: \
                     the gateway stays there until it is started while all of these are there",
                    link.name
                ));
            }
        }
    }

    /// Adds interfaces that have come back, before anything else is known of them: a gateway's
    /// outside ones by `wans`, those of the inside by `insides`. False: there are none, or they are
    /// those that it has.
    pub fn add_returned(
        &mut self,
        network: &Network,
        wans: &BTreeSet<&str>,
        insides: &BTreeSet<String>,
    ) -> bool {
        let mut is_changed = false;
        for link in network.links() {
            // One that was renamed is not new, whatever its name says.
            if self.hooks.iter().any(|it| it.link.index == link.index) {
                continue;
            }
            let programs = if wans.contains(link.name.as_str()) {
                Program::outside(link.ethernet).to_vec()
            } else if insides.contains(&link.name) {
                vec![Program::inside(link.ethernet)]
            } else {
                continue;
            };
            for program in programs {
                is_changed = true;
                // That of an interface which was there before it.
                self.hooks
                    .retain(|it| it.program != program || it.link.name != link.name);
                self.attach(link, program);
                let flag = if program.is_inside() {
                    interface_flag::LAN
                } else {
                    interface_flag::WAN
                };
                self.interface(link, flag);
            }
        }
        is_changed
    }

    /// The names of the inside interfaces that it has programs on.
    pub fn insides(&self) -> impl Iterator<Item = &str> {
        let inside = self.hooks.iter().filter(|it| it.program.is_inside());
        inside.map(|it| it.link.name.as_str())
    }

    /// Whether it has inside hooks that another policy has not.
    pub fn has_inside_beside(&self, other: &Self) -> bool {
        self.hooks
            .iter()
            .any(|hook| hook.program.is_inside() && !other.has(hook.program, hook.link.index))
    }

    /// Whether an interface has programs for the outside.
    fn is_outside(&self, index: u32) -> bool {
        let mut hooks = self.hooks.iter();
        hooks.any(|it| it.link.index == index && !it.program.is_inside())
    }

    pub(super) fn has(&self, program: Program, index: u32) -> bool {
        self.hooks
            .iter()
            .any(|hook| hook.program == program && hook.link.index == index)
    }

    /// The PUBLISHED map: an entry for each published end, and one without a port for each of
    /// their addresses, by which the datapath knows what a SYN to an unannounced port was after: it
    /// has the passive ranges of the servers there, from the lowest port to the highest. A server that
    /// keeps its address has none: what else comes to it may be meant so.
    pub fn published_and_addresses(&self) -> HashMap<PublishKey, Publish> {
        let mut all = self.published.clone();
        for (key, entry) in &self.published {
            if is_routed(key, entry) {
                continue;
            }
            let address = PublishKey {
                port: Port::new(0),
                ..*key
            };
            let ranges = all.entry(address).or_default();
            if self.away.contains(&key.addr) {
                ranges.flags |= publish_flag::AWAY;
            }
            // The ports of a server on this machine are behind its own firewall.
            if entry.passive_first == 0 || entry.flags & publish_flag::LOCAL != 0 {
                continue;
            }
            let is_first = ranges.flags & publish_flag::RANGE == 0;
            if is_first || entry.passive_first < ranges.passive_first {
                ranges.passive_first = entry.passive_first;
            }
            ranges.passive_last = ranges.passive_last.max(entry.passive_last);
            ranges.flags |= publish_flag::RANGE;
        }
        all
    }
}

/// Whether a published server keeps its address: nothing is translated, only let in.
pub fn is_routed(public: &PublishKey, entry: &Publish) -> bool {
    let is_here = entry.flags & publish_flag::LOCAL != 0;
    !is_here && entry.server == Endpoint::new(public.addr, public.port)
}
