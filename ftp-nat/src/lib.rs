//! The user space of ftp-nat: the daemon and its command line.
//!
//! It sees no packet. It loads the datapath, gives it policy, ends what has lived too long and
//! shows what happens.

pub mod cli;
pub mod config;
pub mod exit;
pub mod object;
