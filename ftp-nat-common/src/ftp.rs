//! FTP: lines, commands and replies, a byte at a time.

mod announcement;
mod dialogue;
pub mod extended;
mod fit;
pub mod host_port;
pub mod line;
pub mod parser;
mod telnet;
pub mod tls;
