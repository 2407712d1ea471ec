//! What the rest of the crate talks about: connections, mappings, events. No input or output.

pub mod address;
pub mod cause;
pub mod connection;
pub mod event;
pub mod flow;
pub mod list;
pub mod mapping;
pub mod pool;
pub mod prefix;
pub mod sentence;
pub mod transfer;
pub mod xferlog;
