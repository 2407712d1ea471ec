//! The user space of ftp-nat: the daemon and its command line.
//!
//! It sees no packet. It loads the datapath, gives it policy, ends what has lived too long and
//! shows what happens.

pub mod attach;
pub mod bpf;
pub mod cause;
pub mod check;
pub mod cli;
pub mod clock;
pub mod completions;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod flow;
pub mod inspect;
pub mod kernel;
pub mod lifetime;
pub mod load;
pub mod lock;
pub mod logging;
pub mod man_pages;
pub mod maps;
pub mod metrics;
pub mod namespace;
mod netlink;
pub mod network;
pub mod object;
pub mod pins;
pub mod policy;
pub mod ports;
pub mod privileges;
pub mod probe;
pub mod reload;
pub mod request;
pub mod show;
pub mod state_dir;
pub mod sweep;
pub mod table;
pub mod top;
pub mod unload;
