//! PUBLISHED: servers behind the gateway.

use crate::wire::addr::{Addr, Endpoint, Port};
use bytemuck::{Pod, Zeroable};

/// A control address as clients see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PublishKey {
    /// The public address.
    pub addr: Addr,
    /// The public port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
}

/// A control port of a network whose servers keep their addresses: the key of the ROUTED map, behind
/// the number of bits that count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct RoutedKey {
    /// The control port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
    /// The network's first address, or a server's.
    pub addr: Addr,
}

impl RoutedKey {
    /// Bits of the key in front of its address.
    pub const BEFORE_ADDRESS: u32 = 32;
    /// All of its bits: those of one server.
    pub const ALL: u32 = 160;
}

/// Bits of [`Publish::flags`].
pub mod publish_flag {
    /// The kernel's own NAT translates the control connection.
    pub const KERNEL_NAT: u16 = 1;
    /// The server runs on this machine: rewrite only.
    pub const LOCAL: u16 = 2;
    /// Anybody may use a pinhole (`peer = "any"`), not just the client that it was announced to.
    pub const ANY_PEER: u16 = 4;
    /// Of an entry without a port: a server at this address has a passive range that clients with a
    /// live TLS session may connect to. [`Publish::passive_first`](super::Publish::passive_first) to
    /// [`Publish::passive_last`](super::Publish::passive_last) hold those of all of them.
    pub const RANGE: u16 = 8;
    /// `session_flag::HIDE_GREETING` for its sessions.
    pub const HIDE_GREETING: u16 = 16;
    /// `session_flag::REQUIRE_TLS` for its sessions.
    pub const REQUIRE_TLS: u16 = 32;
    /// The server sees this machine as its client (`toward_server = "gateway"`): its answers need no
    /// route to the real one.
    pub const TOWARD_GATEWAY: u16 = 64;
    /// Of an entry without a port: another gateway of the cluster has this address now. What comes for
    /// it all the same is judged as by [`learning_until`](crate::abi::Settings::learning_until).
    pub const AWAY: u16 = 128;
    /// Several servers share its clients: POOLS has them under the same key.
    pub const POOL: u16 = 256;
}

/// A published server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Publish {
    /// Where its control connections go; of a pool the first one of its servers, which says nothing of
    /// any session's. In the ROUTED map zeros: where their clients dial.
    pub server: Endpoint,
    /// The address that replies announce. In the ROUTED map zeros: the one that clients dial.
    pub advertise: Addr,
    /// This machine's address on the server's network, for clients that the server must not see
    /// under their own; none: it has none there.
    pub near: Addr,
    /// [`publish_flag`].
    pub flags: u16,
    /// Lowest port that the server may announce; 0: any from 1024 up.
    pub passive_first: u16,
    /// Highest port that the server may announce.
    pub passive_last: u16,
    /// Zero.
    pub pad: u16,
    /// The entry's place in the configuration, from 0.
    pub index: u32,
    /// The commands that its sessions refuse: bits of [`crate::ftp::policy::bit`].
    pub deny: u64,
    /// How many sessions a client may have at once, with all servers together; 0: no bound.
    pub client_sessions: u32,
    /// How many data connections a client may have at once, with all servers together; 0: no bound.
    pub client_connections: u32,
}

impl Publish {
    /// Whether an entry without a port has this one in its passive ranges: see [`publish_flag::RANGE`].
    #[inline(always)]
    pub const fn has_in_range(&self, port: u16) -> bool {
        self.flags & publish_flag::RANGE != 0
            && self.passive_first <= port
            && port <= self.passive_last
    }

    /// Where the control connection goes of a client that dials `public`.
    #[inline(always)]
    pub fn server_for(&self, public: &Endpoint) -> Endpoint {
        if self.server.port.0 == 0 {
            *public
        } else {
            self.server
        }
    }

    /// The address that replies to a client announce which dials `public`.
    #[inline(always)]
    pub fn advertise_for(&self, public: &Endpoint) -> Addr {
        if self.server.port.0 == 0 {
            public.addr
        } else {
            self.advertise
        }
    }
}

const _: () = assert!(size_of::<RoutedKey>() * 8 == RoutedKey::ALL as usize);
