//! PORTS: a byte and a bit for each TCP port.

use crate::wire::addr::Port;
use bytemuck::{Pod, Zeroable};

/// Bits of one byte of the PORTS map, the one look that tells FTP from the rest.
///
/// The low six bits are the epoch of the last opening on that port, from 1; the daemon's sweep
/// clears ports of old epochs that no flow uses.
pub mod port {
    /// A published control port.
    pub const PUBLISHED: u8 = 0x80;
    /// A control port of outside servers that our clients use.
    pub const MASQUERADED: u8 = 0x40;
    /// The epoch's bits.
    pub const EPOCH: u8 = 0x3f;
    /// How many epochs have a number.
    const EPOCHS: u64 = EPOCH as u64;
    /// Length of an epoch in seconds.
    pub const EPOCH_SECONDS: u64 = 32;

    /// The epoch of a moment.
    #[inline(always)]
    pub const fn epoch(jiffies: u64, hz: u32) -> u8 {
        let hz = if hz == 0 { 1 } else { hz as u64 };
        match jiffies.checked_div(hz.wrapping_mul(EPOCH_SECONDS)) {
            Some(epoch) => ((epoch % EPOCHS) as u8).wrapping_add(1),
            None => 1,
        }
    }
}

/// The PORTS map's one value. A port's place in it is its [`Port::place`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ports {
    /// A byte a port: bits of [`port`]; written by the datapath and by the daemon.
    pub marks: [u8; 65536],
    /// A bit a port, see [`reserved_bit`]; written by the daemon. Set: RESERVED may have an entry of that
    /// port, at some address.
    pub reserved: [u8; 8192],
}

/// The byte of [`Ports::reserved`] that a port's bit is in, and that bit.
#[inline(always)]
pub const fn reserved_bit(of: Port) -> (usize, u8) {
    (of.place() >> 3, 1 << (of.place() & 7))
}
