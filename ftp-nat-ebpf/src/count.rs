//! Counting verdicts and telling about them.

use crate::kernel::jiffies;
use crate::maps;
use ftp_nat_common::abi::{Event, Session};
use ftp_nat_common::addr::Endpoint;
use ftp_nat_common::counter::Counter;

/// One more packet, or happening (`bytes` 0).
#[inline(always)]
pub fn add(counter: Counter, bytes: u32) {
    if let Some(count) = maps::COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot; programs on one CPU do not interrupt each other.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        }
    }
}

/// Tells the daemon; counts if nobody listens fast enough.
#[inline(always)]
pub fn tell(event: Event) {
    let Some(mut entry) = maps::EVENTS.reserve::<Event>(0) else {
        add(Counter::EventsLost, 0);
        return;
    };
    entry.write(event);
    entry.submit(0);
}

/// An event about a session.
#[inline(always)]
pub fn event(session: &Session, number: u32, what: u8, kind: u8, counter: Counter) -> Event {
    Event {
        time: jiffies(),
        what,
        kind,
        reason: counter as u16,
        session: number,
        peer: session.outside,
        inside: session.inside,
        public: session.public,
        pad: 0,
    }
}

/// An event about a packet of no session.
#[inline(always)]
pub fn stray(what: u8, counter: Counter, peer: Endpoint, public: Endpoint) -> Event {
    Event {
        time: jiffies(),
        what,
        kind: 0,
        reason: counter as u16,
        session: 0,
        peer,
        inside: Endpoint::default(),
        public,
        pad: 0,
    }
}
