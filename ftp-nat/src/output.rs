//! Writing for people and programs: tables, JSON, the log, exit codes.

pub mod columns;
pub mod failure;
pub mod human;
pub mod logging;
pub mod print;
pub mod text;
