//! A captured packet's headers: from whatever link it was captured on to its TCP segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, LinuxSllHeader, TransportSlice,
};
use pcap_parser::Linktype;

use super::capture::Captured;

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, where there is one.
    pub ack: Option<u32>,
    /// It begins a connection's direction.
    pub syn: bool,
    /// It ends one.
    pub fin: bool,
    /// It ends both.
    pub rst: bool,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What a captured packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A TCP segment.
    Tcp(Tcp),
    /// Something else: the gateway passes it.
    Other,
    /// A fragment of an IP packet: the gateway passes it.
    Fragment,
    /// It was cut short by the capture, or has lengths that lie.
    Truncated,
    /// It begins in a way that is not known here.
    UnknownLink(Linktype),
}

/// The SLL2 header's length and the place of its protocol.
const SLL2: usize = 20;

/// Reads the headers.
pub fn read(captured: &Captured<'_>) -> Seen {
    let data = captured.data;
    let from_ip =
        |data: &[u8]| LaxSlicedPacket::from_ip(data).map_or(Seen::Truncated, |it| seen(&it));
    let from_type =
        |number: u16, data: &[u8]| seen(&LaxSlicedPacket::from_ether_type(EtherType(number), data));
    match captured.link {
        Linktype::ETHERNET => match LaxSlicedPacket::from_ethernet(data) {
            Ok(it) => seen(&it),
            Err(_) => Seen::Truncated,
        },
        // 12 and 14 stand in files of some BSDs.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => from_ip(data),
        Linktype::LINUX_SLL => match data.split_at_checked(LinuxSllHeader::LEN) {
            Some((header, rest)) => from_type(u16::from_be_bytes([header[14], header[15]]), rest),
            None => Seen::Truncated,
        },
        Linktype::LINUX_SLL2 => match data.split_at_checked(SLL2) {
            Some((header, rest)) => from_type(u16::from_be_bytes([header[0], header[1]]), rest),
            None => Seen::Truncated,
        },
        // The family's number is different everywhere, and in the capturing machine's byte order:
        // IP's own version tells.
        Linktype::NULL | Linktype::LOOP => match data.split_at_checked(4) {
            Some((_, rest)) => from_ip(rest),
            None => Seen::Truncated,
        },
        other => Seen::UnknownLink(other),
    }
}

fn seen(packet: &LaxSlicedPacket<'_>) -> Seen {
    let (source, destination, payload): (IpAddr, IpAddr, _) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let [source, destination] = [header.source_addr(), header.destination_addr()];
            (source.into(), destination.into(), ip.payload())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let [source, destination] = [header.source_addr(), header.destination_addr()];
            (source.into(), destination.into(), ip.payload())
        }
        Some(LaxNetSlice::Arp(_)) => return Seen::Other,
        None if packet.stop_err.is_some() => return Seen::Truncated,
        None => return Seen::Other,
    };
    if payload.ip_number != IpNumber::TCP {
        return Seen::Other;
    }
    if payload.fragmented {
        return Seen::Fragment;
    }
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
        return Seen::Truncated;
    };
    if payload.incomplete {
        return Seen::Truncated;
    }
    Seen::Tcp(Tcp {
        source: SocketAddr::new(source, tcp.source_port()),
        destination: SocketAddr::new(destination, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: tcp.payload().to_vec(),
    })
}
