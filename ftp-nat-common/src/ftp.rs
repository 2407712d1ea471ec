//! FTP: lines, commands and replies, a byte at a time.

mod announcement;
mod beginning;
pub mod command;
mod default_port;
mod dialogue;
pub mod doubt;
pub mod extended;
mod fit;
pub mod host_port;
pub mod identity;
pub mod line;
pub mod parser;
pub mod policy;
pub mod records;
mod refusal;
pub mod said;
mod spoil;
mod telnet;
pub mod tls;
