//! Changed pieces of a stream, and what they do to its numbers.

pub mod edits;
pub mod text;
