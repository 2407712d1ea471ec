//! Packets made by hand, and checksums from scratch: nothing here is shared with the datapath.

use std::net::{IpAddr, SocketAddr};

/// Length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// A TCP packet in an Ethernet frame. Lengths and checksums follow from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) ip_options: Vec<u8>,
    pub(crate) tcp_options: Vec<u8>,
    /// Bytes behind the IP packet: Ethernet fills short frames up.
    pub(crate) padding: Vec<u8>,
}

/// The window that all packets advertise.
pub(crate) const WINDOW: u16 = 0xfaf0;

impl Packet {
    /// A segment without flags but ACK.
    pub(crate) fn new(src: SocketAddr, dst: SocketAddr) -> Self {
        Self {
            src,
            dst,
            ttl: 64,
            seq: 1000,
            ack: 5000,
            flags: ACK,
            payload: Vec::new(),
            ip_options: Vec::new(),
            tcp_options: Vec::new(),
            padding: Vec::new(),
        }
    }

    pub(crate) fn sent_by(self, src: SocketAddr) -> Self {
        Self { src, ..self }
    }

    pub(crate) fn sent_to(self, dst: SocketAddr) -> Self {
        Self { dst, ..self }
    }

    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn seq(self, seq: u32) -> Self {
        Self { seq, ..self }
    }

    pub(crate) fn ack(self, ack: u32) -> Self {
        Self { ack, ..self }
    }

    pub(crate) fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn payload(self, payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref().to_vec();
        Self { payload, ..self }
    }

    pub(crate) fn ip_options(self, options: &[u8]) -> Self {
        let ip_options = options.to_vec();
        Self { ip_options, ..self }
    }

    pub(crate) fn tcp_options(self, options: &[u8]) -> Self {
        let tcp_options = options.to_vec();
        Self {
            tcp_options,
            ..self
        }
    }

    pub(crate) fn padding(self, padding: &[u8]) -> Self {
        let padding = padding.to_vec();
        Self { padding, ..self }
    }

    /// A SYN with the options that Linux sends.
    pub(crate) fn syn(self) -> Self {
        self.flags(SYN).ack(0).tcp_options(&[
            2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
        ])
    }

    /// Where its TCP header starts.
    pub(crate) fn tcp_at(&self) -> usize {
        match self.src {
            SocketAddr::V4(_) => ETHERNET + 20 + self.ip_options.len(),
            SocketAddr::V6(_) => ETHERNET + 40,
        }
    }

    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.src.port().to_be_bytes());
        tcp.extend(self.dst.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let header = 20 + self.tcp_options.len();
        assert!(
            header.is_multiple_of(4) && header <= 60,
            "options of odd length"
        );
        tcp.extend([(header as u8 / 4) << 4, self.flags]);
        tcp.extend(WINDOW.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.tcp_options);
        tcp.extend(&self.payload);
        let check = transport_checksum(self.src.ip(), self.dst.ip(), TCP, &tcp);
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        let mut frame = ip(
            self.src.ip(),
            self.dst.ip(),
            TCP,
            self.ttl,
            &self.ip_options,
            &tcp,
        );
        frame.extend(&self.padding);
        frame
    }
}

/// A frame with an IP packet of any protocol.
pub(crate) fn ip(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    ttl: u8,
    options: &[u8],
    content: &[u8],
) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = 20 + options.len();
            assert!(
                header.is_multiple_of(4) && header <= 60,
                "options of odd length"
            );
            let total = (header + content.len()) as u16;
            let mut ip = vec![0x40 | (header / 4) as u8, 0];
            ip.extend(total.to_be_bytes());
            ip.extend([0x12, 0x34, 0x40, 0, ttl, protocol, 0, 0]);
            ip.extend(src.octets());
            ip.extend(dst.octets());
            ip.extend(options);
            let check = checksum(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            frame.extend([0x08, 0x00]);
            frame.extend(ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((content.len() as u16).to_be_bytes());
            frame.extend([protocol, ttl]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
    frame.extend(content);
    frame
}

/// The checksum of bytes whose own checksum field is zero (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum over a pseudo header and a transport packet whose own field is zero.
pub(crate) fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, content: &[u8]) -> u16 {
    let mut all = Vec::new();
    for end in [src, dst] {
        match end {
            IpAddr::V4(end) => all.extend(end.octets()),
            IpAddr::V6(end) => all.extend(end.octets()),
        }
    }
    all.extend((content.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(content);
    checksum(&all)
}

/// For messages: the frame in rows of hexadecimal numbers.
pub(crate) fn hex(frame: &[u8]) -> String {
    let rows = frame.chunks(16).enumerate().map(|(row, bytes)| {
        let numbers: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() {
                    *byte as char
                } else {
                    '.'
                }
            })
            .collect();
        format!("  {:04x}  {:47}  {text}", row * 16, numbers.join(" "))
    });
    rows.collect::<Vec<_>>().join("\n")
}
