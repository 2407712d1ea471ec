//! INTERFACES: where the datapath is attached.

use bytemuck::{Pod, Zeroable};

/// Bits of [`Interface::flags`].
pub mod interface_flag {
    /// Outside.
    pub const WAN: u32 = 1;
    /// Inside, with the datapath attached: flows may be redirected through it.
    pub const LAN: u32 = 2;
    /// Packets have an Ethernet header.
    pub const ETHERNET: u32 = 4;
    /// XDP runs in its driver, which so can send XDP's frames.
    pub const XDP: u32 = 8;
    /// Inside, but only for connections that are redirected through it already: a new one goes by
    /// the stack.
    pub const LEAVING: u32 = 16;
}

/// An interface that the datapath is attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// [`interface_flag`].
    pub flags: u32,
    /// Its MTU, in bytes.
    pub mtu: u32,
}
