//! Headers as they lie in a packet, in network byte order.

use bytemuck::{Pod, Zeroable};
use ftp_nat_common::wire::addr::PortPair;

/// Where the IP header starts: behind Ethernet. Packets of interfaces without get an empty one before
/// a station sees them (`hooks::tc`).
pub const IP: u32 = 14;
/// Where the IP header starts in packets of interfaces without Ethernet, at their hooks.
pub const BARE: u32 = 0;
/// Longest headers of TCP over IPv4, with all options.
pub const MOST: u32 = 14 + 60 + 60;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6's protocol number.
pub const ICMP6: u8 = 58;

/// IPv4's EtherType, as it lies in the packet.
pub const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// IPv6's EtherType, as it lies in the packet.
pub const IPV6: u32 = 0x86dd_u16.to_be() as u32;

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
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Data offset in words of four bytes, in the high half.
    pub offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Checksum.
    pub checksum: u16,
    urgent: u16,
}
