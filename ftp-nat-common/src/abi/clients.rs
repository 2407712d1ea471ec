//! CLIENTS: whose connection the WAN hook sees behind the kernel's own NAT.

use crate::wire::addr::Endpoint;
use bytemuck::{Pod, Zeroable};

/// A client's first SYN to an outside server, by what the kernel's own NAT leaves as it is: so the
/// WAN's hook knows whose connection it sees.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ClientKey {
    /// The server's control address.
    pub server: Endpoint,
    /// The SYN's sequence number.
    pub isn: u32,
}
