//! Where packets enter: TC's hooks, XDP's, and the search for a socket of this machine's own.

pub mod lookup;
pub mod tc;
pub mod xdp;
