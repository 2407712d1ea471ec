//! FLOWS4 and FLOWS6: one entry for each direction of a connection.

use crate::wire::addr::{Addr, Endpoint, Port, PortPair};
use bytemuck::{Pod, Zeroable};

/// Which way a packet goes through the gateway.
pub mod side {
    /// From the WAN inwards: its destination is translated.
    pub const INBOUND: u32 = 0;
    /// From the inside to the WAN: its source is translated.
    pub const OUTBOUND: u32 = 1;
}

/// A flow's key for IPv4: the packet's own tuple, before translation.
///
/// Twelve bytes and no more: each word takes time to hash. Which side the packet must come by is in
/// the flow ([`Flow::side`]): no tuple is of both, for a client outside has not the public address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey4 {
    /// Source address, as it lies in the packet.
    pub src: u32,
    /// Destination address, as it lies in the packet.
    pub dst: u32,
    /// The ports.
    pub ports: PortPair,
}

/// A flow's key for IPv6: the packet's own tuple, before translation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey6 {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The ports.
    pub ports: PortPair,
}

/// What kind of connection a flow is.
pub mod kind {
    /// A control connection.
    pub const CONTROL: u8 = 1;
    /// A data connection that the client opened.
    pub const PASSIVE: u8 = 2;
    /// A data connection that the server opened.
    pub const ACTIVE: u8 = 3;
}

/// Bits of [`Flow::flags`].
pub mod flow_flag {
    /// Addresses stay as they are: the kernel's own NAT translates this connection, or nobody
    /// needs to.
    pub const NO_NAT: u8 = 1;
    /// The replies' direction of a control connection (else the commands').
    pub const REPLIES: u8 = 2;
    /// XDP may send its packets, straight out of [`super::Flow::out_ifindex`].
    pub const XDP: u8 = 4;
    /// The direction that leaves for the outside: see [`super::Flow::side`].
    pub const OUTBOUND: u8 = 8;
}

/// One direction of one connection, with all that its packets need.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// What the translated end becomes: the destination inbound, the source outbound.
    pub to: Addr,
    /// Its port.
    pub port: Port,
    /// [`kind`].
    pub kind: u8,
    /// [`flow_flag`].
    pub flags: u8,
    /// Ones' complement difference of the addresses, folded to 16 bits: for the IPv4 header and
    /// for TCP's pseudo header.
    pub addr_diff: u16,
    /// The same of the ports: for the TCP header.
    pub port_diff: u16,
    /// Where the packet leaves by redirect; 0: the stack forwards it.
    pub out_ifindex: u32,
    /// The largest IP packet that fits there, in bytes.
    pub out_mtu: u32,
    /// The Ethernet header's addresses there, destination first, as they lie in the packet.
    pub macs: [u16; 6],
    /// When [`Flow::macs`] must be looked up again: the low half of jiffies.
    pub fresh_until: u32,
    /// [`super::Settings::route_epoch`] when they were looked up; 0: never.
    pub route_epoch: u32,
    /// The control connection it belongs to.
    pub session: u32,
    /// The acknowledgement number of its last packet: what the other direction's next one starts
    /// with, about.
    pub acked: u32,
    /// All TCP flags seen so far; FIN and RST only where their number can be right.
    pub tcp_flags: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// When it was created, in jiffies.
    pub born: u64,
    /// When its last packet came, in jiffies.
    pub last_seen: u64,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, from the IP header on.
    pub bytes: u64,
}

impl Flow {
    /// Which way its packets go: [`side`]. Packets of the same tuple that come by the other side
    /// are not of this flow.
    #[inline(always)]
    pub const fn side(&self) -> u32 {
        if self.flags & flow_flag::OUTBOUND == 0 {
            side::INBOUND
        } else {
            side::OUTBOUND
        }
    }
}

const _: () = assert!(size_of::<FlowKey4>() == 12);
const _: () = assert!(size_of::<FlowKey6>() == 36);
const _: () = assert!(size_of::<Flow>() == 96);

/// A flow's key, of either family.
pub trait FlowKey: Copy {
    /// Whether this is IPv4's.
    const V4: bool;
    /// The key of a connection's packets from `src` to `dst`.
    fn new(src: &Endpoint, dst: &Endpoint) -> Self;
    /// Where its packets come from.
    fn source(&self) -> Endpoint;
    /// Where they go to.
    fn destination(&self) -> Endpoint;
}

impl FlowKey for FlowKey4 {
    const V4: bool = true;

    #[inline(always)]
    fn new(src: &Endpoint, dst: &Endpoint) -> Self {
        Self {
            src: src.addr.v4(),
            dst: dst.addr.v4(),
            ports: PortPair::new(src.port, dst.port),
        }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.src), self.ports.source())
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(Addr::from_v4(self.dst), self.ports.destination())
    }
}

impl FlowKey for FlowKey6 {
    const V4: bool = false;

    #[inline(always)]
    fn new(src: &Endpoint, dst: &Endpoint) -> Self {
        Self {
            src: src.addr,
            dst: dst.addr,
            ports: PortPair::new(src.port, dst.port),
        }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.ports.source())
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.ports.destination())
    }
}
