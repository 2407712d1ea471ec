//! Addresses and ports as packets carry them.

use bytemuck::{Pod, Zeroable};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address in network byte order; IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so
/// that one type serves both families.
///
/// The four words hold the address' bytes as they lie in a packet, whatever the machine's order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Addr(pub [u32; 4]);

impl Addr {
    /// The word in front of an IPv4 address.
    const V4_MARK: u32 = 0xffff_u32.to_be();

    /// From the four bytes of an IPv4 header's field, loaded as they lie.
    #[inline(always)]
    pub const fn from_v4(word: u32) -> Self {
        Self([0, 0, Self::V4_MARK, word])
    }

    /// From four octets, the first one first.
    #[inline(always)]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self::from_v4(u32::from_ne_bytes(octets))
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::V4_MARK
    }

    /// The IPv4 address as it lies in a packet; without meaning for IPv6.
    #[inline(always)]
    pub const fn v4(&self) -> u32 {
        self.0[3]
    }

    /// Whether no address is set at all (`::`); `0.0.0.0` is not this.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// For people and for user space.
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            return IpAddr::V4(Ipv4Addr::from(self.0[3].to_ne_bytes()));
        }
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        let bytes = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        for (word, from) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_ne_bytes(*from);
        }
        Self(words)
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.to_ip().fmt(f)
    }
}

/// A TCP port in network byte order, as it lies in a packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Port(pub u16);

impl Port {
    /// From the number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// Its place in [`crate::abi::Ports`]: the two bytes as they lie, read as one number. Verifiers
    /// lose sight of a number whose bytes are swapped (seen with Linux 6.1), and refuse it as an
    /// index.
    #[inline(always)]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.number().fmt(f)
    }
}

/// The two ports of a packet, as they lie in it: one word, which is written and read as one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PortPair(pub u32);

impl PortPair {
    /// From both.
    #[inline(always)]
    pub const fn new(source: Port, destination: Port) -> Self {
        let [first, second] = source.0.to_ne_bytes();
        let [third, fourth] = destination.0.to_ne_bytes();
        Self(u32::from_ne_bytes([first, second, third, fourth]))
    }

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

    /// With another source.
    #[inline(always)]
    pub fn from(self, source: Port) -> Self {
        let [.., high, low] = self.0.to_ne_bytes();
        let [first, second] = source.0.to_ne_bytes();
        Self(u32::from_ne_bytes([first, second, high, low]))
    }

    /// With another destination.
    #[inline(always)]
    pub fn to(self, destination: Port) -> Self {
        let [high, low, ..] = self.0.to_ne_bytes();
        let [third, fourth] = destination.0.to_ne_bytes();
        Self(u32::from_ne_bytes([high, low, third, fourth]))
    }
}

/// One end of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Endpoint {
    /// Its address.
    pub addr: Addr,
    /// Its port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
}

impl Endpoint {
    /// From its two parts.
    #[inline(always)]
    pub const fn new(addr: Addr, port: Port) -> Self {
        Self { addr, port, pad: 0 }
    }
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::net::SocketAddr::new(self.addr.to_ip(), self.port.number()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_and_from_std() {
        for text in ["198.51.100.1", "0.0.0.0", "2001:db8::5", "::", "::fffe:0:1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Addr::from(ip).to_ip(), ip, "{text}");
            assert_eq!(Addr::from(ip).is_v4(), ip.is_ipv4(), "{text}");
        }
    }

    #[test]
    fn no_address_is_not_the_zero_ipv4_address() {
        assert!(Addr::default().is_none());
        assert!(!Addr::from_octets([0; 4]).is_none());
    }

    #[test]
    fn a_port_lies_in_network_order() {
        assert_eq!(Port::new(0x1234).0.to_ne_bytes(), [0x12, 0x34]);
        assert_eq!(Port::new(50000).number(), 50000);
    }
}
