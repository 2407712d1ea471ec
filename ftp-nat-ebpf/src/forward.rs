//! What happens to every packet of a flow: translated, and sent on.

pub mod clamp;
pub mod send;
pub mod translate;
