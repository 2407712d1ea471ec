//! The user space of ftp-nat: the daemon and its command line.
//!
//! It sees no packet. It loads the datapath, gives it policy, ends what has lived too long and
//! shows what happens.
//!
//! A module uses only those above it in this list.

pub mod output;

pub mod model;

pub mod config;

pub mod cli;

pub mod kernel;

pub mod datapath;

pub mod policy;

pub mod metrics;

pub mod ipc;

pub mod client;

pub mod daemon;
pub mod doctor;
pub mod inspect;
pub mod probe;

pub mod commands;
