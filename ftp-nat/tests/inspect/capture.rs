//! Captures of conversations that never took place.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Command, Output},
};

use etherparse::PacketBuilder;
use serde_json::Value;

/// What a packet begins with in a capture file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    Ethernet,
    Vlan,
    DoubleVlan,
    Raw,
    Cooked,
    Cooked2,
    Null,
    Loop,
    /// An 802.11 radio: not known.
    Radio,
}

/// How a capture file is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Pcap,
    PcapBigEndian,
    PcapNanoseconds,
    PcapNg,
    PcapNgBigEndian,
    /// Packets without a time.
    PcapNgSimple,
}

impl Link {
    fn number(self) -> u32 {
        match self {
            Self::Ethernet | Self::Vlan | Self::DoubleVlan => 1,
            Self::Raw => 101,
            Self::Cooked => 113,
            Self::Cooked2 => 276,
            Self::Null => 0,
            Self::Loop => 108,
            Self::Radio => 127,
        }
    }

    fn wrap(self, ip: &[u8]) -> Vec<u8> {
        let is_v4 = ip[0] >> 4 == 4;
        let kind: [u8; 2] = if is_v4 { [0x08, 0] } else { [0x86, 0xdd] };
        let family: u32 = if is_v4 { 2 } else { 30 };
        let head = match self {
            Self::Ethernet => [&[2; 12][..], &kind].concat(),
            Self::Vlan => [&[2; 12][..], &[0x81, 0, 0, 7], &kind].concat(),
            Self::DoubleVlan => [&[2; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8], &kind].concat(),
            Self::Raw => Vec::new(),
            Self::Cooked => [&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &kind].concat(),
            Self::Cooked2 => [&kind[..], &[0; 18]].concat(),
            Self::Null => family.to_le_bytes().to_vec(),
            Self::Loop => family.to_be_bytes().to_vec(),
            Self::Radio => vec![0, 0, 8, 0, 0, 0, 0, 0],
        };
        [&head, ip].concat()
    }
}

/// Two ends that talk, and what was captured of it.
pub(crate) struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    /// Next numbers of the client and of the server.
    next: [u32; 2],
    packets: Vec<Vec<u8>>,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

impl Talk {
    /// A connection whose handshake was captured.
    pub(crate) fn new(client: &str, server: &str) -> Self {
        let mut it = Self::under_way(client, server);
        it.send(false, SYN, b"");
        it.send(true, SYN, b"");
        it
    }

    /// One that had begun before the capture did.
    pub(crate) fn under_way(client: &str, server: &str) -> Self {
        Self {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            next: [u32::MAX - 30, 5000],
            packets: Vec::new(),
        }
    }

    pub(crate) fn client(mut self, text: impl AsRef<[u8]>) -> Self {
        self.send(false, 0, text.as_ref());
        self
    }

    pub(crate) fn server(mut self, text: impl AsRef<[u8]>) -> Self {
        self.send(true, 0, text.as_ref());
        self
    }

    pub(crate) fn close(mut self) -> Self {
        self.send(false, FIN, b"");
        self.send(true, FIN, b"");
        self
    }

    pub(crate) fn reset(mut self) -> Self {
        self.send(true, RST, b"");
        self
    }

    /// Another connection's first packet.
    pub(crate) fn syn(mut self, from: &str, to: &str) -> Self {
        let other = Self::under_way(from, to);
        let packet = other.packet(false, SYN, b"");
        self.packets.push(packet);
        self
    }

    /// The last two packets were captured the other way round.
    pub(crate) fn swap_last(mut self) -> Self {
        let last = self.packets.len() - 1;
        self.packets.swap(last, last - 1);
        self
    }

    /// The last packet was captured twice.
    pub(crate) fn repeat_last(mut self) -> Self {
        self.packets.push(self.packets.last().unwrap().clone());
        self
    }

    /// The handshake was sent again, late.
    pub(crate) fn handshake_again(mut self) -> Self {
        let handshake = self.packets[..2].to_vec();
        self.packets.extend(handshake);
        self
    }

    /// The last packet was not captured.
    pub(crate) fn lose_last(mut self) -> Self {
        self.packets.pop();
        self
    }

    /// Another talk, captured behind this one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.packets.extend(other.packets);
        self
    }

    fn send(&mut self, is_reply: bool, flags: u8, payload: &[u8]) {
        let packet = self.packet(is_reply, flags, payload);
        self.packets.push(packet);
        let begins_or_ends = u32::from(flags & (SYN | FIN) != 0);
        let next = &mut self.next[usize::from(is_reply)];
        *next = next.wrapping_add(payload.len() as u32 + begins_or_ends);
    }

    fn packet(&self, is_reply: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = if is_reply {
            (self.server, self.client)
        } else {
            (self.client, self.server)
        };
        let seq = self.next[usize::from(is_reply)];
        let ack = self.next[usize::from(!is_reply)];
        let ip = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            _ => panic!("two families"),
        };
        let mut tcp = ip.tcp(from.port(), to.port(), seq, 5000);
        if flags & SYN != 0 {
            tcp = tcp.syn();
        }
        if flags & FIN != 0 {
            tcp = tcp.fin();
        }
        if flags & RST != 0 {
            tcp = tcp.rst();
        }
        if flags & SYN == 0 || is_reply {
            tcp = tcp.ack(ack);
        }
        let mut packet = Vec::new();
        tcp.write(&mut packet, payload).unwrap();
        packet
    }

    /// The capture file's bytes: a packet each millisecond.
    pub(crate) fn bytes(&self, link: Link, format: Format) -> Vec<u8> {
        let packets: Vec<_> = self.packets.iter().map(|ip| link.wrap(ip)).collect();
        match format {
            Format::Pcap => pcap(0xa1b2_c3d4, 1_000, u32::to_le_bytes, link, &packets),
            Format::PcapBigEndian => pcap(0xa1b2_c3d4, 1_000, u32::to_be_bytes, link, &packets),
            Format::PcapNanoseconds => {
                pcap(0xa1b2_3c4d, 1_000_000, u32::to_le_bytes, link, &packets)
            }
            Format::PcapNg => pcapng(u32::to_le_bytes, link, &packets, false),
            Format::PcapNgBigEndian => pcapng(u32::to_be_bytes, link, &packets, false),
            Format::PcapNgSimple => pcapng(u32::to_le_bytes, link, &packets, true),
        }
    }

    /// What `ftp-nat inspect` says of it.
    pub(crate) fn inspect(&self, arguments: &[&str]) -> String {
        let output = inspect(&self.bytes(Link::Ethernet, Format::Pcap), arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.inspect(&arguments)).unwrap()
    }
}

type Order = fn(u32) -> [u8; 4];

fn words(order: Order, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| order(*word)).collect()
}

fn pcap(magic: u32, millisecond: u32, order: Order, link: Link, packets: &[Vec<u8>]) -> Vec<u8> {
    // Two halves in one word: the version 2.4.
    let version = if order(1) == 1_u32.to_le_bytes() {
        0x0004_0002
    } else {
        0x0002_0004
    };
    let mut out = words(order, &[magic, version, 0, 0, 65_535, link.number()]);
    for (number, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        let time = number as u32 * millisecond;
        out.extend(words(order, &[1_700_000_000, time, len, len]));
        out.extend(packet);
    }
    out
}

fn pcapng(order: Order, link: Link, packets: &[Vec<u8>], simple: bool) -> Vec<u8> {
    let is_little = order(1) == 1_u32.to_le_bytes();
    let block = |kind: u32, body: Vec<u8>| {
        let body = [
            body.clone(),
            vec![0; body.len().next_multiple_of(4) - body.len()],
        ]
        .concat();
        let len = body.len() as u32 + 12;
        [words(order, &[kind, len]), body, words(order, &[len])].concat()
    };
    let version = if is_little { 1 } else { 0x0001_0000 };
    let linked = if is_little {
        link.number()
    } else {
        link.number() << 16
    };
    let mut out = block(
        0x0a0d_0d0a,
        words(order, &[0x1a2b_3c4d, version, u32::MAX, u32::MAX]),
    );
    out.extend(block(1, words(order, &[linked, 0])));
    for (number, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        let (kind, head) = if simple {
            (3, words(order, &[len]))
        } else {
            let time = 1_700_000_000_000_000 + number as u64 * 1000;
            let halves = [(time >> 32) as u32, time as u32];
            (6, words(order, &[0, halves[0], halves[1], len, len]))
        };
        out.extend(block(kind, [head, packet.clone()].concat()));
    }
    out
}

/// A file that is removed with the value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ftp-nat-inspect-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Runs `ftp-nat inspect` on these bytes.
pub(crate) fn inspect(bytes: &[u8], arguments: &[&str]) -> Output {
    let file = Scratch::new(bytes);
    run(&[&[file.0.to_str().unwrap()], arguments].concat())
}

/// Runs `ftp-nat inspect`.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ftp-nat"))
        .arg("inspect")
        .args(arguments)
        .output()
        .unwrap()
}
