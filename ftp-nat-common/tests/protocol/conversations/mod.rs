//! Conversations: what a client and a server say, what arrives of it, what opens, and what is told.
//!
//! Each is held twice, with the same expectations: here by the protocol alone, and by the programs in the
//! kernel in `tests/tests/datapath/`. The two differ in the function `pass` at the root of the crate.

mod clients;
mod commands;
mod encryption;
mod field;
mod gating;
mod policy;
mod replies;
mod reports;
mod said;
