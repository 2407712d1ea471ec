//! TCP segments as an attacker makes them: every field may be wrong.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader};

/// TCP's flags, as in the header's 14th byte (RFC 9293, section 3.1).
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement field is significant.
pub const ACK: u8 = 0x10;
/// The urgent pointer is significant.
pub const URG: u8 = 0x20;

/// The options of a SYN as Linux sends them, without timestamps: segment size 1460, SACK, window
/// scale 7.
pub const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// What stands in the TCP checksum's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Right,
    /// The right one with this exclusive-ored into it.
    Wrong(u16),
}

/// One segment. Numbers are in host order.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The source, forged or not.
    pub from: SocketAddr,
    /// The destination; of the same family.
    pub to: SocketAddr,
    /// TCP's flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, written whether [`ACK`] is among the flags or not.
    pub ack: u32,
    /// The window as it stands in the header.
    pub window: u16,
    /// The urgent pointer, written whether [`URG`] is among the flags or not.
    pub urgent: u16,
    /// TCP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// The segment's text.
    pub payload: Vec<u8>,
    /// The TCP checksum.
    pub checksum: Checksum,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl Segment {
    /// A segment with nothing in it but these flags and numbers.
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Self {
        Self {
            from,
            to,
            flags,
            seq,
            ack,
            window: 64_240,
            urgent: 0,
            options: Vec::new(),
            payload: Vec::new(),
            checksum: Checksum::Right,
            ttl: 64,
        }
    }

    /// A first SYN as Linux sends it.
    #[must_use]
    pub fn syn(from: SocketAddr, to: SocketAddr, seq: u32) -> Self {
        Self {
            options: SYN_OPTIONS.to_vec(),
            ..Self::new(from, to, SYN, seq, 0)
        }
    }

    /// The same with this text.
    #[must_use]
    pub fn with(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The TCP header and the text.
    ///
    /// # Panics
    ///
    /// When the options do not fit a header, or the ends are of two families.
    #[must_use]
    pub fn tcp(&self) -> Vec<u8> {
        let mut header = TcpHeader::new(self.from.port(), self.to.port(), self.seq, self.window);
        let has = |flag| self.flags & flag != 0;
        header.fin = has(FIN);
        header.syn = has(SYN);
        header.rst = has(RST);
        header.psh = has(PSH);
        header.ack = has(ACK);
        header.urg = has(URG);
        header.acknowledgment_number = self.ack;
        header.urgent_pointer = self.urgent;
        header.set_options_raw(&self.options).unwrap();
        let sum = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
            }
            ends => panic!("a segment between two families: {ends:?}"),
        };
        header.checksum = match self.checksum {
            Checksum::Right => sum.unwrap(),
            Checksum::Wrong(difference) => sum.unwrap() ^ difference,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The IP packet.
    ///
    /// # Panics
    ///
    /// As [`Self::tcp`].
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let tcp = self.tcp();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip = Ipv4Header::new(
                    tcp.len() as u16,
                    self.ttl,
                    IpNumber::TCP,
                    from.octets(),
                    to.octets(),
                )
                .unwrap();
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                [&ip.to_bytes()[..], &tcp].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: tcp.len() as u16,
                    next_header: IpNumber::TCP,
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                };
                [&ip.to_bytes()[..], &tcp].concat()
            }
            ends => panic!("a segment between two families: {ends:?}"),
        }
    }

    /// The IPv4 packet in fragments, each with `size` bytes of the segment (a multiple of eight;
    /// the last has the rest), in their order.
    ///
    /// # Panics
    ///
    /// As [`Self::tcp`], or when it is not IPv4.
    #[must_use]
    pub fn fragments(&self, size: usize, identification: u16) -> Vec<Vec<u8>> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from.ip(), self.to.ip()) else {
            panic!("only IPv4 is fragmented here");
        };
        let tcp = self.tcp();
        let pieces = tcp.len().div_ceil(size);
        tcp.chunks(size)
            .enumerate()
            .map(|(at, piece)| {
                let mut ip = Ipv4Header::new(
                    piece.len() as u16,
                    self.ttl,
                    IpNumber::TCP,
                    from.octets(),
                    to.octets(),
                )
                .unwrap();
                ip.dont_fragment = false;
                ip.identification = identification;
                ip.fragment_offset = ((at * size / 8) as u16).try_into().unwrap();
                ip.more_fragments = at + 1 < pieces;
                ip.header_checksum = ip.calc_header_checksum();
                [&ip.to_bytes()[..], piece].concat()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    fn ends() -> [SocketAddr; 2] {
        ["198.51.100.20:4000", "198.51.100.1:21"].map(|end| end.parse().unwrap())
    }

    #[test]
    fn a_segment_has_what_was_asked_for() {
        let [from, to] = ends();
        let segment = Segment {
            urgent: 2,
            ttl: 7,
            ..Segment::new(from, to, PSH | ACK | URG, 1, 2).with("PASV\r\n")
        };
        let packet = segment.packet();
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
            panic!("no TCP");
        };
        assert_eq!(packet[8], 7);
        assert!(tcp.psh() && tcp.ack() && tcp.urg() && !tcp.syn());
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (1, 2));
        assert_eq!(tcp.payload(), b"PASV\r\n");
        let right = tcp
            .to_header()
            .calc_checksum_ipv4_raw([198, 51, 100, 20], [198, 51, 100, 1], tcp.payload())
            .unwrap();
        assert_eq!(tcp.checksum(), right);
    }

    #[test]
    fn fragments_are_the_packet_in_pieces() {
        let [from, to] = ends();
        let segment = Segment::new(from, to, PSH | ACK, 1, 2).with("PASV\r\nPASV\r\n");
        let fragments = segment.fragments(24, 9);
        assert_eq!(fragments.len(), 2);
        let put_together: Vec<u8> = fragments
            .iter()
            .flat_map(|fragment| fragment[20..].to_vec())
            .collect();
        assert_eq!(put_together, segment.tcp());
        assert_eq!(fragments[0][6..8], [0x20, 0]);
        assert_eq!(fragments[1][6..8], [0, 3]);
    }
}
