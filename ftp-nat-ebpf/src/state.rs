//! What outlives a packet, and a CPU's scratch memory.

pub mod announced;
pub mod counters;
pub mod flows;
pub mod maps;
pub mod ports;
pub mod scratch;
pub mod shares;
