//! What the fuzzer runs: see README.md.
//!
//! The targets themselves are also part of `ftp-nat-common`'s own tests, which run the seeds and
//! some thousand variations of them.

#[expect(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../../tests/protocol/conversation.rs"]
mod conversation;
pub mod targets;
#[path = "../../tests/protocol/tcp.rs"]
mod tcp;

use ftp_nat_common::host::pass;
