//! The commands, but for the large ones: those have rooms of their own.

pub mod check;
pub mod cluster;
pub mod completions;
pub mod end;
pub mod events;
pub mod flows;
pub mod list;
mod listing;
pub mod man_pages;
pub mod mappings;
pub mod metrics;
pub mod networks;
pub mod pool;
pub mod reload;
pub mod sessions;
pub mod status;
pub mod top;
pub mod trace;
pub mod unload;
