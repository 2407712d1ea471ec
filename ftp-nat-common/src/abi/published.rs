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

/// Bits of [`Publish::flags`].
pub mod publish_flag {
    /// The kernel's own NAT translates the control connection.
    pub const KERNEL_NAT: u16 = 1;
    /// The server runs on this machine: rewrite only.
    pub const LOCAL: u16 = 2;
    /// Anybody may use a pinhole (`peer = "any"`), not just the client that it was announced to.
    pub const ANY_PEER: u16 = 4;
}

/// A published server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Publish {
    /// Where its control connections go.
    pub server: Endpoint,
    /// The address that replies announce.
    pub advertise: Addr,
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
}
