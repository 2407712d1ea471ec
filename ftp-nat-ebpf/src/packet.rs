//! Reading a packet's headers.
//!
//! Straight from the packet where its linear part holds them, which is nearly always; packets of
//! some drivers have to be pulled first. Nothing here is trusted: lengths that lie, options,
//! fragments and extension headers end in a [`Reading`] that lets the packet pass.

use crate::kernel::Skb;
use bytemuck::{Pod, Zeroable};
use ftp_nat_common::abi::{FlowKey4, FlowKey6};
use ftp_nat_common::wire::addr::{Addr, PortPair};

/// Where the IP header starts: behind Ethernet.
pub const IP: u32 = 14;
/// Longest headers of TCP over IPv4, with all options.
const MOST: u32 = 14 + 60 + 60;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// ICMP's protocol number.
const ICMP: u8 = 1;
/// ICMPv6's protocol number.
const ICMP6: u8 = 58;

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
    /// Its tuple.
    pub key: N,
    /// Its ports.
    pub ports: PortPair,
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
pub struct Ipv4 {
    /// Version, and the header's length in words.
    pub version_length: u8,
    service: u8,
    /// Length of the packet.
    pub total: u16,
    id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
}

/// An IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv6 {
    version_class_label: u32,
    /// Length of what it carries.
    pub len: u16,
    /// What it carries.
    pub next: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u32; 4],
    /// Destination address.
    pub dst: [u32; 4],
}

/// The start of a TCP header (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: PortPair,
    seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    offset: u8,
    /// Flags.
    pub flags: u8,
    window: u16,
    /// Checksum.
    pub checksum: u16,
    urgent: u16,
}

/// What the first look at a packet came to. All of it is always set: on a way on which it is not,
/// the verifier sees a register that nobody wrote.
#[derive(Clone, Copy)]
pub struct Reach {
    /// What it carries.
    pub carries: Carries,
    /// Where that one's header starts.
    pub at: u32,
    /// TCP's ports.
    pub ports: PortPair,
    /// TCP's flags.
    pub flags: u8,
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Carries {
    /// Neither of those below, or cut short.
    Other = 0,
    /// TCP.
    Tcp = 1,
    /// ICMP or ICMPv6.
    Icmp = 2,
}

impl Reach {
    #[inline(always)]
    fn new(carries: Carries, at: u32) -> Self {
        Self {
            carries,
            at,
            ports: PortPair::default(),
            flags: 0,
        }
    }
}

/// The first look at an IPv4 packet, as cheap as can be.
#[inline(always)]
pub fn reach4(skb: &Skb) -> Reach {
    // Some drivers leave all but the first bytes outside: then one is fetched before all are.
    if !skb.has(IP as usize + size_of::<Ipv4>()) {
        match skb.load::<u8>(IP + 9) {
            Some(TCP | ICMP) if skb.pull(MOST.min(skb.len())) => {}
            _ => return Reach::new(Carries::Other, 0),
        }
    }
    let Some(ip) = skb.view::<Ipv4>(IP as usize) else {
        return Reach::new(Carries::Other, 0);
    };
    let at = IP + (ip.version_length & 0x0f) as u32 * 4;
    match ip.protocol {
        TCP => tcp_at(skb, at),
        ICMP => Reach::new(Carries::Icmp, at),
        _ => Reach::new(Carries::Other, 0),
    }
}

/// The first look at an IPv6 packet. Extension headers are not followed: such packets pass.
#[inline(always)]
pub fn reach6(skb: &Skb) -> Reach {
    if !skb.has(IP as usize + size_of::<Ipv6>()) {
        match skb.load::<u8>(IP + 6) {
            Some(TCP | ICMP6) if skb.pull(MOST.min(skb.len())) => {}
            _ => return Reach::new(Carries::Other, 0),
        }
    }
    let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
        return Reach::new(Carries::Other, 0);
    };
    let at = IP + size_of::<Ipv6>() as u32;
    match ip.next {
        TCP => tcp_at(skb, at),
        ICMP6 => Reach::new(Carries::Icmp, at),
        _ => Reach::new(Carries::Other, 0),
    }
}

/// TCP at `at`, pulled into the linear part if need be.
#[inline(always)]
fn tcp_at(skb: &Skb, at: u32) -> Reach {
    let mut reach = Reach::new(Carries::Tcp, at);
    if !skb.has(at as usize + size_of::<Tcp>()) {
        if !skb.pull(MOST.min(skb.len())) {
            return Reach::new(Carries::Other, 0);
        }
        // Cut short, perhaps: but whose it is shows in its ports.
        match skb.load::<u32>(at) {
            Some(ports) => reach.ports = PortPair(ports),
            None => return Reach::new(Carries::Other, 0),
        }
    }
    if let Some(tcp) = skb.view::<Tcp>(at as usize) {
        reach.ports = tcp.ports;
        reach.flags = tcp.flags;
    }
    reach
}

/// The whole headers of a packet that [`reach4`] takes for TCP.
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
        ports: PortPair::default(),
    };
    let mut reading = read_tcp(skb, key, u16::from_be(ip.total) as u32, IP + header, ip.ttl);
    if let Reading::Tcp(packet) = &mut reading {
        packet.key.ports = packet.ports;
    }
    reading
}

/// The whole headers of a packet that [`reach6`] takes for TCP.
#[inline(always)]
pub fn read6(skb: &Skb) -> Reading<FlowKey6> {
    let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
        return Reading::Truncated;
    };
    let key = FlowKey6 {
        src: Addr(ip.src),
        dst: Addr(ip.dst),
        ports: PortPair::default(),
    };
    let len = u16::from_be(ip.len) as u32;
    let total = if len == 0 { 0 } else { len + 40 };
    let mut reading = read_tcp(skb, key, total, IP + 40, ip.hop_limit);
    if let Reading::Tcp(packet) = &mut reading {
        packet.key.ports = packet.ports;
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
        ports: tcp.ports,
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
