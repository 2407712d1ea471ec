//! The user space of ftp-nat.

pub mod object;
