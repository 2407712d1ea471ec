//! Which of many things a command is asked to show. Each part of a filter is a group of options of
//! its own; a command takes those that make sense for what it shows. Different options must all
//! fit; of one option that is given several times, one value must.

use std::{net::IpAddr, time::Duration};

use clap::{Args, builder::PossibleValuesParser};
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::model::{
    flow::{State, kind_name},
    prefix::Prefix,
};

/// The ends of a connection.
#[derive(Clone, Debug, Default, Args)]
pub struct EndsFilter {
    /// Only with this address outside, or one of this network: ADDR or ADDR/BITS (repeatable)
    #[arg(long, value_name = "NET")]
    pub peer: Vec<Prefix>,
    /// Only with this FTP server, or one of this network: ADDR or ADDR/BITS (repeatable)
    #[arg(long, value_name = "NET")]
    pub server: Vec<Prefix>,
}

impl EndsFilter {
    /// Whether these ends fit: the one outside, and those that may be the server's. None: not known.
    pub fn admits(&self, peer: Option<IpAddr>, servers: &[Option<IpAddr>]) -> bool {
        let is_in = |networks: &[Prefix], address: Option<IpAddr>| {
            address.is_some_and(|address| {
                let host = Prefix::of(address, u8::MAX);
                networks.iter().any(|network| network.contains(&host))
            })
        };
        (self.peer.is_empty() || is_in(&self.peer, peer))
            && (self.server.is_empty() || servers.iter().any(|it| is_in(&self.server, *it)))
    }
}

/// What kind of connection.
#[derive(Clone, Debug, Default, Args)]
pub struct KindFilter {
    /// Only connections of this kind (repeatable)
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(kinds()))]
    pub kind: Vec<String>,
}

fn kinds() -> [&'static str; 3] {
    use ftp_nat_common::abi::kind;
    [kind::CONTROL, kind::PASSIVE, kind::ACTIVE].map(kind_name)
}

impl KindFilter {
    /// Whether a kind of this name fits.
    pub fn admits(&self, kind: &str) -> bool {
        self.kind.is_empty() || self.kind.iter().any(|wanted| wanted == kind)
    }
}

/// How far a connection is.
#[derive(Clone, Debug, Default, Args)]
pub struct StateFilter {
    /// Only in this state (repeatable)
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(states()))]
    pub state: Vec<String>,
    /// Those too whose ends have closed or broken off the connection: they are known for some
    /// seconds more
    #[arg(long, visible_alias = "closed")]
    pub all: bool,
}

fn states() -> [&'static str; State::ALL.len()] {
    State::ALL.map(State::name)
}

impl StateFilter {
    /// Whether a connection in this state fits; none: it is gone.
    pub fn admits(&self, state: Option<State>) -> bool {
        if self.state.is_empty() {
            return self.all || state.is_some_and(State::is_alive);
        }
        let name = state.map_or("", State::name);
        self.state.iter().any(|wanted| wanted == name)
    }
}

/// Which session.
#[derive(Clone, Debug, Default, Args)]
pub struct SessionFilter {
    /// Only those of this session, by its number in `ftp-nat sessions`
    #[arg(long, value_name = "NUMBER")]
    pub session: Option<String>,
}

impl SessionFilter {
    /// Whether a session of this name fits; none: no session.
    pub fn admits(&self, session: Option<&str>) -> bool {
        self.session.is_none() || self.session.as_deref() == session
    }
}

/// Since when.
#[derive(Clone, Debug, Default, Args)]
pub struct SinceFilter {
    /// Only what began or happened since: a time span back from now (90s, 15m, 2h, 1d) or a time
    /// (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
}

/// The time from which on things are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(Timestamp);

impl SinceFilter {
    /// Whether something that began or happened so many seconds ago fits.
    pub fn admits_age(&self, seconds: f64) -> bool {
        self.since.is_none_or(|since| {
            let ago = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let time = Timestamp::now().checked_sub(ago);
            time.is_ok_and(|time| time >= since.0)
        })
    }

    /// Whether something that happened at this time (RFC 3339) fits.
    pub fn admits_time(&self, time: &str) -> bool {
        self.since
            .is_none_or(|since| time.parse::<Timestamp>().is_ok_and(|it| it >= since.0))
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since(time));
    }
    let wrong =
        || format!("{text:?} is neither a time span (90s, 15m, 2h, 1d) nor a time (RFC 3339)");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let span = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    if span.is_negative() {
        return Err(wrong());
    }
    Timestamp::now()
        .checked_sub(span)
        .map(Since)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn ends_fit_by_address_and_by_network() {
        let filter = |peer: &[&str], server: &[&str]| {
            let networks = |of: &[&str]| of.iter().map(|it| it.parse().unwrap()).collect();
            EndsFilter {
                peer: networks(peer),
                server: networks(server),
            }
        };
        let (peer, server) = (ip("198.51.100.20"), [ip("10.0.0.5")]);
        for (wanted, fits) in [
            (filter(&[], &[]), true),
            (filter(&["198.51.100.20"], &[]), true),
            (filter(&["198.51.100.21"], &[]), false),
            (
                filter(&["192.0.2.1", "198.51.100.0/24"], &["10.0.0.0/8"]),
                true,
            ),
            (filter(&["198.51.100.0/24"], &["10.0.0.6"]), false),
            (filter(&["::/0"], &[]), false),
        ] {
            assert_eq!(wanted.admits(peer, &server), fits, "{wanted:?}");
        }
        assert!(!filter(&["0.0.0.0/0"], &[]).admits(None, &server));
        assert!(filter(&[], &["fd00::/8"]).admits(peer, &[None, ip("fd00::5")]));
    }

    #[test]
    fn what_has_ended_is_shown_when_it_is_asked_for() {
        let filter = |states: &[&str], all| StateFilter {
            state: states.iter().map(ToString::to_string).collect(),
            all,
        };
        for (wanted, state, fits) in [
            (filter(&[], false), Some(State::Established), true),
            (filter(&[], false), Some(State::HalfClosed), true),
            (filter(&[], false), Some(State::Closed), false),
            (filter(&[], false), None, false),
            (filter(&[], true), None, true),
            (filter(&["closed"], false), Some(State::Closed), true),
            (
                filter(&["closed", "reset"], true),
                Some(State::Opening),
                false,
            ),
        ] {
            assert_eq!(wanted.admits(state), fits, "{wanted:?} {state:?}");
        }
    }

    #[test]
    fn a_span_counts_back_from_now_and_a_time_is_itself() {
        let filter = |text: &str| SinceFilter {
            since: Some(since(text).unwrap()),
        };
        assert!(filter("15m").admits_age(890.0) && !filter("15m").admits_age(910.0));
        assert!(filter("1d").admits_age(86_000.0) && !filter("90s").admits_age(f64::INFINITY));
        let fixed = filter("2026-01-31T12:00:00Z");
        assert!(fixed.admits_time("2026-01-31T12:00:00.001Z"));
        assert!(!fixed.admits_time("2026-01-31T11:59:59Z") && !fixed.admits_time("nonsense"));
        for wrong in ["", "tomorrow", "-5m", "12"] {
            assert!(since(wrong).unwrap_err().contains("15m"), "{wrong:?}");
        }
    }
}
