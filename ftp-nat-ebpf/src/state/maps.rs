//! The maps: what outlives a packet. Layouts are in `ftp_nat_common::abi`.
//!
//! An entry that was found stays in its place while the program runs: one of a preallocated map is
//! never given back, others not before all programs that may look at them have ended (RCU). But it
//! may come to hold another key's value meanwhile, if it was removed: at once where the map is
//! preallocated, and since Linux 6.1 elsewhere too. The daemon's sweep removes only what nothing was
//! heard of for long, so that takes a packet that comes just then; and it may cost that packet.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{
    Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SockMap,
};
use ftp_nat_common::abi::{
    Announced, ClientKey, Count, DialogueKey, Flow, FlowKey4, FlowKey6, HalfOpen, HalfOpenKey,
    HalfOpenLevel, InsideNetwork, Interface, Lines, LinesKey, ListKey, Listed, Mapping, MappingKey,
    Permit, Pool, Ports, Publish, PublishKey, RoutedKey, Session, Settings, Share, TlsClient,
    TlsClientKey, guard, station,
};
use ftp_nat_common::counter::COUNTERS as COUNTER_NUMBER;
use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// Entries of the maps that hold flows, two a connection. The daemon sets the real sizes when it
/// loads the object.
const FLOWS: u32 = 1 << 19;

/// Flows over IPv4. Plain hash maps, here and below: an entry that a least-recently-used map threw
/// out would cut a live connection. Preallocated: making a connection's entries takes half the time
/// then, and cannot fail for want of memory.
#[map]
pub(crate) static FLOWS4: HashMap<FlowKey4, Flow> = HashMap::with_max_entries(FLOWS, 0);

/// Flows over IPv6, which many gateways never see: allocated one by one.
#[map]
pub(crate) static FLOWS6: HashMap<FlowKey6, Flow> =
    HashMap::with_max_entries(FLOWS, BPF_F_NO_PREALLOC);

/// Announced connections that have not come yet; preallocated, as [`FLOWS4`].
#[map]
pub(crate) static MAPPINGS: HashMap<MappingKey, Mapping> = HashMap::with_max_entries(1 << 16, 0);

/// Control connections.
#[map]
pub(crate) static SESSIONS: HashMap<u32, Session> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// What is kept of lines that come in pieces.
#[map]
pub(crate) static LINES: HashMap<LinesKey, Lines> =
    HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Published servers.
#[map]
pub(crate) static PUBLISHED: HashMap<PublishKey, Publish> =
    HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// Those of them that are several servers each. The daemon sets the real size.
#[map]
pub(crate) static POOLS: HashMap<PublishKey, Pool> =
    HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// Networks of servers that keep their addresses.
#[map]
pub(crate) static ROUTED: LpmTrie<RoutedKey, Publish> =
    LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
/// Ports of this machine's own programs, and those that the firewall's rules translate: no
/// announcement gets them.
#[map]
pub(crate) static RESERVED: HashMap<PublishKey, Endpoint> =
    HashMap::with_max_entries(1 << 15, BPF_F_NO_PREALLOC);

/// The masqueraded clients' networks.
#[map]
pub(crate) static INSIDE: LpmTrie<Addr, InsideNetwork> =
    LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);

/// Networks that may not begin sessions, or that alone may.
#[map]
pub(crate) static LISTS: LpmTrie<ListKey, Listed> =
    LpmTrie::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// Clients whose first SYN passed the inside's hook just now, and those that the daemon has found
/// out. What is thrown out of it is a client that is not known: nothing is opened for it until the
/// daemon has looked again.
#[map]
pub(crate) static CLIENTS: LruHashMap<ClientKey, Endpoint> =
    LruHashMap::with_max_entries(1 << 12, 0);

/// Handshakes that are not finished. The least recently used one gives way: its client repeats its
/// SYN.
#[map]
pub(crate) static HALF_OPEN: LruHashMap<HalfOpenKey, HalfOpen> =
    LruHashMap::with_max_entries(1 << 16, 0);

/// The same for addresses that have their share of [`HALF_OPEN`] already: their handshakes are each
/// other's rivals for room and nobody else's.
#[map]
pub(crate) static HALF_OPEN_BEYOND: LruHashMap<HalfOpenKey, HalfOpen> =
    LruHashMap::with_max_entries(1 << 15, 0);

/// How many unfinished handshakes each address has caused lately. Addresses that are invented push
/// each other out; one that goes on is used, and stays.
#[map]
pub(crate) static HALF_OPEN_LEVELS: LruHashMap<Addr, HalfOpenLevel> =
    LruHashMap::with_max_entries(1 << 14, 0);

/// What each client has that has finished a handshake.
#[map]
pub(crate) static SHARES: HashMap<Addr, Share> =
    HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Until when there is no room for control connections, in jiffies: see
/// [`super::shares::note_no_room`].
#[map]
pub(crate) static FULL_UNTIL: Array<u64> = Array::with_max_entries(1, 0);

/// Clients with sessions that speak TLS. One that is thrown out is entered again with the next answer
/// of its server.
#[map]
pub(crate) static TLS_CLIENTS: LruHashMap<TlsClientKey, TlsClient> =
    LruHashMap::with_max_entries(1 << 14, 0);

/// The latest session between a server and a client. One that is thrown out leaves untold what its server
/// sends beside it.
#[map]
pub(crate) static DIALOGUES: LruHashMap<DialogueKey, u32> =
    LruHashMap::with_max_entries(1 << 14, 0);

/// Permits for data connections of sessions that speak TLS, one a session.
#[map]
pub(crate) static PERMITS: HashMap<u32, Permit> =
    HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// The ports that each published server has announced.
#[map]
pub(crate) static ANNOUNCED: HashMap<Addr, Announced> =
    HashMap::with_max_entries(1 << 14, BPF_F_NO_PREALLOC);

/// Interfaces that the datapath is attached to.
#[map]
pub(crate) static INTERFACES: HashMap<u32, Interface> =
    HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// What the daemon wants.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// The ports of FTP: a byte each, which the daemon maps into its memory too, so that both sides
/// change single bytes atomically.
#[map]
pub(crate) static PORTS: Array<Ports> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Count> =
    PerCpuArray::with_max_entries(COUNTER_NUMBER as u32, 0);

/// Size of [`EVENTS`], in bytes.
pub(crate) const EVENTS_SIZE: u32 = 1 << 20;

/// Events for the daemon, as it reads them every few milliseconds: room for four thousand, and as many
/// bytes again for what control connections say.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_SIZE, 0);

/// What this CPU has told the daemon lately.
#[map]
pub(crate) static TELLING: PerCpuArray<Telling> = PerCpuArray::with_max_entries(1, 0);

/// What a CPU has told the daemon lately. Times are in jiffies.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Telling {
    /// When it woke the daemon last.
    pub(crate) woken: u64,
    /// What it told that other gateways must know.
    pub(crate) shared: Tally,
    /// What it told of what was denied.
    pub(crate) denied: Tally,
}

/// How often something happened in one jiffy.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    /// That jiffy.
    at: u64,
    count: u64,
}

impl Tally {
    /// Counts once more; gives how often in the jiffy `now`, this time included.
    #[inline(always)]
    pub(crate) fn add(&mut self, now: u64) -> u64 {
        if self.at != now {
            self.at = now;
            self.count = 0;
        }
        self.count += 1;
        self.count
    }
}

/// The sockets that drop what is given to them, by [`guard`]; the daemon's, and not pinned.
#[map]
pub(crate) static GUARD: SockMap = SockMap::with_max_entries(guard::SOCKETS, 0);

/// The programs behind the entrances.
#[map]
pub(crate) static STATIONS: ProgramArray = ProgramArray::with_max_entries(station::STATIONS, 0);
