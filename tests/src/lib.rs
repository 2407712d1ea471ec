//! The lab: network namespaces, real FTP servers and real FTP clients.
//!
//! ```text
//!  outside(0)  198.51.100.20 ─┐                 ┌─ inside(0)  10.0.0.5
//!  outside(1)  198.51.100.21 ─┴─ wan│router│lan ─┴─ inside(1)  10.0.0.6
//!                      198.51.100.1        10.0.0.1
//! ```
//!
//! Everything lives in namespaces of its own and goes away with its guard: when it is dropped, when
//! the test panics, on Ctrl-C and SIGTERM; what a killed process left behind is removed by the next
//! one. Nothing waits without a limit.
//!
//! The lab needs root and the programs of [`PROGRAMS`]; `cargo xtask test` installs them.

pub mod attack;
pub mod behind;
pub mod bpffs;
pub mod capture;
pub mod client;
pub mod control;
pub mod dialogue;
pub mod filezilla;
pub mod firewall;
pub mod fleet;
pub mod foreign;
pub mod gateway;
pub mod lab;
pub mod link;
pub mod medium;
pub mod namespace;
pub mod netns;
pub mod process;
pub mod prometheus;
mod reaper;
pub mod replies;
pub mod scratch;
pub mod scripted;
pub mod server;
pub mod terminal;
pub mod tools;
pub mod transfers;
pub mod unpacked;
pub mod uplinks;
pub mod xferlog;

/// The programs that the lab runs, each with the Debian package that has it. (The servers are
/// another matter, see [`server`]; and [`medium`] knows some that only `cargo xtask vm` needs.)
pub const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("ethtool", "ethtool"),
    ("fail2ban-client", "fail2ban"),
    ("ip", "iproute2"),
    ("iptables-restore", "iptables"),
    ("lftp", "lftp"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("python3", "python3"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("tnftp", "tnftp"),
    ("wget", "wget"),
];
