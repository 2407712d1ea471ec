//! `ftp-nat inspect` on captures that the tests make themselves.

mod capture;
mod files;
mod sessions;
