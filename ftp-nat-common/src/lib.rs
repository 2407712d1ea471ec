//! What the datapath and the daemon of ftp-nat share.
//!
//! The protocol half ([`wire`], [`edit`], [`ftp`], [`stream`], [`gate`]) is the one source that runs
//! in the kernel, in host tests, in the fuzzer and in `ftp-nat inspect`: it takes one byte at a
//! time, never indexes with an unproven index and never panics, because the kernel's verifier would
//! refuse it otherwise. The other half ([`abi`], [`counter`]) is the layout of every map that both
//! sides touch.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used,
    )
)]

#[cfg(feature = "host")]
extern crate std;

pub mod abi;
pub mod bucket;
pub mod counter;
pub mod edit;
pub mod ftp;
pub mod gate;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod masked;
pub mod stream;
pub mod wire;
