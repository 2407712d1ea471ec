//! What the benchmark and its programs in the kernel both touch. `xtask` includes this very file.
//!
//! Addresses and ports lie as in a packet, all else in the machine's own order.

use bytemuck::{Pod, Zeroable};

/// The length of the longer frames that are made from a template: a reply 227 with TCP's timestamps.
pub const FRAME: usize = 112;
/// The length of a data packet that is sent to be counted.
pub const SMALL: usize = 64;
/// How many frames one measurement may take in turn.
pub const FRAMES: usize = 4096;

/// The packet that the generator sends again and again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Shot {
    /// From the Ethernet header on.
    pub frame: [u64; SMALL / 8],
    /// Where it is sent.
    pub ifindex: u32,
    /// Not 0: its source becomes that of flow number `n * STRIDE & flows`, where n counts the packets;
    /// in the frame it is that of flow number 0.
    pub flows: u32,
}

/// What the sink counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Wanted {
    /// The destination as it must arrive.
    pub address: u32,
    /// Its port.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// How frames for a test run are made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Plan {
    /// How many frames were made so far.
    pub next: u32,
    /// Frame number `next & frames` of the FRAMES map is the template.
    pub frames: u32,
    /// Not 0: its source becomes that of flow number `next * STRIDE & flows`.
    pub flows: u32,
    /// Zero.
    pub pad: u32,
}

/// Odd, so that multiplying by it visits every flow once, in an order that no cache foresees.
pub const STRIDE: u32 = 0x9e37_79b1;

/// The source address of a flow by its number, as it lies in a packet: within 100.64.0.0/10.
#[inline(always)]
pub const fn flow_address(number: u32) -> u32 {
    (0x6440_0000 | number >> 12).to_be()
}

/// Its source port.
#[inline(always)]
pub const fn flow_port(number: u32) -> u16 {
    (0x8000 | (number & 0xfff) as u16).to_be()
}

/// Bytes of a key of the tables that are measured by themselves: an IPv4 flow's has so many.
pub const TABLE_KEY: usize = 12;
/// Bytes of their values.
pub const TABLE_VALUE: usize = 128;

/// How many control sessions may be open at once: each 227 must be as long as the others.
pub const SESSIONS: usize = 128;
/// The first control connection's port at the client; the others follow.
pub const CONTROL_PORTS: u16 = 20_000;
/// The control port.
pub const CONTROL: u16 = 21;
/// The server's initial sequence number, always.
pub const SERVER_ISN: u32 = 0x1000_0000;
/// The client's.
pub const CLIENT_ISN: u32 = 0x2000_0000;
/// How many setup times are kept, a power of two.
pub const TIMES: usize = 1 << 16;
/// The EtherType of a frame that starts sessions (IEEE 802's first for experiments).
pub const KICK: u16 = 0x88b5;

/// A segment of the load generator, with addresses, ports and numbers still to be filled in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Template {
    /// From the Ethernet header on.
    pub frame: [u8; FRAME],
    /// Its length.
    pub len: u32,
    /// The sum of the IP header, without what is filled in.
    pub ip_sum: u32,
    /// The sum of pseudo header, TCP header and payload, without what is filled in.
    pub tcp_sum: u32,
}

/// Which segment is which template.
pub mod template {
    pub const SYN: u32 = 0;
    pub const SYN_ACK: u32 = 1;
    pub const ACK: u32 = 2;
    pub const FIN: u32 = 3;
    /// The server's data, and its end.
    pub const DATA: u32 = 4;
    pub const PASV: u32 = 5;
    pub const GREETING: u32 = 6;
    /// The first session's 227; the others' follow.
    pub const REPLY: u32 = 8;
    pub const ALL: u32 = REPLY + super::SESSIONS as u32;
}

/// One control session of the load generator, at the client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Talk {
    /// When the last PASV was sent, in nanoseconds.
    pub asked: u64,
    /// The number of its next byte.
    pub seq: u32,
    /// The number of the server's next byte.
    pub ack: u32,
    /// Where the server's data connection was announced.
    pub address: u32,
    /// Its port.
    pub port: u16,
    /// The last data connection's port at the client, in the machine's order.
    pub own_port: u16,
    /// Not 0: the session was greeted.
    pub greeted: u32,
    /// Zero.
    pub pad: u32,
}

/// The load generator's whole state.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Game {
    /// The client's address.
    pub client: u32,
    /// The server's control address, as the client dials it.
    pub control: u32,
    /// The next session that a kick starts.
    pub kicked: u32,
    /// Segments that nobody expected.
    pub odd: u32,
    /// How many data connections shall be opened.
    pub wanted: u64,
    /// How many were asked for.
    pub asked: u64,
    /// How many were answered by the server: so many setup times there are.
    pub opened: u64,
    /// How many were opened, used and closed.
    pub done: u64,
    /// When the first one was asked for, in nanoseconds.
    pub first: u64,
    /// When the last one was closed.
    pub last: u64,
}
