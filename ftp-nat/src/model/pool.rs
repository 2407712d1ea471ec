//! A pool's server in words.

use ftp_nat_common::abi::{PoolServer, fault, health};

/// What it is, as `ftp-nat status` has it: `up`, `down`, `unknown` (not checked yet), `draining`.
pub const fn state(server: &PoolServer) -> &'static str {
    match (server.draining, server.health) {
        (1.., _) => "draining",
        (0, health::UP) => "up",
        (0, health::DOWN) => "down",
        (0, _) => "unknown",
    }
}

/// What its last check has met; none while it is not down.
pub fn why_down(server: &PoolServer) -> Option<String> {
    (server.health == health::DOWN).then(|| fault_text(server.fault, server.code))
}

/// A [`fault`] in words.
pub fn fault_text(number: u8, code: u16) -> String {
    match number {
        fault::REFUSED => "it refuses connections".to_owned(),
        fault::NO_ANSWER => "it does not answer".to_owned(),
        fault::UNREACHABLE => "there is no way to it".to_owned(),
        fault::SILENT => "it accepts connections, but sends no greeting".to_owned(),
        fault::CLOSED => "it hangs up without a greeting".to_owned(),
        fault::GREETING if code > 0 => format!("it greets with {code} instead of 220"),
        fault::GREETING => "it does not greet as an FTP server does".to_owned(),
        _ => String::new(),
    }
}
