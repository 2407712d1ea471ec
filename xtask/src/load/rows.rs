//! What was seen, for people.

/// The rows of a table: what, and what came of it.
pub(super) type Rows = Vec<(&'static str, String)>;
