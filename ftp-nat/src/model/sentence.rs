//! An event in words.

use std::fmt;

use ftp_nat_common::counter::Counter;

use super::event::Record;
use crate::output::human;

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = &self.session {
            write!(f, "session {session}: ")?;
        }
        let peer = end(&self.peer, self.peer_port);
        let public = end(&self.public, self.public_port);
        let inside = end(&self.inside, self.inside_port);
        let cause = self.cause.as_deref().unwrap_or_default();
        match self.event.as_str() {
            "session" => write!(f, "began: {peer} at {public}, inside {inside}"),
            // The server's own connection to the client: its source is not known yet.
            "opened" | "expired" if self.public_port.is_none() => {
                let what = of(&self.event, cause);
                let may = if self.event == "opened" {
                    "may"
                } else {
                    "did not"
                };
                write!(f, "{what}: {inside} {may} connect to {peer} as {public}")
            }
            "opened" => write!(
                f,
                "{}: {peer} may connect to {public}, inside {inside}",
                of("opened", cause)
            ),
            "expired" => write!(
                f,
                "{}: {peer} never came to {public}, inside {inside}",
                of("expired", cause)
            ),
            "used" => write!(
                f,
                "{}: {peer} and {inside} are connected by {public}",
                of("used", cause)
            ),
            "remapped" => write!(
                f,
                "another port: {peer} has that of {inside} already, and gets {public}"
            ),
            "rewritten" => {
                let from = match &self.announced {
                    Some(address) => end(&Some(address.clone()), self.announced_port()),
                    None => format!("port {}", self.announced_port().unwrap_or_default()),
                };
                write!(f, "rewrote {cause}: {from} became {public}")
            }
            "denied" | "passed" => self.reasoned(f, cause, &peer, &public),
            "encrypted" => write!(f, "encrypted from here on: {peer} at {public}"),
            "cleared" => write!(f, "clear text again: {peer} at {public}"),
            "ended" => {
                write!(
                    f,
                    "ended ({}, {}): {peer} and {inside} by {public}",
                    self.kind.as_deref().unwrap_or("connection"),
                    self.state.as_deref().unwrap_or("closed")
                )?;
                if self.reason.as_deref() == Some("operator") {
                    f.write_str(", by the operator")?;
                }
                if let (Some(inbound), Some(outbound)) = (self.inbound_bytes, self.outbound_bytes) {
                    let time = human::duration(self.seconds.unwrap_or_default());
                    let (inbound, outbound) = (human::bytes(inbound), human::bytes(outbound));
                    write!(f, ", {inbound} in, {outbound} out in {time}")?;
                }
                Ok(())
            }
            "transfer" | "change" => self.transferred(f, &peer, &inside),
            "server_down" => {
                let why = self.reason.as_deref().unwrap_or_default();
                write!(f, "server {inside} of {public} is down: {why}")
            }
            "server_up" => write!(f, "server {inside} of {public} is up again"),
            "server_drained" => write!(
                f,
                "server {inside} of {public} is drained: new sessions go elsewhere"
            ),
            "server_undrained" => {
                write!(f, "server {inside} of {public} gets new sessions again")
            }
            "repeated" => {
                let (count, of) = (self.count.unwrap_or(0), self.of.as_deref());
                let of = of.unwrap_or_default();
                let from = self.peer.as_deref().unwrap_or("many addresses");
                write!(f, "{count} more like this in 10 s: {of}, from {from}")?;
                self.explain(f, of)
            }
            "lost" => write!(f, "{} events are missing here", self.count.unwrap_or(0)),
            other => write!(f, "{other}: peer {peer}, public {public}, inside {inside}"),
        }
    }
}

impl Record {
    /// The port that was announced: where it stands depends on who listens.
    fn announced_port(&self) -> Option<u16> {
        self.inside_port.or(self.peer_port)
    }

    /// Who transferred or changed what.
    fn transferred(&self, f: &mut fmt::Formatter<'_>, peer: &str, inside: &str) -> fmt::Result {
        let Some(told) = &self.transfer else {
            return f.write_str(&self.event);
        };
        if let Some(user) = &told.user {
            write!(f, "{user} ")?;
        }
        let command = told.command.as_deref().unwrap_or(told.action.name());
        write!(f, "({peer}, {inside}) {command}")?;
        if let Some(from) = &told.from {
            write!(f, " \"{from}\" ->")?;
        }
        if let Some(path) = &told.path {
            write!(f, " \"{path}\"")?;
        }
        if told.path_cut {
            f.write_str("..")?;
        }
        if let Some(directory) = &told.directory {
            write!(f, " in \"{directory}\"")?;
        }
        if let Some(bytes) = told.bytes {
            let time = human::duration(self.seconds.unwrap_or_default());
            write!(f, ", {} in {time}", human::bytes(bytes))?;
        }
        if told.encrypted {
            f.write_str(", encrypted")?;
        }
        match told.code {
            Some(code) => write!(f, ": {} ({code})", told.outcome.name()),
            None => write!(f, ": {}", told.outcome.name()),
        }
    }

    fn reasoned(
        &self,
        f: &mut fmt::Formatter<'_>,
        cause: &str,
        peer: &str,
        public: &str,
    ) -> fmt::Result {
        f.write_str(&self.event)?;
        match (cause, &self.announced) {
            ("", _) => write!(f, ": {peer} at {public}")?,
            (_, Some(address)) => {
                let port = if self.kind.as_deref() == Some("active") {
                    self.peer_port.or(self.inside_port)
                } else {
                    self.inside_port
                };
                write!(f, ": {cause} with {}", end(&Some(address.clone()), port))?;
            }
            (_, None) => {
                let port = self.announced_port().unwrap_or_default();
                write!(f, ": {cause} with port {port}")?;
            }
        }
        self.explain(f, &self.event)
    }

    /// The reason for an event of this name, where it has one.
    fn explain(&self, f: &mut fmt::Formatter<'_>, event: &str) -> fmt::Result {
        let counter = Counter::ALL
            .iter()
            .map(|it| it.description())
            .find(|it| it.family == event && Some(it.value) == self.reason.as_deref());
        let Some(counter) = counter else {
            return Ok(());
        };
        write!(f, ": {}", uncapitalised(counter.help))
    }
}

/// A help text in the middle of a line: "Not translated" but "PORT and EPRT".
fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => text.to_owned(),
    }
}

/// What happened, and by which words where they are known.
fn of(what: &str, cause: &str) -> String {
    if cause.is_empty() {
        what.to_owned()
    } else {
        format!("{what} by {cause}")
    }
}

/// An end; without an address it may be anybody, without a port any port.
fn end(address: &Option<String>, port: Option<u16>) -> String {
    match (address, port) {
        (None, None) => "anybody".into(),
        (None, Some(port)) => format!("anybody's port {port}"),
        (Some(address), None) => address.clone(),
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: &str) -> Record {
        Record {
            event: event.into(),
            kind: Some("passive".into()),
            cause: Some("227".into()),
            session: Some("000000ab".into()),
            peer: Some("192.0.2.9".into()),
            public: Some("198.51.100.1".into()),
            public_port: Some(61000),
            inside: Some("10.0.0.5".into()),
            inside_port: Some(50000),
            ..Record::default()
        }
    }

    #[test]
    fn events_are_sentences() {
        let active = Record {
            kind: Some("active".into()),
            cause: Some("PORT".into()),
            peer_port: Some(45000),
            public_port: None,
            inside_port: None,
            ..record("opened")
        };
        let cases = [
            (
                record("opened"),
                "session 000000ab: opened by 227: 192.0.2.9 may connect to 198.51.100.1:61000, \
                 inside 10.0.0.5:50000",
            ),
            (
                active.clone(),
                "session 000000ab: opened by PORT: 10.0.0.5 may connect to 192.0.2.9:45000 as \
                 198.51.100.1",
            ),
            (
                Record {
                    announced: Some("0.0.0.0".into()),
                    ..record("rewritten")
                },
                "session 000000ab: rewrote 227: 0.0.0.0:50000 became 198.51.100.1:61000",
            ),
            (
                Record {
                    announced: Some("10.9.9.9".into()),
                    peer_port: Some(25),
                    reason: Some("bounce".into()),
                    event: "denied".into(),
                    ..active
                },
                "session 000000ab: denied: PORT with 10.9.9.9:25: PORT and EPRT that name somebody \
                 else's address (RFC 2577)",
            ),
            (
                Record {
                    cause: None,
                    session: None,
                    peer_port: Some(40000),
                    reason: Some("unannounced".into()),
                    ..record("denied")
                },
                "denied: 192.0.2.9:40000 at 198.51.100.1:61000: not translated: connections to a \
                 port that was not announced to that peer",
            ),
            (
                Record {
                    peer_port: Some(4000),
                    state: Some("closed".into()),
                    inbound_bytes: Some(52),
                    outbound_bytes: Some(1_500_000),
                    seconds: Some(2.04),
                    ..record("ended")
                },
                "session 000000ab: ended (passive, closed): 192.0.2.9:4000 and 10.0.0.5:50000 by \
                 198.51.100.1:61000, 52 B in, 1.5 MB out in 2.0s",
            ),
            (
                Record {
                    event: "repeated".into(),
                    of: Some("denied".into()),
                    reason: Some("unannounced".into()),
                    peer: Some("192.0.2.9".into()),
                    count: Some(980),
                    ..Record::default()
                },
                "980 more like this in 10 s: denied, from 192.0.2.9: not translated: connections \
                 to a port that was not announced to that peer",
            ),
            (Record::lost(3), "3 events are missing here"),
        ];
        for (record, sentence) in cases {
            assert_eq!(record.to_string(), sentence);
        }
    }
}
