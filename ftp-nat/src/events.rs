//! What happened, as operators are told: in the log, by `ftp-nat events`, in the audit trail.

mod ring;
mod sentence;

pub use ring::Ring;

use ftp_nat_common::{
    abi::{Event, cause, event},
    counter::Counter,
    wire::addr::{Addr, Endpoint},
};
use jiff::Timestamp;
use log::Level;
use serde::{Deserialize, Serialize};

use crate::{clock::Clock, flow::State, flow::kind_name};

/// How a connection ended, as the sweep found it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// In which state.
    pub state: State,
    /// Bytes that came in, from the IP header on.
    pub inbound: u64,
    /// Bytes that went out.
    pub outbound: u64,
    /// Seconds from its first packet to its last.
    pub seconds: f64,
}

/// Something that happened, its place among all that happened, and when.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its number, from 1 when the daemon starts.
    pub number: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What the datapath said, or the sweep.
    pub event: Event,
    /// How a connection ended, where it is about that.
    pub ended: Option<Ended>,
}

impl Told {
    /// An event that happened at its own time, which lies a little back.
    pub fn new(number: u64, event: Event, ended: Option<Ended>, clock: &Clock) -> Self {
        let ago = clock.between(event.time, clock.now());
        let now = Timestamp::now();
        Self {
            number,
            time: now.checked_sub(ago).unwrap_or(now),
            event,
            ended,
        }
    }

    /// Whether there may be any number of it without anybody having been let in: what attackers and
    /// strangers cause.
    pub const fn is_noise(&self) -> bool {
        matches!(self.event.what, event::DENIED | event::PASSED)
    }

    /// Whether it belongs into an audit trail: who was let in, and who was not.
    pub const fn is_for_audit(&self) -> bool {
        !matches!(self.event.what, event::PASSED | event::REWRITTEN)
    }

    /// How much it matters.
    pub const fn level(&self) -> Level {
        match self.event.what {
            event::PASSED | event::REWRITTEN | event::ENDED => Level::Debug,
            _ => Level::Info,
        }
    }
}

/// An event, as JSON has it: one object a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// Its number since the daemon's start: a gap means that some were not told.
    #[serde(default)]
    pub number: u64,
    /// What happened: `session`, `opened`, `used`, `remapped`, `rewritten`, `denied`, `passed`,
    /// `encrypted`, `cleared`, `expired`, `ended`; `lost`, where events could not be told.
    pub event: String,
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
    /// Why: the metrics' own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The state in which a connection ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Bytes that came in, from the IP header on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound_bytes: Option<u64>,
    /// Bytes that went out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_bytes: Option<u64>,
    /// How long a connection was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How many events were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
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

impl From<&Told> for Record {
    fn from(told: &Told) -> Self {
        let of = &told.event;
        let word = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
        let address = |addr: Addr| (!addr.is_none()).then(|| addr.to_string());
        let port = |end: &Endpoint| Some(end.port.number()).filter(|number| *number != 0);
        let gives_reason = matches!(of.what, event::DENIED | event::PASSED | event::REMAPPED);
        let reason = Counter::ALL
            .get(usize::from(of.reason))
            .filter(|_| gives_reason)
            .map(|counter| counter.description())
            .map(|it| {
                if it.value.is_empty() {
                    it.family
                } else {
                    it.value
                }
            });
        let ended = told.ended.as_ref();
        Self {
            time: time_text(told.time),
            number: told.number,
            event: what_name(of.what).to_owned(),
            kind: (of.kind != 0).then(|| kind_name(of.kind).to_owned()),
            cause: word(cause_name(of.cause)),
            session: (of.session != 0).then(|| format!("{:08x}", of.session)),
            peer: address(of.peer.addr),
            peer_port: port(&of.peer),
            public: address(of.public.addr),
            public_port: port(&of.public),
            inside: address(of.inside.addr),
            inside_port: port(&of.inside),
            announced: address(of.announced),
            reason: reason.map(str::to_owned),
            state: ended.map(|it| it.state.name().to_owned()),
            inbound_bytes: ended.map(|it| it.inbound),
            outbound_bytes: ended.map(|it| it.outbound),
            seconds: ended.map(|it| (it.seconds * 1000.0).round() / 1000.0),
            count: None,
        }
    }
}

fn time_text(time: Timestamp) -> String {
    format!("{time:.3}")
}

const fn what_name(what: u8) -> &'static str {
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
        _ => "unknown",
    }
}

const fn cause_name(number: u8) -> &'static str {
    match number {
        cause::PASV => "227",
        cause::EPSV => "229",
        cause::PORT => "PORT",
        cause::EPRT => "EPRT",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::{abi::kind, wire::addr::Port};

    #[test]
    fn a_record_survives_the_way_through_json() {
        let event = Event {
            what: event::OPENED,
            kind: kind::PASSIVE,
            cause: cause::PASV,
            session: 0xab,
            peer: Endpoint::new(Addr::from_octets([192, 0, 2, 9]), Port::default()),
            inside: Endpoint::new(Addr::from_octets([10, 0, 0, 5]), Port::new(50_000)),
            public: Endpoint::new(Addr::from_octets([198, 51, 100, 1]), Port::new(61_000)),
            ..Event::default()
        };
        let told = Told {
            number: 7,
            time: Timestamp::UNIX_EPOCH,
            event,
            ended: None,
        };
        let record = Record::from(&told);
        let line = record.line();
        assert_eq!(
            line,
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"number\":7,\"event\":\"opened\",\
             \"kind\":\"passive\",\"cause\":\"227\",\"session\":\"000000ab\",\
             \"peer\":\"192.0.2.9\",\"public\":\"198.51.100.1\",\"public_port\":61000,\
             \"inside\":\"10.0.0.5\",\"inside_port\":50000}\n"
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    #[test]
    fn every_kind_of_event_has_a_name() {
        for what in event::SESSION..=event::ENDED {
            assert_ne!(what_name(what), "unknown", "{what}");
        }
    }
}
