//! The names of the maps and their version.

/// Changes with every change of a pinned map's layout or meaning: pins of another version are
/// never read.
pub const LAYOUT: u32 = 4;

/// Names of the maps, as pinned and as declared by the datapath.
pub mod map {
    /// [`crate::abi::FlowKey4`] to [`crate::abi::Flow`].
    pub const FLOWS4: &str = "FLOWS4";
    /// [`crate::abi::FlowKey6`] to [`crate::abi::Flow`].
    pub const FLOWS6: &str = "FLOWS6";
    /// [`crate::abi::MappingKey`] to [`crate::abi::Mapping`].
    pub const MAPPINGS: &str = "MAPPINGS";
    /// Session number (`u32`) to [`crate::abi::Session`].
    pub const SESSIONS: &str = "SESSIONS";
    /// [`crate::abi::LinesKey`] to [`crate::abi::Lines`].
    pub const LINES: &str = "LINES";
    /// [`crate::abi::PublishKey`] to [`crate::abi::Publish`].
    pub const PUBLISHED: &str = "PUBLISHED";
    /// [`crate::abi::PublishKey`] of an entry in PUBLISHED with
    /// [`crate::abi::publish_flag::POOL`] to [`crate::abi::Pool`].
    pub const POOLS: &str = "POOLS";
    /// [`crate::abi::PublishKey`] of a port that is somebody else's, `0.0.0.0` or `::` for all
    /// addresses, to the [`crate::wire::addr::Endpoint`] that it leads to; none: to a program here, or
    /// nobody can tell.
    pub const RESERVED: &str = "RESERVED";
    /// Prefixes of [`crate::abi::RoutedKey`] (IPv4 from bit 96 of its address on) to
    /// [`crate::abi::Publish`].
    pub const ROUTED: &str = "ROUTED";
    /// Prefixes ([`crate::wire::addr::Addr`], IPv4 from bit 96 on) of the masqueraded clients, to
    /// [`crate::abi::InsideNetwork`].
    pub const INSIDE: &str = "INSIDE";
    /// Prefixes of [`crate::abi::ListKey`] to [`crate::abi::Listed`].
    pub const LISTS: &str = "LISTS";
    /// [`crate::abi::ClientKey`] to the client's own [`crate::wire::addr::Endpoint`], none where two
    /// clients have claimed the same key.
    pub const CLIENTS: &str = "CLIENTS";
    /// [`crate::abi::HalfOpenKey`] to [`crate::abi::HalfOpen`].
    pub const HALF_OPEN: &str = "HALF_OPEN";
    /// [`crate::abi::TlsClientKey`] to [`crate::abi::TlsClient`].
    pub const TLS_CLIENTS: &str = "TLS_CLIENTS";
    /// [`crate::abi::DialogueKey`] to a session's number (`u32`).
    pub const DIALOGUES: &str = "DIALOGUES";
    /// Session number (`u32`) to [`crate::abi::Permit`].
    pub const PERMITS: &str = "PERMITS";
    /// As HALF_OPEN, for clients beyond their share of that.
    pub const HALF_OPEN_BEYOND: &str = "HALF_OPEN_BEYOND";
    /// [`crate::abi::share_of`] an address to [`crate::abi::HalfOpenLevel`].
    pub const HALF_OPEN_LEVELS: &str = "HALF_OPEN_LEVELS";
    /// [`crate::abi::share_of`] a client to [`crate::abi::Share`].
    pub const SHARES: &str = "SHARES";
    /// A published server's [`crate::wire::addr::Addr`] to [`crate::abi::Announced`].
    pub const ANNOUNCED: &str = "ANNOUNCED";
    /// Interface index (`u32`) to [`crate::abi::Interface`].
    pub const INTERFACES: &str = "INTERFACES";
    /// One [`crate::abi::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// One byte a port: see [`crate::abi::port`].
    pub const PORTS: &str = "PORTS";
    /// Per CPU, one [`crate::abi::Count`] for each [`crate::counter::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`crate::abi::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// The programs behind the entrances, by [`super::station`].
    pub const STATIONS: &str = "STATIONS";
}

/// The sockets of the guard: places in the GUARD map.
pub mod guard {
    /// The name of the map and of the program.
    pub const MAP: &str = "GUARD";
    /// See [`MAP`].
    pub const PROGRAM: &str = "guard";
    /// That for IPv4.
    pub const V4: u32 = 0;
    /// That for IPv6.
    pub const V6: u32 = 1;
    /// How many there are.
    pub const SOCKETS: u32 = 2;
}

/// The programs that the entrances hand packets on to: places in the STATIONS map.
pub mod station {
    /// TCP on a port of FTP.
    pub const GATEWAY: u32 = 0;
    /// ICMP errors.
    pub const ICMP: u32 = 1;
    /// How many there are.
    pub const STATIONS: u32 = 2;
}
