//! The protocol half as a whole: sessions of clients and servers through a gateway without a
//! network.

mod conversation;
mod conversations;
mod layout;
mod properties;
mod seeds;
mod segments;
mod states;
mod streams;
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;
mod tcp;
mod window;

use ftp_nat_common::host::pass;
