//! The datapath in the kernel, attached to nothing: packets go in and come out by
//! BPF_PROG_TEST_RUN.

use std::{
    cell::RefCell,
    env, fs,
    net::IpAddr,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, MapData, PerCpuArray, ProgramArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use bytemuck::Zeroable;
use ftp_nat_common::{
    abi::{
        ClientKey, Count, Event, Flow, FlowKey4, FlowKey6, HalfOpen, HalfOpenKey, InsideNetwork,
        Interface, Lines, LinesKey, ListKey, Listed, Mapping, MappingKey, Permit, Pool, Ports,
        Publish, PublishKey, SAID_HEAD, Said, Session, Settings, Share, TlsClient, TlsClientKey,
        event, interface_flag, map, mss, port, reserved_bit, station,
    },
    counter::{COUNTERS, Counter},
    wire::addr::{Addr, Endpoint, Port},
};
use ftp_nat_tests::lab::{LAN, Lab, WAN};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use crate::{
    packet::hex,
    scene::INSIDE,
    skb::{self, Summed},
    table::{self, Table},
};

/// Names the eBPF object; `cargo xtask test` sets it.
const OBJECT_VARIABLE: &str = "FTP_NAT_EBPF_OBJECT";

/// The mark that translated packets get on their way through the stack.
pub(crate) const MARK: u32 = 0x4654;
/// The only port for remaps, so that a test knows which one it gets.
pub(crate) const REMAP: u16 = 61_000;
/// Entries of the maps that hold connections.
pub(crate) const ROOM: u32 = 4096;
/// Longer than any test, in jiffies.
pub(crate) const NEVER: u64 = 1 << 40;

/// Where a program would be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    WanIngress,
    WanEgress,
    LanIngress,
}

impl Hook {
    pub(crate) const ALL: [Self; 3] = [Self::WanIngress, Self::WanEgress, Self::LanIngress];

    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::WanIngress => "wan_ingress",
            Self::WanEgress => "wan_egress",
            Self::LanIngress => "lan_ingress",
        }
    }
}

/// The programs behind the entrances, and their places.
const STATIONS: [(&str, u32); 2] = [("gateway", station::GATEWAY), ("icmp", station::ICMP)];

/// All programs.
pub(crate) const PROGRAMS: [&str; 5] = [
    "wan_ingress",
    "wan_egress",
    "lan_ingress",
    "gateway",
    "icmp",
];

/// The fast path, from the WAN and from the inside.
pub(crate) const XDP_PROGRAMS: [&str; 2] = ["wan_xdp", "lan_xdp"];

/// XDP's verdicts (linux/bpf.h).
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// TC's verdicts (linux/pkt_cls.h).
pub(crate) const NEXT: i32 = -1;
pub(crate) const DROP: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

pub(crate) use crate::skb::Outcome;

/// The loaded programs and their maps.
pub(crate) struct Datapath {
    pub(crate) ebpf: Ebpf,
    /// Emptied when it is closed.
    stations: ProgramArray<MapData>,
    /// The programs are in it; to put them there takes the kernel long.
    is_filled: bool,
    pub(crate) flows4: Table<FlowKey4, Flow>,
    pub(crate) flows6: Table<FlowKey6, Flow>,
    pub(crate) mappings: Table<MappingKey, Mapping>,
    pub(crate) sessions: Table<u32, Session>,
    pub(crate) lines: Table<LinesKey, Lines>,
    pub(crate) permits: Table<u32, Permit>,
    pub(crate) tls_clients: Table<TlsClientKey, TlsClient>,
    pub(crate) shares: Table<Addr, Share>,
    /// Not pinned: nobody else needs it.
    full_until: Array<MapData, u64>,
    pub(crate) published: Table<PublishKey, Publish>,
    pub(crate) pools: Table<PublishKey, Pool>,
    pub(crate) half_open: Table<HalfOpenKey, HalfOpen>,
    reserved: Table<PublishKey, Endpoint>,
    pub(crate) clients: Table<ClientKey, Endpoint>,
    lists: LpmTrie<MapData, ListKey, Listed>,
    inside: LpmTrie<MapData, Addr, InsideNetwork>,
    /// What holds for the inside networks.
    network: InsideNetwork,
    interfaces: Table<u32, Interface>,
    settings: Array<MapData, Settings>,
    ports: Array<MapData, Ports>,
    counters: PerCpuArray<MapData, Count>,
    events: RefCell<RingBuf<MapData>>,
    /// How packets come: on kernels that can, each as hardware has summed it.
    summed: Summed,
    pub(crate) wan: u32,
    pub(crate) lan: u32,
    /// The interface that packets at the WAN's egress came in by; 0: this machine sends them.
    pub(crate) sender: u32,
}

/// A hook's program, and what its packets come by.
#[derive(Clone, Copy)]
pub(crate) struct Entrance<'d> {
    program: BorrowedFd<'d>,
    ingress_ifindex: u32,
    ifindex: u32,
}

impl Entrance<'_> {
    /// What becomes of a frame, on the CPU that this thread runs on.
    pub(crate) fn run(&self, frame: &[u8], gso_size: u32, summed: Summed) -> Outcome {
        let context = skb::Context {
            ingress_ifindex: self.ingress_ifindex,
            ifindex: self.ifindex,
            gso_size,
        };
        skb::test_run(self.program, frame, &context, summed).unwrap_or_else(|error| {
            let why = if error.raw_os_error() == Some(libc::EBADMSG) {
                ": the sum that the hardware took does not fit any more"
            } else {
                ""
            };
            panic!(
                "test run of {} bytes: {error}{why}\n{}",
                frame.len(),
                hex(frame)
            )
        })
    }
}

/// The kernel takes seconds to verify the programs, so that all tests share them, one after the
/// other.
static LOADED: Mutex<Option<Datapath>> = Mutex::new(None);

/// Runs `test` on a lab's router, with a datapath that has seen nothing yet: routes and interface
/// numbers are those of the router's namespace.
pub(crate) fn on_router(test: impl FnOnce(&mut Datapath) + Send) {
    on_router_of(&Lab::new().unwrap(), test);
}

/// The same on the router of this lab.
pub(crate) fn on_router_of<T: Send>(lab: &Lab, test: impl FnOnce(&mut Datapath) -> T + Send) -> T {
    lab.router
        .run(|| {
            // Whatever a failed test left is cleared.
            let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
            let datapath = loaded.get_or_insert_with(Datapath::load);
            datapath.reset();
            Ok(test(datapath))
        })
        .unwrap()
}

impl Datapath {
    fn load() -> Self {
        let path = env::var_os(OBJECT_VARIABLE)
            .unwrap_or_else(|| panic!("{OBJECT_VARIABLE} is not set: use `cargo xtask test`"));
        let object = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for name in [
            map::FLOWS4,
            map::FLOWS6,
            map::MAPPINGS,
            map::SESSIONS,
            map::LINES,
            map::PERMITS,
        ] {
            loader.map_max_entries(name, ROOM);
        }
        let mut ebpf = loader.load(&object).unwrap();
        for name in PROGRAMS {
            let program: &mut SchedClassifier = ebpf
                .program_mut(name)
                .unwrap_or_else(|| panic!("the object has no program {name}"))
                .try_into()
                .unwrap();
            program.load().unwrap();
        }
        for name in XDP_PROGRAMS {
            let program: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        let mut stations: ProgramArray<MapData> = table::take(&mut ebpf, map::STATIONS);
        fill(&mut stations, &ebpf);
        Self {
            flows4: Table::take(&mut ebpf, map::FLOWS4),
            flows6: Table::take(&mut ebpf, map::FLOWS6),
            mappings: Table::take(&mut ebpf, map::MAPPINGS),
            sessions: Table::take(&mut ebpf, map::SESSIONS),
            lines: Table::take(&mut ebpf, map::LINES),
            permits: Table::take(&mut ebpf, map::PERMITS),
            tls_clients: Table::take(&mut ebpf, map::TLS_CLIENTS),
            shares: Table::take(&mut ebpf, map::SHARES),
            full_until: table::take(&mut ebpf, "FULL_UNTIL"),
            published: Table::take(&mut ebpf, map::PUBLISHED),
            pools: Table::take(&mut ebpf, map::POOLS),
            half_open: Table::take(&mut ebpf, map::HALF_OPEN),
            inside: table::take(&mut ebpf, map::INSIDE),
            network: InsideNetwork::default(),
            interfaces: Table::take(&mut ebpf, map::INTERFACES),
            settings: table::take(&mut ebpf, map::SETTINGS),
            ports: table::take(&mut ebpf, map::PORTS),
            counters: table::take(&mut ebpf, map::COUNTERS),
            events: RefCell::new(table::take(&mut ebpf, map::EVENTS)),
            summed: if is_since(6, 16) {
                Summed::Completely
            } else {
                Summed::No
            },
            reserved: Table::take(&mut ebpf, map::RESERVED),
            lists: table::take(&mut ebpf, map::LISTS),
            clients: Table::take(&mut ebpf, map::CLIENTS),
            wan: 0,
            lan: 0,
            sender: 0,
            stations,
            is_filled: true,
            ebpf,
        }
    }

    /// Nothing is configured but that both interfaces of this namespace take redirected flows.
    fn reset(&mut self) {
        self.fill_stations();
        self.wan = interface_number(WAN);
        self.lan = interface_number(LAN);
        self.sender = self.lan;
        self.forget_connections();
        self.published.clear();
        self.pools.clear();
        self.reserved.clear();
        self.ports
            .set(0, *Box::<Ports>::new(Zeroable::zeroed()), 0)
            .unwrap();
        self.interfaces.clear();
        self.redirect_everything();
        self.set(Settings {
            hz: 250,
            mark: MARK,
            route_epoch: 1,
            remap_first: REMAP,
            remap_last: REMAP,
            mss_clamp: mss::OFF,
            cluster: 0,
            node: 0,
            flags: 0,
            mapping_timeout: NEVER,
            hold_timeout: NEVER,
            // Bounds are the business of those tests that set them.
            ..Settings::zeroed()
        });
    }

    /// Puts an address into a list ([`ftp_nat_common::abi::list`]) of a scope; gives what takes it out.
    pub(crate) fn list(
        &mut self,
        list: u32,
        scope: u32,
        addr: Addr,
        listed: Listed,
    ) -> Key<ListKey> {
        let key = ListKey { list, scope, addr };
        let key = Key::new(ListKey::ALL, key);
        self.lists.insert(&key, listed, 0).unwrap();
        key
    }

    pub(crate) fn unlist(&mut self, key: &Key<ListKey>) -> Listed {
        let listed = self.lists.get(key, 0).unwrap();
        self.lists.remove(key).unwrap();
        listed
    }

    /// Runs `test` while no program is behind the hooks.
    pub(crate) fn without_stations(&mut self, test: impl FnOnce(&mut Self)) {
        self.is_filled = false;
        for (_, place) in STATIONS {
            self.stations.clear_index(&place).unwrap();
        }
        test(self);
        self.fill_stations();
    }

    fn fill_stations(&mut self) {
        if !self.is_filled {
            fill(&mut self.stations, &self.ebpf);
            self.is_filled = true;
        }
    }

    pub(crate) fn set(&mut self, settings: Settings) {
        self.settings.set(0, settings, 0).unwrap();
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.get(&0, 0).unwrap()
    }

    /// Both interfaces take redirected flows.
    pub(crate) fn redirect_everything(&mut self) {
        for (number, role) in [
            (self.wan, interface_flag::WAN),
            (self.lan, interface_flag::LAN),
        ] {
            let flags = role | interface_flag::ETHERNET;
            self.interfaces.set(number, Interface { flags, mtu: 1500 });
        }
    }

    /// The stack forwards all flows that are made from now on.
    pub(crate) fn redirect_nothing(&mut self) {
        self.interfaces.clear();
    }

    /// One more interface that the datapath is attached to.
    pub(crate) fn add_interface(&mut self, number: u32, interface: Interface) {
        self.interfaces.set(number, interface);
    }

    pub(crate) fn mark_port(&mut self, number: u16, mark: u8) {
        let mut ports = Box::new(self.ports.get(&0, 0).unwrap());
        ports.marks[Port::new(number).place()] |= mark;
        self.ports.set(0, *ports, 0).unwrap();
    }

    pub(crate) fn port_marks(&self, number: u16) -> u8 {
        self.ports.get(&0, 0).unwrap().marks[Port::new(number).place()]
    }

    /// A port that belongs to somebody else at an address, and where that leads.
    pub(crate) fn reserve(&mut self, key: PublishKey, to: Endpoint) {
        let mut ports = Box::new(self.ports.get(&0, 0).unwrap());
        let (at, bit) = reserved_bit(key.port);
        ports.reserved[at] |= bit;
        self.ports.set(0, *ports, 0).unwrap();
        self.reserved.set(key, to);
    }

    /// No port belongs to somebody else any more.
    pub(crate) fn reserve_nothing(&mut self) {
        self.reserved.clear();
        let mut ports = Box::new(self.ports.get(&0, 0).unwrap());
        ports.reserved.fill(0);
        self.ports.set(0, *ports, 0).unwrap();
    }

    pub(crate) fn publish(&mut self, key: PublishKey, publish: Publish) {
        self.published.set(key, publish);
        self.mark_port(key.port.number(), port::PUBLISHED);
    }

    /// Reads the control connections of inside clients to this port of outside servers.
    pub(crate) fn masquerade(&mut self, number: u16) {
        self.mark_port(number, port::MASQUERADED);
        for (network, len) in INSIDE {
            let network: IpAddr = network.parse().unwrap();
            let len = if network.is_ipv4() { 96 + len } else { len };
            let key = Key::new(len, Addr::from(network));
            self.inside.insert(&key, self.network, 0).unwrap();
        }
    }

    /// One more address of an inside client.
    pub(crate) fn add_inside(&mut self, addr: Addr) {
        let key = Key::new(128, addr);
        self.inside.insert(&key, self.network, 0).unwrap();
    }

    /// Sets what holds for the inside networks, from the next [`Self::masquerade`] on.
    pub(crate) fn deny_inside(&mut self, network: InsideNetwork) {
        self.network = network;
    }

    /// Runs the program of `hook` on a frame that came in, or is to leave, at its interface.
    pub(crate) fn run(&self, hook: Hook, frame: &[u8]) -> Outcome {
        self.run_as(hook, frame, 0, Summed::No)
    }

    /// The same for a frame that becomes one of `length` bytes, and a super-packet of segments of
    /// `gso_size` bytes, or 0: a plain packet. That comes as hardware has summed it, where the kernel
    /// can do that; unless its length changes, since the kernel forgets that sum then, but not that
    /// it was to look at it.
    pub(crate) fn run_to(&self, hook: Hook, frame: &[u8], length: usize, gso_size: u32) -> Outcome {
        let summed = if gso_size == 0 && length == frame.len() {
            self.summed
        } else {
            Summed::No
        };
        self.run_as(hook, frame, gso_size, summed)
    }

    fn run_as(&self, hook: Hook, frame: &[u8], gso_size: u32, summed: Summed) -> Outcome {
        self.entrance(hook).run(frame, gso_size, summed)
    }

    /// A hook's program, for any thread.
    pub(crate) fn entrance(&self, hook: Hook) -> Entrance<'_> {
        let program: &SchedClassifier = self
            .ebpf
            .program(hook.program())
            .unwrap()
            .try_into()
            .unwrap();
        let ifindex = match hook {
            Hook::WanIngress | Hook::WanEgress => self.wan,
            Hook::LanIngress => self.lan,
        };
        Entrance {
            program: program.fd().unwrap().as_fd(),
            ingress_ifindex: match hook {
                Hook::WanEgress => self.sender,
                Hook::WanIngress | Hook::LanIngress => ifindex,
            },
            ifindex,
        }
    }

    /// Runs a program of the fast path on a frame: its verdict, and what became of the frame.
    pub(crate) fn run_xdp(&self, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let program: &Xdp = self.ebpf.program(name).unwrap().try_into().unwrap();
        let mut out = vec![0; 65536];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("test run of {} bytes: {error:?}", frame.len()));
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// All counters, summed over the CPUs.
    pub(crate) fn counts(&self) -> Vec<Count> {
        (0..COUNTERS as u32)
            .map(|number| {
                let cpus = self.counters.get(&number, 0).unwrap();
                cpus.iter().fold(Count::zeroed(), |sum, count| Count {
                    packets: sum.packets + count.packets,
                    bytes: sum.bytes + count.bytes,
                })
            })
            .collect()
    }

    /// What was counted since `before`, in the order of the counters.
    pub(crate) fn counted_since(&self, before: &[Count]) -> Vec<(Counter, Count)> {
        let now = self.counts();
        let changes = Counter::ALL.iter().zip(before.iter().zip(now));
        changes
            .map(|(counter, (before, now))| {
                let change = Count {
                    packets: now.packets - before.packets,
                    bytes: now.bytes - before.bytes,
                };
                (*counter, change)
            })
            .filter(|(_, change)| *change != Count::zeroed())
            .collect()
    }

    /// What was told since this was asked last: events, each by itself; and commands and replies, each with what is told of
    /// its line.
    pub(crate) fn told(&self) -> (Vec<Event>, Vec<(Said, Vec<u8>)>) {
        let mut ring = self.events.borrow_mut();
        let (mut events, mut all_said) = (Vec::new(), Vec::new());
        while let Some(item) = ring.next() {
            let what = item[std::mem::offset_of!(Event, what)];
            if matches!(what, event::COMMAND | event::REPLY) {
                let mut said = Said::zeroed();
                bytemuck::bytes_of_mut(&mut said)[..item.len()].copy_from_slice(&item);
                all_said.push((said, item[SAID_HEAD..].to_vec()));
            } else {
                let event: Event = bytemuck::pod_read_unaligned(&item);
                events.extend(event.each());
            }
        }
        (events, all_said)
    }

    /// The events alone.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.told().0
    }

    /// The commands and replies alone.
    pub(crate) fn said(&self) -> Vec<(Said, Vec<u8>)> {
        self.told().1
    }

    /// Forgets all connections; what is configured stays.
    pub(crate) fn forget_connections(&mut self) {
        self.flows4.clear();
        self.flows6.clear();
        self.mappings.clear();
        self.sessions.clear();
        self.lines.clear();
        self.clients.clear();
        self.permits.clear();
        self.tls_clients.clear();
        self.shares.clear();
        self.full_until.set(0, 0, 0).unwrap();
        self.half_open.clear();
        self.events();
    }
}

/// Puts the programs behind the hooks into their places.
fn fill(stations: &mut ProgramArray<MapData>, ebpf: &Ebpf) {
    for (name, place) in STATIONS {
        let program: &SchedClassifier = ebpf.program(name).unwrap().try_into().unwrap();
        stations.set(place, program.fd().unwrap(), 0).unwrap();
    }
}

/// Whether the kernel is of this version or a later one.
fn is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

fn interface_number(name: &str) -> u32 {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    name_to_index(&socket, name).unwrap_or_else(|error| panic!("interface {name}: {error}"))
}
