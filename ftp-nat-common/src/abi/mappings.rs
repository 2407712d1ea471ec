//! MAPPINGS: announced data connections that have not come yet.

use crate::wire::addr::{Addr, Endpoint, Port};
use bytemuck::{Pod, Zeroable};

/// The pinhole's key: the first SYN of the announced connection, all but its source port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct MappingKey {
    /// The SYN's source address: the peer that the connection was announced to.
    pub src: Addr,
    /// The SYN's destination address.
    pub dst: Addr,
    /// The SYN's destination port.
    pub dport: Port,
    /// Zero.
    pub pad: u16,
    /// [`side`](super::side), and [`REVERSED`].
    pub side: u32,
}

/// Beside the side in [`MappingKey::side`]: the packet comes from the end that does not open the
/// connection, and [`MappingKey::dport`] is its source port. Only connections that were learned from
/// another gateway have such entries: any packet of either end may be the first one here.
pub const REVERSED: u32 = 2;

/// Bits of [`Mapping::flags`].
pub mod mapping_flag {
    /// It was learned from another gateway, where its SYN may have passed: any packet uses it.
    pub const LEARNED: u8 = 1;
}

/// An announced data connection that has not come yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// Inbound: where the connection goes. Outbound: what its source becomes (the port is kept if
    /// it is free).
    pub to: Endpoint,
    /// What the other end becomes, where it does not stay as it is; without an address: it does.
    /// Inbound: the source (no port: it is kept if it is free). Outbound: the destination.
    pub other: Endpoint,
    /// The control connection that announced it.
    pub session: u32,
    /// [`kind`](super::kind).
    pub kind: u8,
    /// [`cause`].
    pub cause: u8,
    /// [`mapping_flag`].
    pub flags: u8,
    /// [`flow_flag`](super::flow_flag) of both flows.
    pub flow_flags: u8,
    /// How many data connections its client may have at once; 0: no bound.
    pub most_connections: u32,
    /// Zero.
    pub pad: u32,
    /// The key of its client's share: [`share_of`](super::share_of).
    pub client: Addr,
    /// When it was opened, in jiffies.
    pub born: u64,
    /// When it ends, in jiffies.
    pub expires: u64,
}

impl Mapping {
    /// Whether the connection goes inwards, to the inside end: the server's own goes outwards.
    #[inline(always)]
    pub const fn is_inward(&self, key: &MappingKey) -> bool {
        self.kind == super::flows::kind::PASSIVE || key.side == super::flows::side::INBOUND
    }
}

/// The words that announced a data connection.
pub mod cause {
    /// A reply to PASV: 227.
    pub const PASV: u8 = 1;
    /// A reply to EPSV: 229.
    pub const EPSV: u8 = 2;
    /// A PORT command.
    pub const PORT: u8 = 3;
    /// An EPRT command.
    pub const EPRT: u8 = 4;
    /// A transfer without any of these before: the default data port (RFC 959 section 3.3).
    pub const DEFAULT: u8 = 5;
    /// None that could be read: an answer inside TLS, to a client that may connect to the server's
    /// passive range.
    pub const TLS: u8 = 6;
    /// None that is known here: another gateway, whose sessions this one has taken over, had let the
    /// connection in.
    pub const TAKEOVER: u8 = 7;
}

const _: () = assert!(size_of::<MappingKey>() == 40);
const _: () = assert!(size_of::<Mapping>() == 88);
