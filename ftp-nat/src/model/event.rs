//! What happened, as operators are told: in the log, by `ftp-nat events`, in the audit trail.

use ftp_nat_common::abi::{cause, event};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::transfer::TransferFields;

/// An event, as JSON has it: one object a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// Its number since the daemon's start: a gap means that some were not told.
    #[serde(default)]
    pub number: u64,
    /// What happened: `session`, `opened`, `used`, `remapped`, `rewritten`, `denied`, `passed`,
    /// `encrypted`, `cleared`, `expired`, `ended`, `transfer`, `change`; `server_down`, `server_up`,
    /// `server_drained`, `server_undrained` of a pool's server; `repeated` for a sum of events that
    /// were alike; `lost`, where events could not be told.
    pub event: String,
    /// Of a sum: what happened again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// `control`, `passive` or `active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The words that announced the connection: `227`, `229`, `PORT` or `EPRT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The control connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The end outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_port: Option<u16>,
    /// The public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// The public port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// The end behind the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_port: Option<u16>,
    /// The address that was announced, before it was rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<String>,
    /// Why: the metrics' own word; of a connection that an operator has ended: `operator`; of a server
    /// that is down: what its last check met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state in which a connection ended, or `replaced` if its ends began a new one instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Bytes that came in, from the IP header on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_bytes: Option<u64>,
    /// Bytes that went out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_bytes: Option<u64>,
    /// How long a connection was used, or a transfer took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How many events were lost, or summed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What was transferred or changed.
    #[serde(flatten)]
    pub transfer: Option<Box<TransferFields>>,
}

impl Record {
    /// A note that events are missing here.
    pub fn lost(count: u64) -> Self {
        Self {
            time: time_text(Timestamp::now()),
            event: "lost".into(),
            count: Some(count),
            ..Self::default()
        }
    }

    /// As a line of JSON.
    pub fn line(&self) -> String {
        // Strings and numbers only: nothing that could fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// A time as records write it: RFC 3339 in UTC, to a millisecond.
pub fn time_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// The name of an [`event`]'s kind.
pub const fn what_name(what: u8) -> &'static str {
    match what {
        event::SESSION => "session",
        event::OPENED => "opened",
        event::USED => "used",
        event::REMAPPED => "remapped",
        event::REWRITTEN => "rewritten",
        event::DENIED => "denied",
        event::PASSED => "passed",
        event::ENCRYPTED => "encrypted",
        event::CLEARED => "cleared",
        event::EXPIRED => "expired",
        event::ENDED => "ended",
        event::TRANSFER => "transfer",
        event::CHANGE => "change",
        event::SERVER_DOWN => "server_down",
        event::SERVER_UP => "server_up",
        event::SERVER_DRAINED => "server_drained",
        event::SERVER_UNDRAINED => "server_undrained",
        _ => "unknown",
    }
}

/// The words that announced a connection, by its [`cause`]; empty for none.
pub const fn cause_name(number: u8) -> &'static str {
    match number {
        cause::PASV => "227",
        cause::EPSV => "229",
        cause::PORT => "PORT",
        cause::EPRT => "EPRT",
        cause::DEFAULT => "the default data port",
        cause::TLS => "an answer inside TLS",
        cause::TAKEOVER => "another gateway's",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_has_a_name() {
        let of_daemon = [event::TRANSFER, event::CHANGE];
        let of_servers = event::SERVER_DOWN..=event::SERVER_UNDRAINED;
        let all = (event::SESSION..=event::ENDED).chain(of_daemon);
        for what in all.chain(of_servers) {
            assert_ne!(what_name(what), "unknown", "{what}");
        }
    }
}
