//! INSIDE and CLIENTS: the clients behind this gateway, and whose connection the WAN hook sees behind
//! the kernel's own NAT.

use crate::wire::addr::Endpoint;
use bytemuck::{Pod, Zeroable};

/// [`InsideNetwork::translated`]: who translates the clients of a network. The datapath goes by what it
/// sees; `doctor` looks for the rule.
pub mod inside {
    /// The kernel's own NAT.
    pub const TRANSLATED: u32 = 1;
    /// Nobody: the outside knows their addresses (`translate = false`).
    pub const ROUTED: u32 = 2;
}

/// What tells whose a control connection is. There are two kinds of entries.
///
/// A client's first SYN, on its way from the inside interface's hook, which writes the entry, to the
/// WAN's, which takes it out: by what the kernel's own NAT leaves as it is. A second SYN of the same
/// key from another address makes the value none: then it tells nothing.
///
/// And the daemon's answer about a session whose client that has not told
/// ([`ClientKey::ifindex`] is 0): no packet can make such an entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ClientKey {
    /// The server's control address.
    pub server: Endpoint,
    /// The SYN's sequence number; of the daemon's entries, the session's number.
    pub number: u32,
    /// The interface that the SYN came in by; 0: the entry is the daemon's.
    pub ifindex: u32,
}

/// INSIDE: what holds for the masqueraded clients of a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct InsideNetwork {
    /// The commands that their sessions refuse: bits of [`crate::ftp::policy::bit`].
    pub deny: u64,
    /// Bits of [`session_flag`](super::session_flag) for their sessions.
    pub flags: u32,
    /// [`inside`].
    pub translated: u32,
}
