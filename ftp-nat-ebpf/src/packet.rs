//! Reading a packet's headers.
//!
//! Straight from the packet where its linear part holds them, which is nearly always; packets of
//! some drivers have to be pulled first. Nothing here is trusted: lengths that lie, options,
//! and fragments end in a [`segment::Reading`] that says so; packets with extension headers are not read.

pub mod checksum;
pub mod extension;
pub mod headers;
pub mod icmp;
pub mod options;
pub mod reach;
pub mod segment;
