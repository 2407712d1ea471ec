//! COUNTERS: packets and bytes for each counter and CPU.

use bytemuck::{Pod, Zeroable};

/// Packets and bytes that met one verdict, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Count {
    /// Packets, or events.
    pub packets: u64,
    /// Bytes of those packets, from the IP header on; 0 for events.
    pub bytes: u64,
}
