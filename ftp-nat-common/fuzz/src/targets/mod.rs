//! One target a file: each takes any bytes and panics where a promise is broken.

pub mod commands;
pub mod finders;
pub mod replies;
pub mod segments;
pub mod splits;
