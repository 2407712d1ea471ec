//! Reading a packet's headers.
//!
//! Straight from the packet where its linear part holds them, which is nearly always; packets of
//! some drivers have to be pulled first. Nothing here is trusted: lengths that lie, options,
//! fragments and extension headers end in a [`Reading`] that lets the packet pass.

use crate::kernel::Skb;
use bytemuck::{Pod, Zeroable};
use ftp_nat_common::abi::{FlowKey4, FlowKey6};
use ftp_nat_common::addr::{Addr, Port};

/// Where the IP header starts: behind Ethernet.
pub const IP: u32 = 14;
/// Least length of the headers of TCP over IPv4.
const LEAST_V4: usize = 14 + 20 + 20;
/// Least length of the headers of TCP over IPv6.
const LEAST_V6: usize = 14 + 40 + 20;
/// Longest headers of TCP over IPv4, with all options.
const MOST: u32 = 14 + 60 + 60;
/// TCP's protocol number.
const TCP: u8 = 6;

/// Offsets in the TCP header (RFC 9293 section 3.1).
pub mod tcp {
    /// Sequence number.
    pub const SEQ: u32 = 4;
    /// Acknowledgement number.
    pub const ACK: u32 = 8;
    /// Data offset and flags, a 16-bit word.
    pub const OFFSET_FLAGS: u32 = 12;
    /// Checksum.
    pub const CHECKSUM: u32 = 16;
    /// Options.
    pub const OPTIONS: u32 = 20;
    /// No more data.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// The acknowledgement number counts.
    pub const ACK_FLAG: u8 = 16;
}

/// A TCP packet's headers.
#[derive(Clone, Copy)]
pub struct Packet<N> {
    /// Its tuple, with the side still to be set.
    pub key: N,
    /// Its ports.
    pub ports: Ports,
    /// Where the TCP header starts.
    pub tcp: u32,
    /// Where the payload starts.
    pub payload: u32,
    /// Length of the payload.
    pub len: u32,
    /// Length of the IP packet.
    pub total: u32,
    /// Sequence number, in the machine's order.
    pub seq: u32,
    /// Acknowledgement number, in the machine's order.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// What reading the headers came to.
pub enum Reading<N> {
    /// Headers cut short or with lengths that lie.
    Truncated,
    /// An IP fragment.
    Fragment,
    /// TCP.
    Tcp(Packet<N>),
}

/// An IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Ipv4 {
    version_length: u8,
    service: u8,
    total: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    src: u32,
    dst: u32,
}

/// An IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Ipv6 {
    version_class_label: u32,
    len: u16,
    next: u8,
    hop_limit: u8,
    src: [u32; 4],
    dst: [u32; 4],
}

/// The start of a TCP header (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Tcp {
    ports: u32,
    seq: u32,
    ack: u32,
    offset: u8,
    flags: u8,
    window: u16,
}

/// The two ports of a packet, as they lie in it.
#[derive(Clone, Copy)]
pub struct Ports(u32);

impl Ports {
    /// Source.
    #[inline(always)]
    pub fn source(self) -> Port {
        let [high, low, ..] = self.0.to_ne_bytes();
        Port(u16::from_ne_bytes([high, low]))
    }

    /// Destination.
    #[inline(always)]
    pub fn destination(self) -> Port {
        let [.., high, low] = self.0.to_ne_bytes();
        Port(u16::from_ne_bytes([high, low]))
    }
}

/// The first look at an IPv4 packet: the ports if it is TCP, as cheaply as can be.
#[inline(always)]
pub fn ports4(skb: &Skb) -> Option<Ports> {
    if !skb.has(LEAST_V4) {
        // UDP and others may be shorter than that, and so tell that they are not ours.
        let protocol = skb.load::<u8>(IP + 9)?;
        if protocol != TCP || !skb.pull(MOST.min(skb.len())) {
            return None;
        }
    }
    let ip = skb.view::<Ipv4>(IP as usize)?;
    if ip.protocol != TCP {
        return None;
    }
    let tcp = IP as usize + (ip.version_length & 0x0f) as usize * 4;
    skb.view::<u32>(tcp).map(|ports| Ports(*ports))
}

/// The first look at an IPv6 packet. Extension headers are not followed: such packets pass.
#[inline(always)]
pub fn ports6(skb: &Skb) -> Option<Ports> {
    if !skb.has(LEAST_V6) {
        let protocol = skb.load::<u8>(IP + 6)?;
        if protocol != TCP || !skb.pull(MOST.min(skb.len())) {
            return None;
        }
    }
    let ip = skb.view::<Ipv6>(IP as usize)?;
    if ip.next != TCP {
        return None;
    }
    skb.view::<u32>(IP as usize + 40).map(|ports| Ports(*ports))
}

/// The whole headers of a packet that [`ports4`] knows.
#[inline(always)]
pub fn read4(skb: &Skb) -> Reading<FlowKey4> {
    let Some(ip) = skb.view::<Ipv4>(IP as usize) else {
        return Reading::Truncated;
    };
    let header = (ip.version_length & 0x0f) as u32 * 4;
    if ip.version_length >> 4 != 4 || header < 20 {
        return Reading::Truncated;
    }
    // More fragments, or not the first one.
    if ip.fragment & 0x3fff_u16.to_be() != 0 {
        return Reading::Fragment;
    }
    let key = FlowKey4 {
        src: ip.src,
        dst: ip.dst,
        sport: Port(0),
        dport: Port(0),
        side: 0,
    };
    let mut reading = read_tcp(skb, key, u16::from_be(ip.total) as u32, IP + header, ip.ttl);
    if let Reading::Tcp(packet) = &mut reading {
        packet.key.sport = packet.ports.source();
        packet.key.dport = packet.ports.destination();
    }
    reading
}

/// The whole headers of a packet that [`ports6`] knows.
#[inline(always)]
pub fn read6(skb: &Skb) -> Reading<FlowKey6> {
    let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
        return Reading::Truncated;
    };
    let key = FlowKey6 {
        src: Addr(ip.src),
        dst: Addr(ip.dst),
        sport: Port(0),
        dport: Port(0),
        side: 0,
    };
    let len = u16::from_be(ip.len) as u32;
    let total = if len == 0 { 0 } else { len + 40 };
    let mut reading = read_tcp(skb, key, total, IP + 40, ip.hop_limit);
    if let Reading::Tcp(packet) = &mut reading {
        packet.key.sport = packet.ports.source();
        packet.key.dport = packet.ports.destination();
    }
    reading
}

#[inline(always)]
fn read_tcp<N>(skb: &Skb, key: N, total: u32, at: u32, ttl: u8) -> Reading<N> {
    let Some(tcp) = skb.view::<Tcp>(at as usize) else {
        return Reading::Truncated;
    };
    let there = skb.len().wrapping_sub(IP);
    // Super-packets beyond 64 KB say 0 (Linux 6.3 for IPv4).
    let total = if total == 0 && skb.gso_size() != 0 {
        there
    } else {
        total
    };
    let header = (tcp.offset >> 4) as u32 * 4;
    let payload = at + header;
    if total > there || header < 20 || payload > total + IP {
        return Reading::Truncated;
    }
    Reading::Tcp(Packet {
        key,
        ports: Ports(tcp.ports),
        tcp: at,
        payload,
        len: total + IP - payload,
        total,
        seq: u32::from_be(tcp.seq),
        ack: u32::from_be(tcp.ack),
        flags: tcp.flags,
        ttl,
    })
}
