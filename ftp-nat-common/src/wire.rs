//! What stands in headers: addresses and ports, checksums, sequence numbers, TCP flags.

pub mod addr;
pub mod checksum;
pub mod seq;
pub mod tcp;
pub mod telnet;
