//! TLS_CLIENTS and PERMITS: who may connect to the passive range of a server whose replies are encrypted.
//!
//! Both follow from SESSIONS alone, and what is missing of them costs a client one refused data
//! connection at most: it is made anew with the server's next answer.

use crate::wire::addr::Addr;
use bytemuck::{Pod, Zeroable};

/// How many sessions of a client are remembered at a public address, a power of two.
pub const TLS_SESSIONS: usize = 16;

/// A client at a public address, as the first SYN of its data connection names them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct TlsClientKey {
    /// The client's address.
    pub client: Addr,
    /// The public address.
    pub public: Addr,
}

/// Its sessions that speak TLS with a server that has a passive range. Some may have ended: whoever
/// reads a number looks at the session itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TlsClient {
    /// The sessions' numbers; 0: none. With more, the one that was entered first gives way.
    pub sessions: [u32; TLS_SESSIONS],
    /// How many were entered so far. Two that are entered at the same moment by two CPUs may get one
    /// place: the other one is entered with its next permit.
    pub entered: u32,
    /// Zero.
    pub pad: u32,
}

/// The PERMITS map's value, by the number of a session: its client may make one data connection to the
/// passive range. Whoever removes it uses it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Permit {
    /// When the server's last answer came, in jiffies.
    pub granted: u64,
}
