//! Where packets enter: TC's hooks and XDP's.

pub mod tc;
pub mod xdp;
