//! The programs behind the hooks' tail calls: TCP on a port of FTP, and ICMP errors.

pub mod gateway;
pub mod icmp;
