//! A control connection's TCP stream: which bytes of a segment are new, held, sent on.

pub mod driver;
pub mod segment;
