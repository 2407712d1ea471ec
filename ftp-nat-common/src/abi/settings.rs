//! SETTINGS: what the daemon sets for the datapath.

use bytemuck::{Pod, Zeroable};

/// Values of [`Settings::mss_clamp`]; others are a size in bytes.
pub mod mss {
    /// What fits the two interfaces that a connection goes through.
    pub const AUTO: u16 = 0;
    /// Whatever the ends say.
    pub const OFF: u16 = 1;
}

/// Bits of [`Settings::cluster`].
pub mod cluster {
    /// Other gateways share their sessions with this one: events are told at once, and packets of
    /// connections that were learned may be any.
    pub const SHARED: u16 = 1;
    /// Another gateway listens now: what changes a length waits until it was told.
    pub const LISTENED: u16 = 2;
    /// Events of a jiffy, on each CPU, that wake the daemon at once; while more come, it looks every millisecond.
    pub const PROMPT: u64 = 32;
}

/// Bits of [`Settings::flags`].
pub mod setting {
    /// Each SYN to a published server goes through the stack, so that the firewall's rules see it;
    /// what comes after it goes as the datapath says.
    pub const SYN_BY_STACK: u16 = 1;
    /// Commands and their replies are told ([`crate::abi::Said`]).
    pub const TELLS_COMMANDS: u16 = 2;
    /// There is no network in LISTS: nobody needs to be looked up there.
    pub const NO_LISTS: u16 = 4;
    /// New connections have no return path: what leaves for the outside goes as the routing tables say.
    pub const BY_ROUTES: u16 = 8;
}

/// How long a handshake that is not finished counts, in seconds: the repetitions of a SYN that an
/// end far away answers come within it.
pub const HALF_OPEN_SECONDS: u64 = 10;

/// What the daemon tells the datapath.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// Jiffies a second.
    pub hz: u32,
    /// The mark of translated packets that the stack forwards, for a firewall's rule.
    pub mark: u32,
    /// Another one whenever routes or MTUs have changed, never 0: flows look theirs up again.
    pub route_epoch: u16,
    /// Zero.
    pub pad: u16,
    /// Lowest port for a remap.
    pub remap_first: u16,
    /// Highest port for a remap.
    pub remap_last: u16,
    /// The largest TCP segment that redirected connections may agree on: [`mss`].
    pub mss_clamp: u16,
    /// [`cluster`].
    pub cluster: u16,
    /// The number of this gateway in its cluster, 1 to 63; 0: it is in none.
    pub node: u16,
    /// [`setting`].
    pub flags: u16,
    /// How long an unused mapping lives, in jiffies.
    pub mapping_timeout: u64,
    /// How long an unfinished line is held, in jiffies.
    pub hold_timeout: u64,
    /// Until when not all may be known here that another gateway of the cluster knew, in jiffies; 0: all
    /// is. Until then packets of no known connection to a published address are dropped and not refused,
    /// so that their senders try again. See also [`super::publish_flag::AWAY`].
    pub learning_until: u64,
    /// The version of ftp-nat that loaded the programs: ASCII, zeros behind it. For people.
    pub version: [u8; 16],
    /// [`super::Publish::client_sessions`] of masqueraded clients.
    pub client_sessions: u32,
    /// [`super::Publish::client_connections`] of masqueraded clients.
    pub client_connections: u32,
    /// The interval between a client's announcements ([`crate::bucket`]), its allowance being that
    /// of a second; 0: no bound.
    pub client_interval: u64,
    /// The same of a session.
    pub session_interval: u64,
    /// The interval between a client's unfinished handshakes, its allowance being that of
    /// [`HALF_OPEN_SECONDS`]; 0: no bound.
    pub half_open_interval: u64,
}
