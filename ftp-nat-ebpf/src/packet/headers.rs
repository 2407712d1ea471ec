//! The headers of a packet, as the network-types crate lays them out.
//!
//! Each is wrapped for two reasons: the crate's fields are arrays of bytes, which the compiler would
//! read one by one, and here headers lie aligned (see `Skb::view`); and the accessors give numbers in
//! the machine's order. Addresses and ports stay in network order, as they stand in maps' keys.

use bytemuck::{Pod, Zeroable};
use ftp_nat_common::wire::addr::{Addr, PortPair};
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;

/// Where the IP header starts: behind Ethernet. Packets of interfaces without get an empty one before
/// a station sees them (`hooks::tc`).
pub const IP: u32 = EthHdr::LEN as u32;
/// Where the IP header starts in packets of interfaces without Ethernet, at their hooks.
pub const BARE: u32 = 0;
/// Longest headers of TCP over IPv4, with all options.
pub const MOST: u32 = IP + 60 + 60;
/// TCP's protocol number.
pub const TCP: u8 = IpProto::Tcp as u8;
/// ICMP's protocol number.
pub const ICMP: u8 = IpProto::Icmp as u8;
/// ICMPv6's protocol number.
pub const ICMP6: u8 = IpProto::Ipv6Icmp as u8;

/// IPv4's EtherType, as it lies in the packet.
pub const IPV4: u32 = EtherType::Ipv4 as u32;
/// IPv6's EtherType, as it lies in the packet.
pub const IPV6: u32 = EtherType::Ipv6 as u32;

/// An Ethernet header, untagged (IEEE 802.3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet(EthHdr);

impl Ethernet {
    /// What the frame carries: an EtherType, as it lies in the frame.
    #[inline(always)]
    pub fn ether_type(&self) -> u32 {
        u32::from(self.0.ether_type)
    }

    /// Writes both addresses, destination first, as they lie in the frame.
    #[inline(always)]
    pub fn set_addresses(&mut self, macs: [u16; 6]) {
        [self.0.dst_addr, self.0.src_addr] = bytemuck::must_cast(macs);
    }
}

/// An IPv4 header without options (RFC 791 section 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Aligns the header as it lies in a packet.
    aligned: [u32; 0],
    header: Ipv4Hdr,
}

impl Ipv4 {
    /// Bits of the word of flags and fragment offset: more fragments follow, the offset.
    const MORE_FRAGMENTS: u16 = 0x2000;
    const FRAGMENT_OFFSET: u16 = 0x1fff;

    /// The version: 4, if the packet does not lie.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.header.vihl >> 4
    }

    /// Length of the header with its options, in bytes: a multiple of 4 up to 60. Less than 20 is a
    /// lie.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        u32::from(self.header.vihl & 0x0f) * 4
    }

    /// Whether the header is one of version 4 without options.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.header.vihl == 0x45
    }

    /// Length of the packet, in bytes; 0: a super-packet of more than 64 KB.
    #[inline(always)]
    pub fn total(&self) -> u32 {
        u32::from(u16::from_be_bytes(self.header.tot_len))
    }

    #[inline(always)]
    fn has_fragment_bits(&self, bits: u16) -> bool {
        u16::from_ne_bytes(self.header.frags) & bits.to_be() != 0
    }

    /// Whether the packet is a fragment.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.has_fragment_bits(Self::MORE_FRAGMENTS | Self::FRAGMENT_OFFSET)
    }

    /// Whether the packet is a fragment, and not the first one: it holds no ports.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.has_fragment_bits(Self::FRAGMENT_OFFSET)
    }

    /// Time to live, in hops.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        self.header.ttl
    }

    /// Protocol number of what it carries.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.header.proto
    }

    /// Source address, in network order.
    #[inline(always)]
    pub fn src(&self) -> u32 {
        u32::from_ne_bytes(self.header.src_addr)
    }

    /// Destination address, in network order.
    #[inline(always)]
    pub fn dst(&self) -> u32 {
        u32::from_ne_bytes(self.header.dst_addr)
    }

    /// Writes both addresses, in network order.
    #[inline(always)]
    pub fn set_addresses(&mut self, src: u32, dst: u32) {
        self.header.src_addr = src.to_ne_bytes();
        self.header.dst_addr = dst.to_ne_bytes();
    }

    /// Counts one hop.
    #[inline(always)]
    pub fn count_hop(&mut self) {
        self.header.ttl = self.header.ttl.wrapping_sub(1);
    }

    /// Writes the time to live; the checksum is the caller's.
    #[inline(always)]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.header.ttl = ttl;
    }

    /// The header's checksum, as it lies in the packet.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16::from_ne_bytes(self.header.check)
    }

    /// Writes it.
    #[inline(always)]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.header.check = checksum.to_ne_bytes();
    }
}

/// An IPv6 header (RFC 8200 section 3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Aligns the header as it lies in a packet.
    aligned: [u32; 0],
    header: Ipv6Hdr,
}

impl Ipv6 {
    /// Length of what it carries, in bytes; 0: a super-packet of more than 64 KB.
    #[inline(always)]
    pub fn payload_len(&self) -> u32 {
        u32::from(u16::from_be_bytes(self.header.payload_len))
    }

    /// Protocol number of what it carries, or of an extension header.
    #[inline(always)]
    pub fn next_header(&self) -> u8 {
        self.header.next_hdr
    }

    /// Hop limit.
    #[inline(always)]
    pub fn hop_limit(&self) -> u8 {
        self.header.hop_limit
    }

    /// Source address.
    #[inline(always)]
    pub fn src(&self) -> Addr {
        Addr(bytemuck::must_cast(self.header.src_addr))
    }

    /// Destination address.
    #[inline(always)]
    pub fn dst(&self) -> Addr {
        Addr(bytemuck::must_cast(self.header.dst_addr))
    }

    /// Writes both addresses.
    #[inline(always)]
    pub fn set_addresses(&mut self, src: Addr, dst: Addr) {
        self.header.src_addr = bytemuck::must_cast(src.0);
        self.header.dst_addr = bytemuck::must_cast(dst.0);
    }

    /// Counts one hop.
    #[inline(always)]
    pub fn count_hop(&mut self) {
        self.header.hop_limit = self.header.hop_limit.wrapping_sub(1);
    }

    /// Writes the hop limit.
    #[inline(always)]
    pub fn set_hop_limit(&mut self, hops: u8) {
        self.header.hop_limit = hops;
    }
}

/// The start of a TCP header (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Aligns the header as it lies in a packet.
    aligned: [u32; 0],
    header: TcpHdr,
}

impl Tcp {
    /// Source and destination port.
    #[inline(always)]
    pub fn ports(&self) -> PortPair {
        PortPair(bytemuck::must_cast([self.header.source, self.header.dest]))
    }

    /// Writes them.
    #[inline(always)]
    pub fn set_ports(&mut self, ports: PortPair) {
        [self.header.source, self.header.dest] = bytemuck::must_cast(ports.0);
    }

    /// Sequence number.
    #[inline(always)]
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes(self.header.seq)
    }

    /// Acknowledgement number; counts only with the flag ACK.
    #[inline(always)]
    pub fn ack(&self) -> u32 {
        u32::from_be_bytes(self.header.ack_seq)
    }

    /// The data offset's byte and the flags' byte.
    #[inline(always)]
    fn offset_flags(&self) -> [u8; 2] {
        // SAFETY: the crate's bit field is two bytes and nothing else; a transmutation of another
        // length would not compile. It has no accessor for a whole byte.
        unsafe { core::mem::transmute(self.header._bitfield_1) }
    }

    /// Length of the header with its options, in bytes: a multiple of 4 up to 60. Less than 20 is a
    /// lie.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        u32::from(self.offset_flags()[0] >> 4) * 4
    }

    /// The flags (`wire::tcp::flag`).
    #[inline(always)]
    pub fn flags(&self) -> u8 {
        self.offset_flags()[1]
    }

    /// Window, as it stands in the header: not scaled.
    #[inline(always)]
    pub fn window(&self) -> u16 {
        u16::from_be_bytes(self.header.window)
    }

    /// Checksum, as it lies in the packet.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16::from_ne_bytes(self.header.check)
    }

    /// Writes it.
    #[inline(always)]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.header.check = checksum.to_ne_bytes();
    }
}

/// Any bytes are such a header: the crate's structs are of bytes and an aligned 16-bit number, laid
/// out as in C, without a gap.
macro_rules! any_bytes {
    ($($header:ty),*) => {
        $(
            // SAFETY: see the macro.
            unsafe impl Zeroable for $header {}
            // SAFETY: see the macro.
            unsafe impl Pod for $header {}
        )*
    };
}

any_bytes!(Ethernet, Ipv4, Ipv6, Tcp);

const _: () = {
    assert!(size_of::<Ethernet>() == 14);
    assert!(size_of::<Ipv4>() == 20 && align_of::<Ipv4>() == 4);
    assert!(size_of::<Ipv6>() == 40 && align_of::<Ipv6>() == 4);
    assert!(size_of::<Tcp>() == 20 && align_of::<Tcp>() == 4);
};
