//! What stands in headers: addresses and ports, checksums, sequence numbers.

pub mod addr;
pub mod checksum;
pub mod seq;
