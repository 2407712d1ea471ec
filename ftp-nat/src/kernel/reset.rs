//! TCP resets, sent in another end's name by raw sockets: raw(7), ipv6(7).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Hops that a reset may take.
const TTL: u8 = 64;

/// A reset as one end of a connection would send it to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// In whose name.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// The number that `to` waits for: what it acknowledged last. It obeys no other (RFC 5961
    /// section 3.2).
    pub number: u32,
}

impl Reset {
    /// Sends it, the way that the routes lead.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_NET_RAW, or a firewall's output chain drops it. `ENETUNREACH`: no route.
    pub fn send(&self) -> io::Result<()> {
        // Of this protocol, what is sent begins with the IP header.
        let protocol = Some(Protocol::from(libc::IPPROTO_RAW));
        let socket = Socket::new(Domain::for_address(self.to), Type::RAW, protocol)?;
        // The port of a raw socket's destination is none.
        let to = SockAddr::from(SocketAddr::new(self.to.ip(), 0));
        socket.send_to(&self.packet(), &to)?;
        Ok(())
    }

    fn packet(&self) -> Vec<u8> {
        let ip = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), TTL)
            }
            (from, to) => {
                let octets = |ip| match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                PacketBuilder::ipv6(octets(from), octets(to), TTL)
            }
        };
        let tcp = ip
            .tcp(self.from.port(), self.to.port(), self.number, 0)
            .rst();
        let mut packet = Vec::with_capacity(tcp.size(0));
        // Memory takes all that is written.
        drop(tcp.write(&mut packet, &[]));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    #[test]
    fn a_reset_has_its_ends_its_number_and_right_checksums() {
        for (from, to) in [
            ("198.51.100.1:21", "192.0.2.9:40000"),
            ("[2001:db8::1]:21", "[2001:db8::9]:40000"),
        ] {
            let reset = Reset {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                number: 0xdead_beef,
            };
            let packet = reset.packet();
            let sliced = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
                panic!("{sliced:?}");
            };
            assert_eq!(
                (
                    tcp.source_port(),
                    tcp.destination_port(),
                    tcp.sequence_number()
                ),
                (21, 40_000, 0xdead_beef)
            );
            assert!(tcp.rst() && !tcp.ack() && !tcp.syn());
            let checksum = match sliced.net.unwrap() {
                NetSlice::Ipv4(ip) => {
                    let ip = ip.header();
                    tcp.calc_checksum_ipv4(ip.source(), ip.destination())
                        .unwrap()
                }
                NetSlice::Ipv6(ip) => {
                    let ip = ip.header();
                    tcp.calc_checksum_ipv6(ip.source(), ip.destination())
                        .unwrap()
                }
                NetSlice::Arp(_) => unreachable!(),
            };
            assert_eq!(tcp.checksum(), checksum);
        }
    }
}
