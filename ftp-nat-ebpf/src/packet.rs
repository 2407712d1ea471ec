//! Reading a packet's headers.
//!
//! Straight from the packet where its linear part holds them, which is nearly always; packets of
//! some drivers have to be pulled first. Nothing here is trusted: lengths that lie, options,
//! fragments and extension headers end in a [`Reading`] that lets the packet pass.

use crate::kernel::Skb;
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
    /// Not TCP.
    Foreign,
    /// Headers cut short or with lengths that lie.
    Truncated,
    /// An IP fragment.
    Fragment,
    /// TCP.
    Tcp(Packet<N>),
}

/// The two ports, as cheaply as can be: the first look at every TCP packet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ports {
    /// Source.
    pub source: Port,
    /// Destination.
    pub destination: Port,
}

/// The first look at an IPv4 packet: the ports if it is TCP, and where its TCP header starts.
#[inline(always)]
pub fn ports4(skb: &Skb) -> Option<(Ports, u32)> {
    if !skb.has(LEAST_V4) {
        // UDP and others may be shorter than that, and so tell that they are not ours.
        let protocol: u8 = match skb.read(IP as usize + 9) {
            Some(protocol) => protocol,
            None => skb.load(IP + 9)?,
        };
        if protocol != TCP || !skb.pull(MOST.min(skb.len())) || !skb.has(LEAST_V4) {
            return None;
        }
    }
    if skb.read::<u8>(IP as usize + 9)? != TCP {
        return None;
    }
    let header = (skb.read::<u8>(IP as usize)? & 0x0f) as usize * 4;
    let tcp = IP as usize + header;
    let ports = skb.read::<Ports>(tcp)?;
    Some((ports, tcp as u32))
}

/// The first look at an IPv6 packet. Extension headers are not followed: such packets pass.
#[inline(always)]
pub fn ports6(skb: &Skb) -> Option<(Ports, u32)> {
    if !skb.has(LEAST_V6) {
        let protocol: u8 = match skb.read(IP as usize + 6) {
            Some(protocol) => protocol,
            None => skb.load(IP + 6)?,
        };
        if protocol != TCP || !skb.pull(MOST.min(skb.len())) || !skb.has(LEAST_V6) {
            return None;
        }
    }
    if skb.read::<u8>(IP as usize + 6)? != TCP {
        return None;
    }
    let tcp = IP as usize + 40;
    let ports = skb.read::<Ports>(tcp)?;
    Some((ports, tcp as u32))
}

/// The whole headers of a TCP packet over IPv4 whose ports are known.
#[inline(always)]
pub fn read4(skb: &Skb, ports: Ports, tcp: u32) -> Reading<FlowKey4> {
    let Some(ip) = skb.read::<[u8; 20]>(IP as usize) else {
        return Reading::Truncated;
    };
    let header = tcp - IP;
    if ip[0] >> 4 != 4 || header < 20 {
        return Reading::Truncated;
    }
    // More fragments, or not the first one.
    if (ip[6] & 0x3f) | ip[7] != 0 {
        return Reading::Fragment;
    }
    let key = FlowKey4 {
        src: u32::from_ne_bytes([ip[12], ip[13], ip[14], ip[15]]),
        dst: u32::from_ne_bytes([ip[16], ip[17], ip[18], ip[19]]),
        sport: ports.source,
        dport: ports.destination,
        side: 0,
    };
    let total = u16::from_be_bytes([ip[2], ip[3]]) as u32;
    read_tcp(skb, key, total, tcp, ip[8])
}

/// The whole headers of a TCP packet over IPv6 whose ports are known.
#[inline(always)]
pub fn read6(skb: &Skb, ports: Ports, tcp: u32) -> Reading<FlowKey6> {
    let (Some(start), Some(src), Some(dst)) = (
        skb.read::<[u8; 8]>(IP as usize),
        skb.read::<[u32; 4]>(IP as usize + 8),
        skb.read::<[u32; 4]>(IP as usize + 24),
    ) else {
        return Reading::Truncated;
    };
    let key = FlowKey6 {
        src: Addr(src),
        dst: Addr(dst),
        sport: ports.source,
        dport: ports.destination,
        side: 0,
    };
    let len = u16::from_be_bytes([start[4], start[5]]) as u32;
    let total = if len == 0 { 0 } else { len + 40 };
    read_tcp(skb, key, total, tcp, start[7])
}

#[inline(always)]
fn read_tcp<N>(skb: &Skb, key: N, total: u32, at: u32, ttl: u8) -> Reading<N> {
    let Some(header) = skb.read::<[u8; 16]>(at as usize) else {
        return Reading::Truncated;
    };
    let there = skb.len().wrapping_sub(IP);
    // Super-packets beyond 64 KB say 0 (Linux 6.3 for IPv4).
    let total = if total == 0 && skb.gso_size() != 0 { there } else { total };
    let payload = at + (header[12] >> 4) as u32 * 4;
    if total > there || header[12] >> 4 < 5 || payload > total + IP {
        return Reading::Truncated;
    }
    Reading::Tcp(Packet {
        key,
        tcp: at,
        payload,
        len: total + IP - payload,
        total,
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: header[13],
        ttl,
    })
}
