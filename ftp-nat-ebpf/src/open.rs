//! Opening connections: control connections by their SYN, data connections by what announced them.

mod alias;
pub mod connection;
mod dialogue;
mod half_open;
pub mod handshake;
pub mod learned;
pub mod learning;
mod lists;
pub mod mapping;
mod permit;
pub mod pinhole;
mod pool;
pub mod port_search;
mod range;
mod refusal;
mod reserved;
pub mod session;
mod source;
pub mod syn;
mod takeover;
