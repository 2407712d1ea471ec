//! The names of the maps and their version.

/// Changes with every change of a pinned map's layout or meaning: pins of another version are
/// never read.
pub const LAYOUT: u32 = 3;

/// Names of the maps, as pinned and as declared by the datapath.
pub mod map {
    /// [`super::FlowKey4`] to [`super::Flow`].
    pub const FLOWS4: &str = "FLOWS4";
    /// [`super::FlowKey6`] to [`super::Flow`].
    pub const FLOWS6: &str = "FLOWS6";
    /// [`super::MappingKey`] to [`super::Mapping`].
    pub const MAPPINGS: &str = "MAPPINGS";
    /// Session number (`u32`) to [`super::Session`].
    pub const SESSIONS: &str = "SESSIONS";
    /// [`super::LinesKey`] to [`super::Lines`].
    pub const LINES: &str = "LINES";
    /// [`super::PublishKey`] to [`super::Publish`].
    pub const PUBLISHED: &str = "PUBLISHED";
    /// Prefixes ([`crate::wire::addr::Addr`], IPv4 from bit 96 on) of the masqueraded clients.
    pub const INSIDE: &str = "INSIDE";
    /// [`super::ClientKey`] to the client's own [`crate::wire::addr::Endpoint`].
    pub const CLIENTS: &str = "CLIENTS";
    /// Interface index (`u32`) to [`super::Interface`].
    pub const INTERFACES: &str = "INTERFACES";
    /// One [`super::Settings`].
    pub const SETTINGS: &str = "SETTINGS";
    /// One byte a port: see [`super::port`].
    pub const PORTS: &str = "PORTS";
    /// Per CPU, one [`super::Count`] for each [`crate::counter::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// The programs behind the entrances, by [`super::station`].
    pub const STATIONS: &str = "STATIONS";
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
