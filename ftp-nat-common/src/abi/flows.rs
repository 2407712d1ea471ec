//! FLOWS4 and FLOWS6: one entry for each direction of a connection.

use crate::wire::addr::{Addr, Endpoint, PortPair};
use crate::wire::checksum::{difference, of_addr};
use bytemuck::{Pod, Zeroable};

/// Which side of the gateway a packet comes from.
pub mod side {
    /// From the WAN, inwards.
    pub const INBOUND: u32 = 0;
    /// From the inside: to the WAN, mostly.
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
    /// The direction from the inside end to the one outside.
    pub const OUTBOUND: u8 = 8;
    /// Both ends are behind the gateway: the packets of both directions come from the inside.
    pub const HAIRPIN: u8 = 16;
    /// The stack cannot forward its packets, as they leave with an address of this machine's own:
    /// what cannot be redirected is dropped.
    pub const NO_STACK: u8 = 32;
    /// Another gateway has let the connection in and has told of it.
    pub const LEARNED: u8 = 0x40;
    /// An operator has ended the connection: its packets are noted and dropped. Set by commands, never
    /// together with [`XDP`].
    pub const CUT: u8 = 0x80;
}

/// The way back to where a connection's packets come from. Answers leave by it, whatever the routing
/// tables say: with several uplinks, those know only where packets of a new connection would go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ReturnPath {
    /// The interface that the packets come in by; 0: not known.
    pub ifindex: u32,
    /// The Ethernet header's addresses of an answer, destination first, as they lie in the packet:
    /// those of a packet that came, exchanged. Meaningless where packets have no Ethernet header.
    pub macs: [u16; 6],
}

/// One direction of one connection, with all that its packets need.
///
/// A translated packet gets both of its ends written, the one that changes and the one that may not:
/// so either or both can be translated, and no packet pays for the choice.
///
/// Two cache lines, and with what the kernel keeps in front of it and an IPv4 key three of 64 bytes,
/// aligned: the first half is read for each packet, the second one written.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// What the packet's source address becomes.
    pub src: Addr,
    /// What its destination address becomes.
    pub dst: Addr,
    /// What its ports become.
    pub ports: PortPair,
    /// Ones' complement difference of both addresses together, folded to 16 bits: for the IPv4
    /// header and for TCP's pseudo header.
    pub addr_diff: u16,
    /// The same of the ports: for the TCP header.
    pub port_diff: u16,
    /// Where the packet leaves by redirect; 0: the stack forwards it.
    pub out_ifindex: u32,
    /// When [`Flow::macs`] must be looked up again: the low half of jiffies.
    pub fresh_until: u32,
    /// The Ethernet header's addresses there, destination first, as they lie in the packet.
    pub macs: [u16; 6],
    /// [`super::Settings::route_epoch`] when they were looked up; 0: never.
    pub route_epoch: u16,
    /// The largest IP packet that fits there, in bytes; 65,535 for whatever is larger.
    pub out_mtu: u16,
    /// [`kind`].
    pub kind: u8,
    /// [`flow_flag`].
    pub flags: u8,
    /// All TCP flags seen so far; FIN and RST only where their number can be right.
    pub tcp_flags: u8,
    /// Of the direction that leaves by a [`Flow::return_path`]: how many times in a row its next hop
    /// was looked up without a packet of the other direction in between; saturates.
    pub unanswered: u8,
    /// When its last packet came: the low half of jiffies, see [`Flow::seen_at`].
    pub last_seen: u32,
    /// The control connection it belongs to.
    pub session: u32,
    /// The acknowledgement number of its last packet: what the other direction's next one starts
    /// with, about.
    pub acked: u32,
    /// When it was created, in jiffies.
    pub born: u64,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, from the IP header on.
    pub bytes: u64,
    /// Of packets that come from outside: the way back; written by packets that TCP believes. Of
    /// packets that leave, and only where the stack forwards them: by which way they leave instead
    /// of that which the stack has chosen; interface 0: the stack's.
    pub return_path: ReturnPath,
    /// The number of the first byte that its sender sends behind the SYN; of data connections only, once
    /// that was seen.
    pub start: u32,
    /// The number behind its sender's last byte; of data connections only, once [`Flow::tcp_flags`] has
    /// FIN.
    pub end: u32,
}

impl Flow {
    /// When its last packet came, in jiffies, as `now` is: right for what is not longer ago than 32
    /// bits can count, 49 days of 1,000 ticks a second. Another CPU's clock may be a little ahead of `now`.
    #[inline(always)]
    pub const fn seen_at(&self, now: u64) -> u64 {
        const AHEAD: u32 = 1 << 20;
        let ahead = self.last_seen.wrapping_sub(now as u32);
        if ahead <= AHEAD {
            now.wrapping_add(ahead as u64)
        } else {
            now.wrapping_sub(ahead.wrapping_neg() as u64)
        }
    }

    /// Which side its packets come from: [`side`]. Packets of the same tuple that come by the other
    /// side are not of this flow.
    #[inline(always)]
    pub const fn side(&self) -> u32 {
        if self.flags & (flow_flag::OUTBOUND | flow_flag::HAIRPIN) == 0 {
            side::INBOUND
        } else {
            side::OUTBOUND
        }
    }

    /// Whether its packets go from the inside end to the one outside.
    #[inline(always)]
    pub const fn is_outbound(&self) -> bool {
        self.flags & flow_flag::OUTBOUND != 0
    }

    /// What the packet's source becomes. Where nobody translates it ([`flow_flag::NO_NAT`]): what is
    /// known of that end.
    #[inline(always)]
    pub fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.ports.source())
    }

    /// What its destination becomes; the same holds.
    #[inline(always)]
    pub fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.ports.destination())
    }

    /// Sets what the ends become of a packet from `source` to `destination`, and the differences.
    #[inline(always)]
    pub fn translate(&mut self, from: [&Endpoint; 2], to: [&Endpoint; 2]) {
        let [source, destination] = to;
        self.src = source.addr;
        self.dst = destination.addr;
        self.ports = PortPair::new(source.port, destination.port);
        // An IPv4 address lies in the last word, behind words that all such addresses share.
        let addrs = |[one, other]: [&Endpoint; 2]| {
            of_addr(&one.addr.0, false).wrapping_add(of_addr(&other.addr.0, false))
        };
        let ports = |[one, other]: [&Endpoint; 2]| {
            u64::from(one.port.0).wrapping_add(u64::from(other.port.0))
        };
        self.addr_diff = difference(addrs(from), addrs(to));
        self.port_diff = difference(ports(from), ports(to));
    }
}

const _: () = assert!(size_of::<FlowKey4>() == 12);
const _: () = assert!(size_of::<FlowKey6>() == 36);
const _: () = assert!(size_of::<Flow>() == 128);

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

    /// The key of the same connection's other direction, from the flow of this one.
    #[inline(always)]
    fn other_way(&self, flow: &Flow) -> Self {
        if flow.flags & flow_flag::NO_NAT == 0 {
            Self::new(&flow.destination(), &flow.source())
        } else {
            Self::new(&self.destination(), &self.source())
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_knows_when_it_was_seen_last_by_the_low_half_of_that_time() {
        for (at, now) in [
            (4_000_000_000, 4_000_000_000),
            // The low half has turned over meanwhile.
            (4_294_967_290_u64, 4_294_967_300_u64),
            (8_589_934_591, 8_589_934_592),
            // 48 days of 1,000 ticks a second.
            (5_000_000_000, 9_147_200_000),
            // By the clock of another CPU.
            (5_000_000_003, 5_000_000_000),
            (4_294_967_296, 4_294_967_295),
        ] {
            let flow = Flow {
                last_seen: at as u32,
                ..Flow::default()
            };
            assert_eq!(flow.seen_at(now), at, "{at} at {now}");
        }
    }
}
