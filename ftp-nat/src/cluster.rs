//! Several gateways that share their sessions through Redis or Valkey: what one knows, the others have
//! in their tables, ready to go on with it.
//!
//! Each gateway writes a stream of its own and reads all others'. Gateways hold the truth: the engine
//! only carries it, nobody waits for it, and what it loses is asked for again.

pub mod decisions;
pub mod describe;
pub mod engine;
pub mod install;
pub mod node;
pub mod peers;
pub mod record;
pub mod status;
