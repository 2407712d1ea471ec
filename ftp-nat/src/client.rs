//! How a command finds running daemons and the maps of loaded gateways.

pub mod call;
pub mod connections;
pub mod machine;
pub mod sessions;
pub mod view;
