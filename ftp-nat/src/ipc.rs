//! Between a running daemon and the commands: who it is, requests and answers.

pub mod lock;
pub mod message;
