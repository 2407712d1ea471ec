//! Ends, sessions and times as tables and JSON write them.

use std::net::IpAddr;

use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// An address; none for none.
pub fn ip(addr: Addr) -> Option<IpAddr> {
    (!addr.is_none()).then(|| addr.to_ip())
}

/// An address, for JSON; none for none.
pub fn address(addr: Addr) -> Option<String> {
    ip(addr).map(|ip| ip.to_string())
}

/// An end's port, for JSON; none where it is not known.
pub fn port(end: &Endpoint) -> Option<u16> {
    let number = end.port.number();
    (number != 0).then_some(number)
}

/// An end, for people.
pub fn end_text(end: &Endpoint) -> String {
    match (end.addr.is_none(), port(end)) {
        (true, _) => "-".into(),
        (false, None) => end.addr.to_string(),
        (false, Some(_)) => end.to_string(),
    }
}

/// A session's number, as the log, the tables and JSON write it.
pub fn session_name(number: u32) -> String {
    format!("{number:08x}")
}

/// Seconds to a tenth: more is noise.
pub fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
