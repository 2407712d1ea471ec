//! The datapath's maps: what each must look like, and all of them opened.

use std::{io, marker::PhantomData, os::fd::AsFd as _, path::Path};

use anyhow::{Context as _, bail};
use aya::maps::{Map, MapData, MapInfo, MapType, PerCpuArray};
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use bytemuck::{Pod, Zeroable};
use ftp_nat_common::{
    abi::{
        Announced, ClientKey, Count, DialogueKey, Flow, FlowKey4, FlowKey6, HalfOpen, HalfOpenKey,
        HalfOpenLevel, InsideNetwork, Interface, Lines, LinesKey, ListKey, Listed, Mapping,
        MappingKey, Permit, Pool, Ports, Publish, PublishKey, RoutedKey, Session, Settings, Share,
        TlsClient, TlsClientKey, map, station,
    },
    counter::COUNTERS,
    wire::addr::{Addr, Endpoint},
};

use super::{pins::Gateway, pools::Pools, ports::PortBytes};
use crate::{
    kernel::{bpf, table::Table},
    model::prefix,
};

/// What a pinned map must be to be used: aya takes any pin of the right name for the right map.
struct Spec {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    flags: u32,
    /// Entries, where it must have just so many.
    entries: Option<u32>,
}

const fn table<K, V>(name: &'static str) -> Spec {
    Spec {
        name,
        kind: MapType::Hash,
        key: size_of::<K>(),
        value: size_of::<V>(),
        flags: BPF_F_NO_PREALLOC,
        entries: None,
    }
}

const fn array<V>(name: &'static str, kind: MapType, flags: u32, entries: usize) -> Spec {
    Spec {
        name,
        kind,
        key: size_of::<u32>(),
        value: size_of::<V>(),
        flags,
        entries: Some(entries as u32),
    }
}

const fn preallocated(spec: Spec) -> Spec {
    Spec { flags: 0, ..spec }
}

/// All maps that are pinned.
const SPECS: [Spec; 26] = [
    preallocated(table::<FlowKey4, Flow>(map::FLOWS4)),
    table::<FlowKey6, Flow>(map::FLOWS6),
    preallocated(table::<MappingKey, Mapping>(map::MAPPINGS)),
    table::<u32, Session>(map::SESSIONS),
    table::<LinesKey, Lines>(map::LINES),
    table::<PublishKey, Publish>(map::PUBLISHED),
    table::<PublishKey, Pool>(map::POOLS),
    table::<PublishKey, Endpoint>(map::RESERVED),
    Spec {
        kind: MapType::LpmTrie,
        ..table::<ListPrefix, Listed>(map::LISTS)
    },
    Spec {
        kind: MapType::LpmTrie,
        ..table::<Prefix, InsideNetwork>(map::INSIDE)
    },
    Spec {
        kind: MapType::LpmTrie,
        ..table::<RoutedPrefix, Publish>(map::ROUTED)
    },
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<ClientKey, Endpoint>(map::CLIENTS)
    },
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<HalfOpenKey, HalfOpen>(map::HALF_OPEN)
    },
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<TlsClientKey, TlsClient>(map::TLS_CLIENTS)
    },
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<DialogueKey, u32>(map::DIALOGUES)
    },
    table::<u32, Permit>(map::PERMITS),
    table::<Addr, Announced>(map::ANNOUNCED),
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<HalfOpenKey, HalfOpen>(map::HALF_OPEN_BEYOND)
    },
    Spec {
        kind: MapType::LruHash,
        flags: 0,
        ..table::<Addr, HalfOpenLevel>(map::HALF_OPEN_LEVELS)
    },
    table::<Addr, Share>(map::SHARES),
    table::<u32, Interface>(map::INTERFACES),
    array::<Settings>(map::SETTINGS, MapType::Array, 0, 1),
    array::<Ports>(map::PORTS, MapType::Array, BPF_F_MMAPABLE, 1),
    array::<Count>(map::COUNTERS, MapType::PerCpuArray, 0, COUNTERS),
    Spec {
        name: map::STATIONS,
        kind: MapType::ProgramArray,
        key: size_of::<u32>(),
        value: size_of::<u32>(),
        flags: 0,
        entries: Some(station::STATIONS),
    },
    Spec {
        name: map::EVENTS,
        kind: MapType::RingBuf,
        key: 0,
        value: 0,
        flags: 0,
        entries: None,
    },
];

/// The names of all maps that are pinned.
pub fn names() -> impl Iterator<Item = &'static str> {
    SPECS.iter().map(|spec| spec.name)
}

/// Whether a pinned map is what it must be.
///
/// # Errors
///
/// What is wrong with it, and what to do.
pub fn check(gateway: &Gateway, name: &str) -> anyhow::Result<MapInfo> {
    let spec = SPECS
        .iter()
        .find(|spec| spec.name == name)
        .with_context(|| format!("there is no map {name}"))?;
    let path = gateway.map(name);
    let info = MapInfo::from_pin(&path)
        .with_context(|| format!("cannot open the pinned map {}", path.display()))?;
    let wrong = |what: &str, found: u64, wanted: u64| {
        format!(
            "the pinned map {} has {what} {found} where {wanted} is expected: another program, or \
             an unreleased ftp-nat, made it; remove it with `ftp-nat unload`, which ends its \
             connections",
            path.display()
        )
    };
    let kind = info.map_type()?;
    if kind != spec.kind {
        bail!(wrong("type", kind as u64, spec.kind as u64));
    }
    let mut sizes = vec![
        ("keys of size", info.key_size(), spec.key as u32),
        ("values of size", info.value_size(), spec.value as u32),
        ("flags", info.map_flags(), spec.flags),
    ];
    if let Some(entries) = spec.entries {
        sizes.push(("room for entries", info.max_entries(), entries));
    }
    for (what, found, wanted) in sizes {
        if found != wanted {
            bail!(wrong(what, found.into(), wanted.into()));
        }
    }
    Ok(info)
}

/// All maps of a gateway, opened from their pins.
pub struct Maps {
    /// Flows over IPv4.
    pub flows4: Table<FlowKey4, Flow>,
    /// Flows over IPv6.
    pub flows6: Table<FlowKey6, Flow>,
    /// Announced connections.
    pub mappings: Table<MappingKey, Mapping>,
    /// Control connections.
    pub sessions: Table<u32, Session>,
    /// What is kept of their lines.
    pub lines: Table<LinesKey, Lines>,
    /// Whose sessions are that the datapath alone could not tell.
    pub clients: Table<ClientKey, Endpoint>,
    /// The clients' sessions that are found by their address.
    pub tls_clients: Table<TlsClientKey, TlsClient>,
    /// Between which servers and clients there are sessions.
    pub dialogues: Table<DialogueKey, u32>,
    /// The sessions' permits for data connections, where they speak TLS.
    pub permits: Table<u32, Permit>,
    /// The ports that published servers have announced.
    pub announced: Table<Addr, Announced>,
    /// What each client has.
    pub shares: Table<Addr, Share>,
    /// Published servers.
    pub published: Table<PublishKey, Publish>,
    /// Those of them that are several servers each.
    pub pools: Pools,
    /// Ports that belong to somebody else.
    pub reserved: Table<PublishKey, Endpoint>,
    /// Networks outside that may not begin sessions, or that alone may.
    pub lists: Trie<ListPrefix, Listed>,
    /// Interfaces that the datapath is attached to.
    pub interfaces: Table<u32, Interface>,
    /// Networks of servers that keep their addresses.
    pub routed: Trie<RoutedPrefix, Publish>,
    /// The masqueraded clients' networks, with what holds for them.
    pub inside: Trie<Prefix, InsideNetwork>,
    /// The ports of FTP.
    pub ports: PortBytes,
    settings: Table<u32, Settings>,
    changing_settings: std::sync::Mutex<()>,
    counters: PerCpuArray<MapData, Count>,
}

impl Maps {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// When one is missing or not what it must be.
    pub fn open(gateway: &Gateway) -> anyhow::Result<Self> {
        let open = |name| {
            check(gateway, name)?;
            MapData::from_pin(gateway.map(name)).with_context(|| format!("cannot open map {name}"))
        };
        Ok(Self {
            flows4: Table::new(open(map::FLOWS4)?),
            flows6: Table::new(open(map::FLOWS6)?),
            mappings: Table::new(open(map::MAPPINGS)?),
            sessions: Table::new(open(map::SESSIONS)?),
            lines: Table::new(open(map::LINES)?),
            clients: Table::new(open(map::CLIENTS)?),
            tls_clients: Table::new(open(map::TLS_CLIENTS)?),
            dialogues: Table::new(open(map::DIALOGUES)?),
            permits: Table::new(open(map::PERMITS)?),
            announced: Table::new(open(map::ANNOUNCED)?),
            shares: Table::new(open(map::SHARES)?),
            published: Table::new(open(map::PUBLISHED)?),
            pools: Pools::new(Table::new(open(map::POOLS)?)),
            reserved: Table::new(open(map::RESERVED)?),
            lists: Trie::of(open(map::LISTS)?),
            interfaces: Table::new(open(map::INTERFACES)?),
            routed: Trie::of(open(map::ROUTED)?),
            inside: Trie::of(open(map::INSIDE)?),
            ports: PortBytes::of(&open(map::PORTS)?)?,
            settings: Table::new(open(map::SETTINGS)?),
            changing_settings: std::sync::Mutex::default(),
            counters: typed(open(map::COUNTERS)?, map::COUNTERS)?,
        })
    }

    /// The settings.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let settings = self.settings.get(&0).context("cannot read the settings")?;
        settings.context("there are no settings")
    }

    /// Changes the settings; who else does so meanwhile waits.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> anyhow::Result<()> {
        let _changing = self
            .changing_settings
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut settings = self.settings()?;
        change(&mut settings);
        self.set_settings(&settings)
    }

    /// Sets the settings.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn set_settings(&self, settings: &Settings) -> anyhow::Result<()> {
        self.settings
            .set(&0, settings)
            .context("cannot write the settings")
    }

    /// All counters, summed over the CPUs, in the order of [`ftp_nat_common::counter`].
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn counters(&self) -> anyhow::Result<Vec<Count>> {
        (0..COUNTERS as u32)
            .map(|number| {
                let per_cpu = self
                    .counters
                    .get(&number, 0)
                    .context("cannot read the counters")?;
                Ok(per_cpu.iter().fold(Count::default(), |sum, count| Count {
                    packets: sum.packets.wrapping_add(count.packets),
                    bytes: sum.bytes.wrapping_add(count.bytes),
                }))
            })
            .collect()
    }
}

/// A network, as the INSIDE map has it: the kernel's `struct bpf_lpm_trie_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Prefix {
    /// How many of the address' bits count; IPv4 starts at bit 96.
    pub bits: u32,
    /// Its first address.
    pub address: Addr,
}

impl Prefix {
    /// As people write it.
    pub fn network(&self) -> prefix::Prefix {
        network(self.address, self.bits)
    }

    /// Whether an address is in it.
    pub fn contains(&self, addr: &Addr) -> bool {
        let number = |addr: &Addr| u128::from_be_bytes(bytemuck::cast(addr.0));
        let differ = number(addr) ^ number(&self.address);
        differ.leading_zeros() >= self.bits
    }
}

/// A network from its first address and how many bits count, of which IPv4's start at bit 96.
fn network(first: Addr, bits: u32) -> prefix::Prefix {
    let ip = first.to_ip();
    let before = if ip.is_ipv4() { 96 } else { 0 };
    let bits = bits.saturating_sub(before);
    prefix::Prefix::of(ip, u8::try_from(bits).unwrap_or(u8::MAX))
}

/// A network of servers, as the ROUTED map has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RoutedPrefix {
    /// How many of the key's bits count: all of those in front of the address, and in it IPv4 starts
    /// at bit 96.
    pub bits: u32,
    /// The control port and the network's first address.
    pub key: RoutedKey,
}

impl RoutedPrefix {
    /// The network, as people write it.
    pub fn network(&self) -> prefix::Prefix {
        let bits = self.bits.saturating_sub(RoutedKey::BEFORE_ADDRESS);
        network(self.key.addr, bits)
    }

    /// The key that a server at its first address would be published by.
    pub fn of_address(&self) -> PublishKey {
        PublishKey {
            addr: self.key.addr,
            port: self.key.port,
            pad: 0,
        }
    }
}

/// A network of a list, as the LISTS map has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ListPrefix {
    /// How many of the key's bits count: all of those in front of the address, and in it IPv4 starts
    /// at bit 96.
    pub bits: u32,
    /// The list, whose sessions, and the network's first address.
    pub key: ListKey,
}

impl ListPrefix {
    /// The network, as people write it.
    pub fn network(&self) -> prefix::Prefix {
        let bits = self.bits.saturating_sub(ListKey::BEFORE_ADDRESS);
        network(self.key.addr, bits)
    }
}

/// A map of networks: a trie, which the kernel does not read in batches.
#[derive(Debug)]
pub struct Trie<K, V>(MapData, PhantomData<(K, V)>);

impl<K: Pod, V: Pod> Trie<K, V> {
    fn of(map: MapData) -> Self {
        Self(map, PhantomData)
    }

    /// All of them, with their values.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn all(&self) -> io::Result<Vec<(K, V)>> {
        let mut all: Vec<(K, V)> = Vec::new();
        let mut next = K::zeroed();
        let mut after = None;
        while bpf::next_key(self.0.fd().as_fd(), after.as_ref(), &mut next)? {
            let mut value = V::zeroed();
            // One that was deleted meanwhile is not there.
            if bpf::lookup(self.0.fd().as_fd(), &next, &mut value)? {
                all.push((next, value));
            }
            after = Some(next);
        }
        Ok(all)
    }

    /// The value of the smallest network that has this one in it.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. That there is none is no error.
    pub fn get(&self, network: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let found = bpf::lookup(self.0.fd().as_fd(), network, &mut value)?;
        Ok(found.then_some(value))
    }

    /// Adds one, or sets its value.
    ///
    /// # Errors
    ///
    /// `ENOSPC`: the trie is full. `ENOMEM`: no memory for an entry. `EPERM`: no CAP_BPF.
    pub fn set(&self, network: &K, value: &V) -> io::Result<()> {
        bpf::update(self.0.fd().as_fd(), network, value, 0)
    }

    /// Deletes one; whether it was there.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. A missing network is no error.
    pub fn delete(&self, network: &K) -> io::Result<bool> {
        bpf::delete(self.0.fd().as_fd(), network)
    }
}

fn typed<T: TryFrom<Map>>(map: MapData, name: &str) -> anyhow::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let map = Map::from_map_data(map).with_context(|| format!("cannot open map {name}"))?;
    T::try_from(map).with_context(|| format!("map {name} is not what it should be"))
}

/// Opens a ring buffer, to read its events.
///
/// # Errors
///
/// When it is missing or not what it must be.
pub fn events(gateway: &Gateway) -> anyhow::Result<aya::maps::RingBuf<MapData>> {
    check(gateway, map::EVENTS)?;
    let path = gateway.map(map::EVENTS);
    typed(open_data(&path)?, map::EVENTS)
}

fn open_data(path: &Path) -> anyhow::Result<MapData> {
    MapData::from_pin(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Maps of a test's own, which are not pinned. Making them needs CAP_BPF.
#[cfg(test)]
pub(crate) fn scratch(entries: u32) -> Maps {
    use aya_obj::{
        EbpfSectionKind,
        maps::{LegacyMap, PinningType, bpf_map_def},
    };
    if let Some(missing) = crate::kernel::requirements::missing_privileges() {
        panic!("this test makes BPF maps: {missing}");
    }
    let make = |name: &str| {
        let spec = SPECS.iter().find(|spec| spec.name == name).unwrap();
        let map = LegacyMap {
            def: bpf_map_def {
                map_type: spec.kind as u32,
                key_size: spec.key as u32,
                value_size: spec.value as u32,
                max_entries: spec.entries.unwrap_or(entries),
                map_flags: spec.flags,
                id: 0,
                pinning: PinningType::None,
            },
            inner_def: None,
            section_index: 0,
            section_kind: EbpfSectionKind::Maps,
            symbol_index: None,
            data: Vec::new(),
        };
        MapData::create(aya_obj::Map::Legacy(map), name, None).unwrap()
    };
    Maps {
        flows4: Table::new(make(map::FLOWS4)),
        flows6: Table::new(make(map::FLOWS6)),
        mappings: Table::new(make(map::MAPPINGS)),
        sessions: Table::new(make(map::SESSIONS)),
        lines: Table::new(make(map::LINES)),
        clients: Table::new(make(map::CLIENTS)),
        tls_clients: Table::new(make(map::TLS_CLIENTS)),
        dialogues: Table::new(make(map::DIALOGUES)),
        permits: Table::new(make(map::PERMITS)),
        announced: Table::new(make(map::ANNOUNCED)),
        shares: Table::new(make(map::SHARES)),
        published: Table::new(make(map::PUBLISHED)),
        pools: Pools::new(Table::new(make(map::POOLS))),
        reserved: Table::new(make(map::RESERVED)),
        lists: Trie::of(make(map::LISTS)),
        interfaces: Table::new(make(map::INTERFACES)),
        routed: Trie::of(make(map::ROUTED)),
        inside: Trie::of(make(map::INSIDE)),
        ports: PortBytes::of(&make(map::PORTS)).unwrap(),
        settings: Table::new(make(map::SETTINGS)),
        changing_settings: std::sync::Mutex::default(),
        counters: typed(make(map::COUNTERS), map::COUNTERS).unwrap(),
    }
}
