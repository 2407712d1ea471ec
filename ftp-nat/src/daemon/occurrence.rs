//! An event on its way through the daemon.
//!
//! An event has three forms, one for each part of its way:
//!
//! - [`Event`]: what the datapath writes to the ring, or the sweep makes. Numbers only, its time in
//!   the kernel's ticks.
//! - [`Occurrence`]: an event that the event bus has given a number and the time of day. It is
//!   as good as `Copy`, so that keeping and passing on thousands costs no allocation.
//! - [`Record`]: the JSON object that followers, the audit log and the log get. Made last.

use std::sync::Arc;

use ftp_nat_common::{
    abi::{Event, event},
    counter::Counter,
    wire::addr::{Addr, Endpoint},
};
use jiff::Timestamp;
use log::Level;

use crate::{
    kernel::clock::Clock,
    model::{
        event::{Record, cause_name, time_text, what_name},
        flow::{State, kind_name},
        pool,
        transfer::{Transfer, TransferFields},
        xferlog,
    },
};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sweep found it in this state, and took it out.
    Swept(State),
    /// Its ends began a new one, which has taken its place.
    Replaced,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Swept(state) => state.name(),
            Self::Replaced => "replaced",
        }
    }
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// Whether an operator has ended it.
    pub by_operator: bool,
    /// Bytes that came in, from the IP header on.
    pub inbound: u64,
    /// Bytes that went out.
    pub outbound: u64,
    /// Bytes of a data connection's streams, inward and outward, without headers; none where they are
    /// not known.
    pub payload: [Option<u64>; 2],
    /// Seconds from its first packet to its last.
    pub seconds: f64,
}

/// What a check of a server has met: [`PoolServer::fault`](ftp_nat_common::abi::PoolServer::fault), and
/// the code that it said instead of 220.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// [`ftp_nat_common::abi::fault`].
    pub fault: u8,
    /// 0: none.
    pub code: u16,
}

/// An event with its number and the time of day.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Its number, from 1 when the daemon starts.
    pub number: u64,
    /// When it happened, in UTC.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
    /// What an event alone does not say.
    pub detail: Detail,
}

/// What belongs to some events.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// How a connection ended.
    Ended(Ended),
    /// What is wrong with a pool's server.
    Fault(Fault),
    /// The event stands for so many like it, which were not published.
    Repeated(u64),
    /// What was transferred or changed.
    Transfer(Arc<Transfer>),
}

impl Detail {
    /// What the datapath says of a connection whose end it tells.
    pub fn of(event: &Event, clock: &Clock) -> Self {
        if event.what != event::ENDED {
            return Self::None;
        }
        Self::Ended(Ended {
            end: End::Replaced,
            by_operator: false,
            inbound: event.inbound,
            outbound: event.outbound,
            payload: [None; 2],
            seconds: clock.between(event.born, event.time).as_secs_f64(),
        })
    }
}

impl Occurrence {
    /// Gives an event a number and the time of day, from its time in ticks.
    pub fn new(number: u64, event: Event, detail: Detail, clock: &Clock) -> Self {
        let ago = clock.between(event.time, clock.now());
        let now = Timestamp::now();
        Self {
            number,
            time: now.checked_sub(ago).unwrap_or(now),
            event,
            detail,
        }
    }

    /// Whether clients that were never let in can cause any number of it.
    pub const fn is_noise(&self) -> bool {
        matches!(self.event.what, event::DENIED | event::PASSED)
    }

    /// Whether it tells a transfer or a change.
    pub const fn is_transfer(&self) -> bool {
        matches!(self.event.what, event::TRANSFER | event::CHANGE)
    }

    /// Its line in xferlog; none: it has none.
    pub fn xferlog_line(&self) -> Option<String> {
        let Detail::Transfer(transfer) = &self.detail else {
            return None;
        };
        xferlog::line(transfer, &transfer.client.to_string(), self.time)
    }

    /// Whether it belongs into an audit trail: who was let in, and who was not.
    pub const fn is_for_audit(&self) -> bool {
        !matches!(
            self.event.what,
            event::PASSED
                | event::REWRITTEN
                | event::SERVER_DOWN
                | event::SERVER_UP
                | event::SERVER_DRAINED
                | event::SERVER_UNDRAINED
        )
    }

    /// The level at which it is logged. Of a data connection that was let in, one line is logged at
    /// the usual level, and that is the one of its end.
    pub const fn level(&self) -> Level {
        match self.event.what {
            event::PASSED
            | event::REWRITTEN
            | event::OPENED
            | event::USED
            | event::REMAPPED
            | event::TRANSFER
            | event::CHANGE => Level::Debug,
            event::SERVER_DOWN => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl From<&Occurrence> for Record {
    fn from(occurrence: &Occurrence) -> Self {
        let of = &occurrence.event;
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
        let (mut ended, mut repeated, mut transfer, mut fault) = (None, None, None, None);
        match &occurrence.detail {
            Detail::None => {}
            Detail::Ended(it) => ended = Some(it),
            Detail::Repeated(count) => repeated = Some(*count),
            Detail::Fault(it) => fault = Some(pool::fault_text(it.fault, it.code)),
            Detail::Transfer(it) => transfer = Some(&**it),
        }
        let seconds = ended.map(|it| it.seconds);
        let seconds = seconds.or_else(|| {
            transfer
                .filter(|it| it.action.is_transfer())
                .map(|it| it.seconds)
        });
        Self {
            time: time_text(occurrence.time),
            number: occurrence.number,
            event: match repeated {
                Some(_) => "repeated".to_owned(),
                None => what_name(of.what).to_owned(),
            },
            of: repeated.map(|_| what_name(of.what).to_owned()),
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
            reason: match ended {
                Some(ended) if ended.by_operator => Some("operator".to_owned()),
                _ => fault.or(reason.map(str::to_owned)),
            },
            state: ended.map(|it| it.end.name().to_owned()),
            inbound_bytes: ended.map(|it| it.inbound),
            outbound_bytes: ended.map(|it| it.outbound),
            seconds: seconds.map(|it| (it * 1000.0).round() / 1000.0),
            count: repeated,
            transfer: transfer.map(|it| Box::new(TransferFields::from(it))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::{
        abi::{cause, kind},
        wire::addr::Port,
    };

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
        let occurrence = Occurrence {
            number: 7,
            time: Timestamp::UNIX_EPOCH,
            event,
            detail: Detail::None,
        };
        let record = Record::from(&occurrence);
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
}
