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

impl Interface {
    /// The longest IP packet that fits: none has more than 65,535 bytes (RFC 791; RFC 2675's larger ones
    /// are no TCP of the internet).
    #[inline(always)]
    pub const fn longest(&self) -> u16 {
        if self.mtu > u16::MAX as u32 {
            u16::MAX
        } else {
            self.mtu as u16
        }
    }
}
