//! The user space of ftp-nat: the daemon and its command line.
//!
//! It sees no packet. It loads the datapath, gives it policy, ends what has lived too long and
//! shows what happens.
//!
//! What each module is for, and which may use which, is in xtask/rooms.toml: a module uses only
//! those that stand below it there.

pub mod cli;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod datapath;
pub mod doctor;
mod greeting;
pub mod inspect;
pub mod ipc;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod output;
pub mod policy;
pub mod probe;
mod ruleset;
