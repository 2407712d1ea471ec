//! The datapath's events as lines of the log.

use std::fmt;

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use ftp_nat_common::{
    abi::{Event, event},
    addr::Endpoint,
    counter::Counter,
};
use log::Level;
use tokio::io::{Interest, unix::AsyncFd};

use crate::flow::kind_name;

/// The ring that events come out of.
pub struct Events(AsyncFd<RingBuf<MapData>>);

impl Events {
    /// Listens to a ring.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn new(ring: RingBuf<MapData>) -> anyhow::Result<Self> {
        // SAFETY: the descriptor is that of the map in `ring`, which stays open as long as it.
        unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map(Self)
            .map_err(|error| error.into_parts().1)
            .context("cannot listen for events")
    }

    /// Waits for events and shows all that have come.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub async fn next(&mut self, mut show: impl FnMut(&Event)) -> anyhow::Result<()> {
        let mut ready = self
            .0
            .readable_mut()
            .await
            .context("cannot wait for events")?;
        let ring = ready.get_inner_mut();
        while let Some(item) = ring.next() {
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                show(&event);
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

/// How much an event matters.
pub const fn level(of: &Event) -> Level {
    match of.what {
        event::DENIED | event::REMAPPED => Level::Info,
        event::PASSED | event::REWRITTEN => Level::Debug,
        _ => Level::Info,
    }
}

/// An event as a line.
pub struct Line<'e>(pub &'e Event);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(of) = self;
        let what = match of.what {
            event::SESSION => "session began",
            event::OPENED => "opened",
            event::USED => "used",
            event::REMAPPED => "opened on another port",
            event::REWRITTEN => "rewritten",
            event::DENIED => "denied",
            event::PASSED => "passed",
            event::ENCRYPTED => "encrypted from here on",
            event::CLEARED => "clear text again",
            _ => "happened",
        };
        f.write_str(what)?;
        if of.kind != 0 && of.what != event::SESSION {
            write!(f, " ({})", kind_name(of.kind))?;
        }
        write!(f, ": peer {}", End(&of.peer))?;
        if of.public != Endpoint::default() {
            write!(f, ", public {}", End(&of.public))?;
        }
        if of.inside != Endpoint::default() {
            write!(f, ", inside {}", End(&of.inside))?;
        }
        if of.session != 0 {
            write!(f, ", session {:08x}", of.session)?;
        }
        let tells_why = matches!(of.what, event::DENIED | event::PASSED | event::REMAPPED);
        if tells_why && let Some(counter) = Counter::ALL.get(usize::from(of.reason)) {
            let reason = counter.description().help;
            let mut letters = reason.chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            write!(f, ": {}{}", first.unwrap_or_default(), letters.as_str())?;
        }
        Ok(())
    }
}

/// An end; a port of 0 is not known.
struct End<'e>(&'e Endpoint);

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(end) = self;
        if end.addr.is_none() {
            f.write_str("anybody")
        } else if end.port.number() == 0 {
            end.addr.fmt(f)
        } else {
            end.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::{
        abi::kind,
        addr::{Addr, Port},
    };

    fn end(octets: [u8; 4], port: u16) -> Endpoint {
        Endpoint::new(Addr::from_octets(octets), Port::new(port))
    }

    #[test]
    fn an_opening_names_everybody() {
        let opened = Event {
            what: event::OPENED,
            kind: kind::PASSIVE,
            session: 0xab,
            peer: end([192, 0, 2, 9], 0),
            inside: end([10, 0, 0, 5], 50000),
            public: end([198, 51, 100, 1], 50000),
            ..Event::default()
        };
        assert_eq!(
            Line(&opened).to_string(),
            "opened (passive): peer 192.0.2.9, public 198.51.100.1:50000, inside 10.0.0.5:50000, \
             session 000000ab"
        );
    }

    #[test]
    fn a_denial_says_why() {
        let denied = Event {
            what: event::DENIED,
            reason: Counter::DeniedUnannounced as u16,
            peer: end([192, 0, 2, 66], 40000),
            public: end([198, 51, 100, 1], 50000),
            ..Event::default()
        };
        assert_eq!(
            Line(&denied).to_string(),
            "denied: peer 192.0.2.66:40000, public 198.51.100.1:50000: not translated: \
             connections to a port that was not announced to that peer"
        );
    }
}
