//! Between a running daemon and the commands: who it is, requests and answers.

pub mod connection;
pub mod lock;
pub mod message;
pub mod runtime_dir;
pub mod trust;
