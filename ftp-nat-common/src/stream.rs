//! A control connection's TCP stream: which segments TCP would believe, and which bytes of one are
//! new, held, sent on.

pub mod adopt;
pub mod driver;
pub mod handshake;
pub mod hops;
pub mod segment;
pub mod timestamp;
pub mod window;
