//! The whole headers of a TCP packet.

use super::headers::{IP, Ipv4, Ipv6, Tcp};
use crate::kernel::skb::Skb;
use ftp_nat_common::abi::{FlowKey, FlowKey4, FlowKey6};
use ftp_nat_common::wire::addr::PortPair;

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
    /// Window, as it stands in the header, in the machine's order.
    pub window: u16,
    /// TCP flags.
    pub flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// What reading the headers came to.
pub enum Reading<N> {
    /// Headers cut short or with lengths that lie.
    Truncated,
    /// An IP fragment; with its ports if it is the first one.
    Fragment(Option<PortPair>),
    /// An IPv6 packet from or to an IPv4-mapped address.
    Mapped,
    /// TCP.
    Tcp(Packet<N>),
}

/// The whole headers of a packet that `reach4` takes for TCP.
#[inline(always)]
fn read4(skb: &Skb) -> Reading<FlowKey4> {
    let Some(ip) = skb.view::<Ipv4>(IP as usize) else {
        return Reading::Truncated;
    };
    let header = ip.len();
    if ip.version() != 4 || header < size_of::<Ipv4>() as u32 {
        return Reading::Truncated;
    }
    if ip.is_fragment() {
        let has_ports = !ip.is_later_fragment();
        let ports = skb.load::<PortPair>(IP + header).filter(|_| has_ports);
        return Reading::Fragment(ports);
    }
    let key = FlowKey4 {
        src: ip.src(),
        dst: ip.dst(),
        ports: PortPair::default(),
    };
    let mut reading = read_tcp(skb, key, ip.total(), IP + header, ip.ttl());
    if let Reading::Tcp(packet) = &mut reading {
        packet.key.ports = packet.ports;
    }
    reading
}

/// The whole headers of a packet that `reach6` takes for TCP.
#[inline(always)]
fn read6(skb: &Skb) -> Reading<FlowKey6> {
    let Some(ip) = skb.view::<Ipv6>(IP as usize) else {
        return Reading::Truncated;
    };
    let key = FlowKey6 {
        src: ip.src(),
        dst: ip.dst(),
        ports: PortPair::default(),
    };
    // Here these bytes mean the IPv4 address; no packet may carry them (RFC 4291 section 2.5.5.2).
    if key.src.is_v4() || key.dst.is_v4() {
        return Reading::Mapped;
    }
    let header = size_of::<Ipv6>() as u32;
    let len = ip.payload_len();
    let total = if len == 0 { 0 } else { len + header };
    let mut reading = read_tcp(skb, key, total, IP + header, ip.hop_limit());
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
    let header = tcp.len();
    let payload = at + header;
    if total > there || header < size_of::<Tcp>() as u32 || payload > total + IP {
        return Reading::Truncated;
    }
    Reading::Tcp(Packet {
        key,
        ports: tcp.ports(),
        tcp: at,
        payload,
        len: total + IP - payload,
        total,
        seq: tcp.seq(),
        ack: tcp.ack(),
        window: tcp.window(),
        flags: tcp.flags(),
        ttl,
    })
}

/// A flow key whose packets can be read.
pub trait Headers: FlowKey {
    /// Length of the IP header without options, in bytes.
    const LEN: usize;
    /// The whole headers of a TCP packet.
    fn read(skb: &Skb) -> Reading<Self>;
}

impl Headers for FlowKey4 {
    const LEN: usize = size_of::<Ipv4>();

    #[inline(always)]
    fn read(skb: &Skb) -> Reading<Self> {
        read4(skb)
    }
}

impl Headers for FlowKey6 {
    const LEN: usize = size_of::<Ipv6>();

    #[inline(always)]
    fn read(skb: &Skb) -> Reading<Self> {
        read6(skb)
    }
}
