//! Attacks on the wire: packets that no honest end sends, from whatever source, one at a time or
//! as many as the machine can make.

pub mod crowd;
pub mod flood;
pub mod numbers;
pub mod raw_client;
pub mod segment;
pub mod wire;
