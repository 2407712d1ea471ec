//! What happens to every packet of a flow: translated, and sent on.

pub mod clamp;
pub mod exit;
pub mod return_path;
pub mod send;
pub mod translate;
