//! Clients that come near their bound of data connections: what has ended is looked for before one of them
//! is refused.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ftp_nat_common::abi::{Event, event, share_of_session};

use crate::datapath::maps::Maps;

/// Of so many connections that begin, one client's share is looked at.
const SAMPLE: u32 = 16;

/// Who looks at clients' shares.
pub(super) struct Nearing {
    maps: Arc<Maps>,
    begun: AtomicU32,
}

impl Nearing {
    /// Of the clients in these tables.
    pub(super) fn new(maps: Arc<Maps>) -> Self {
        Self {
            maps,
            begun: AtomicU32::new(0),
        }
    }

    /// Whether the client of a connection that has begun may soon be refused another one. Only some are
    /// looked at: who begins many is among them.
    pub(super) fn is_near(&self, event: &Event) -> bool {
        if event.what != event::USED {
            return false;
        }
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        // A table that cannot be read is the sweep's to tell.
        begun.is_multiple_of(SAMPLE) && self.is_half_full(event.session).unwrap_or(false)
    }

    fn is_half_full(&self, session: u32) -> io::Result<bool> {
        let Some(session) = self.maps.sessions.get(&session)? else {
            return Ok(false);
        };
        let share = self.maps.shares.get(&share_of_session(&session))?;
        let most = session.most_connections;
        Ok(most != 0 && share.is_some_and(|share| share.connections > most / 2))
    }
}
