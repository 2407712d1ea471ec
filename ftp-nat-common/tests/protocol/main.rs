//! The protocol half as a whole: sessions of clients and servers through a gateway without a
//! network.

mod clients;
mod commands;
mod conversation;
mod encryption;
mod field;
mod gating;
mod layout;
mod policy;
mod properties;
mod replies;
mod reports;
mod said;
mod seeds;
mod segments;
mod states;
mod streams;
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;
mod tcp;
mod window;
