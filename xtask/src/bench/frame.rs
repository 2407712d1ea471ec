//! Frames made by hand.

use std::net::SocketAddrV4;

/// TCP's flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// Options as Linux sends them in a SYN, without timestamps.
pub(crate) const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];

/// A TCP packet over IPv4.
#[derive(Clone, Debug)]
pub(crate) struct Tcp<'a> {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Tcp<'_> {
    /// An empty segment.
    pub(crate) fn new(from: SocketAddrV4, to: SocketAddrV4, seq: u32, ack: u32) -> Self {
        Self {
            from,
            to,
            flags: ACK,
            seq,
            ack,
            options: &[],
            payload: &[],
        }
    }

    /// The frame, filled up to `length` bytes behind the packet.
    pub(crate) fn frame(&self, length: usize) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let words = (20 + self.options.len()) / 4;
        tcp.extend([(words as u8) << 4, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        tcp.extend(self.options);
        tcp.extend(self.payload);
        let mut pseudo = Vec::new();
        pseudo.extend(self.from.ip().octets());
        pseudo.extend(self.to.ip().octets());
        pseudo.extend([0, 6]);
        pseudo.extend((tcp.len() as u16).to_be_bytes());
        pseudo.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        let mut frame = ipv4(self.from, self.to, 6, &tcp);
        frame.resize(frame.len().max(length), 0);
        frame
    }
}

/// A UDP packet, its checksum left out, as IPv4 allows.
pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4, length: usize) -> Vec<u8> {
    let content = vec![0; length - 14 - 20 - 8];
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend((content.len() as u16 + 8).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(content);
    ipv4(from, to, 17, &udp)
}

/// A frame that is no IP: a question of ARP, filled up.
pub(crate) fn arp(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06];
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(length, 0);
    frame
}

fn ipv4(from: SocketAddrV4, to: SocketAddrV4, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let mut ip = vec![0x45, 0];
    ip.extend((20 + content.len() as u16).to_be_bytes());
    ip.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(from.ip().octets());
    ip.extend(to.ip().octets());
    let check = checksum(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    frame.extend(ip);
    frame.extend(content);
    frame
}

/// The checksum of bytes whose own checksum field is zero (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The sum of bytes as 16-bit words.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        })
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The frame as 64-bit words, as a program in the kernel writes it.
pub(crate) fn words<const N: usize>(frame: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| {
        u64::from_ne_bytes(std::array::from_fn(|byte| {
            frame.get(at * 8 + byte).copied().unwrap_or(0)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_a_frame_come_out_as_zero() {
        let tcp = Tcp {
            payload: b"PASV\r\n",
            ..Tcp::new(
                "198.51.100.20:4000".parse().unwrap(),
                "198.51.100.1:21".parse().unwrap(),
                1,
                2,
            )
        };
        let frame = tcp.frame(64);
        assert_eq!(frame.len(), 64);
        assert_eq!(checksum(&frame[14..34]), 0);
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 6, 0, 26]);
        pseudo.extend(&frame[34..60]);
        assert_eq!(checksum(&pseudo), 0);
    }
}
