//! Where all events come together, and go to the log, to followers and to the audit trail.
//!
//! Nobody who listens can hold up the others, or make the daemon grow: the past that is kept is
//! bounded, a follower that reads too slowly misses events and is told how many, and the audit
//! trail is written by a thread of its own.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Instant,
};

use ftp_nat_common::abi::Event;
use tokio::sync::broadcast;

use super::{
    audit::Audit,
    event_log::EventLog,
    occurrence::{Ended, Told},
};
use crate::{kernel::clock::Clock, metrics::Losses};

/// How many events are kept for who asks later.
const KEPT: usize = 2048;

/// And how many of those that strangers cause: they must not push out the others.
const NOISE_KEPT: usize = 512;

/// How far a follower may fall behind.
const FOLLOWED: usize = 1024;

/// All that listen.
#[derive(Debug)]
pub struct Hub {
    clock: Clock,
    inner: Mutex<Inner>,
    live: broadcast::Sender<Told>,
    audit: Option<Audit>,
    losses: std::sync::Arc<Losses>,
}

#[derive(Debug, Default)]
struct Inner {
    number: u64,
    kept: VecDeque<Told>,
    noise: VecDeque<Told>,
    log: EventLog,
}

impl Hub {
    /// Nothing has happened yet.
    pub(super) fn new(clock: Clock, audit: Option<Audit>, losses: std::sync::Arc<Losses>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
            live: broadcast::Sender::new(FOLLOWED),
            audit,
            losses,
        }
    }

    /// Tells everybody.
    pub fn tell(&self, event: &Event, ended: Option<Ended>) {
        let mut inner = self.inner();
        inner.number += 1;
        let told = Told::new(inner.number, *event, ended, &self.clock);
        if !inner.log.write(&told) {
            self.losses.log.fetch_add(1, Ordering::Relaxed);
        }
        let (queue, most) = if told.is_noise() {
            (&mut inner.noise, NOISE_KEPT)
        } else {
            (&mut inner.kept, KEPT)
        };
        if queue.len() == most {
            queue.pop_front();
        }
        queue.push_back(told);
        // Under the lock, so that who subscribes misses nothing and hears nothing twice. That
        // nobody listens is no error.
        drop(self.live.send(told));
        drop(inner);
        if let Some(audit) = &self.audit
            && told.is_for_audit()
        {
            audit.write(told);
        }
    }

    /// What has happened of late, in order, and what happens from now on.
    pub(super) fn listen(&self) -> (Vec<Told>, broadcast::Receiver<Told>) {
        let inner = self.inner();
        let live = self.live.subscribe();
        let mut past: Vec<_> = inner.kept.iter().chain(&inner.noise).copied().collect();
        drop(inner);
        past.sort_unstable_by_key(|told| told.number);
        (past, live)
    }

    /// Says what the log has left out of a flood that is over.
    pub(super) fn sum_up(&self) {
        self.inner().log.sum_up(Instant::now());
    }

    /// What did not reach everybody.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// The audit trail, where one is kept.
    pub(super) fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::abi::event;

    fn hub() -> Hub {
        Hub::new(Clock::of_this_kernel().unwrap(), None, Default::default())
    }

    fn event(what: u8) -> Event {
        Event {
            what,
            ..Event::default()
        }
    }

    #[test]
    fn a_flood_of_denials_does_not_push_out_who_was_let_in() {
        let hub = hub();
        hub.tell(&event(event::OPENED), None);
        for _ in 0..10 * KEPT {
            hub.tell(&event(event::DENIED), None);
        }
        let (past, _) = hub.listen();
        assert_eq!(past.len(), 1 + NOISE_KEPT);
        assert_eq!(past[0].event.what, event::OPENED);
        assert!(past.is_sorted_by_key(|told| told.number));
    }

    #[test]
    fn who_listens_hears_everything_once() {
        let hub = hub();
        hub.tell(&event(event::OPENED), None);
        let (past, mut live) = hub.listen();
        hub.tell(&event(event::USED), None);
        assert_eq!(past.len(), 1);
        assert_eq!(live.try_recv().unwrap().number, 2);
        assert!(live.try_recv().is_err());
    }
}
