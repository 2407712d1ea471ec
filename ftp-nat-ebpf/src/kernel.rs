//! All calls into the kernel, and all that is unsafe about them.

pub mod frame;
pub mod helpers;
pub mod hook;
pub mod lookup;
pub mod route;
pub mod skb;
