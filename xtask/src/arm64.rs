//! Another architecture than this machine's: a compiler that builds for it.
//!
//! rustup's toolchains have the standard library of their own machine only; Debian's rustc takes
//! that of Debian's arm64 package.

mod compiler;

pub(crate) use self::compiler::{Compiler, TARGET};
