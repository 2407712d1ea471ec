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
    /// Zero.
    pub pad: u32,
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
