//! The event bus: gives each event its number and passes it to the log, to followers and to the
//! audit log.
//!
//! No subscriber delays another one, and memory is bounded: a fixed number of past events is kept, a
//! follower that reads too slowly loses events and is told how many, and the audit log is written by
//! a thread of its own.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Instant,
};

use ftp_nat_common::abi::Event;
use tokio::sync::broadcast;

use super::{
    audit::Audit,
    event_log::EventLog,
    flood::Floods,
    occurrence::{Detail, Occurrence},
};
use crate::{cluster, kernel::clock::Clock, metrics::Losses};

/// How many events are kept for who asks later.
const KEPT: usize = 2048;

/// How many events are kept that clients cause without having been let in: they have a queue of
/// their own, so that they never push out the others.
const NOISE_KEPT: usize = 512;

/// How far a follower may fall behind.
const FOLLOWED: usize = 1024;

/// The event bus.
#[derive(Debug)]
pub struct EventBus {
    clock: Clock,
    inner: Mutex<Inner>,
    live: broadcast::Sender<Occurrence>,
    audit: Option<Audit>,
    losses: std::sync::Arc<Losses>,
    cluster: OnceLock<cluster::node::Handle>,
}

#[derive(Debug, Default)]
struct Inner {
    number: u64,
    kept: VecDeque<Occurrence>,
    noise: VecDeque<Occurrence>,
    log: EventLog,
    floods: Floods,
}

impl EventBus {
    /// Nothing has happened yet.
    pub(super) fn new(clock: Clock, audit: Option<Audit>, losses: std::sync::Arc<Losses>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
            live: broadcast::Sender::new(FOLLOWED),
            audit,
            losses,
            cluster: OnceLock::new(),
        }
    }

    /// From now on events go to the other gateways of the cluster too, before anybody else.
    pub(super) fn share(&self, cluster: cluster::node::Handle) {
        // Only once; and that is what is meant.
        let _ = self.cluster.set(cluster);
    }

    /// The cluster, if this gateway is in one.
    pub(super) fn cluster(&self) -> Option<&cluster::node::Handle> {
        self.cluster.get()
    }

    /// Passes an event to all subscribers. Of a flood of events that are alike, only the first are
    /// passed on, and a sum of the rest: see [`super::flood`].
    pub fn publish(&self, event: &Event, detail: Detail) {
        if let Some(cluster) = self.cluster.get() {
            cluster.tell(event);
        }
        let mut inner = self.inner();
        let now = Instant::now();
        self.publish_sums(&mut inner, now);
        if inner.floods.admits(event, now) {
            self.pass_on(&mut inner, *event, detail);
        }
    }

    /// The same of an event that the datapath tells.
    pub(super) fn publish_of_datapath(&self, event: &Event) {
        self.publish(event, Detail::of(event, &self.clock));
    }

    fn publish_sums(&self, inner: &mut Inner, now: Instant) {
        for sum in inner.floods.take_sums(now) {
            self.pass_on(inner, sum.event, Detail::Repeated(sum.count));
        }
    }

    /// The lock on `inner` is held, so that who subscribes misses nothing and gets nothing twice.
    fn pass_on(&self, inner: &mut Inner, event: Event, detail: Detail) {
        inner.number += 1;
        let occurrence = Occurrence::new(inner.number, event, detail, &self.clock);
        if !inner.log.write(&occurrence) {
            self.losses.log.fetch_add(1, Ordering::Relaxed);
        }
        let (queue, most) = if occurrence.is_noise() {
            (&mut inner.noise, NOISE_KEPT)
        } else {
            (&mut inner.kept, KEPT)
        };
        if queue.len() == most {
            queue.pop_front();
        }
        queue.push_back(occurrence);
        // That there is no follower is no error.
        drop(self.live.send(occurrence));
        if let Some(audit) = &self.audit
            && occurrence.is_for_audit()
        {
            audit.write(occurrence);
        }
    }

    /// What has happened of late, in order, and what happens from now on.
    pub(super) fn listen(&self) -> (Vec<Occurrence>, broadcast::Receiver<Occurrence>) {
        let inner = self.inner();
        let live = self.live.subscribe();
        let mut past: Vec<_> = inner.kept.iter().chain(&inner.noise).copied().collect();
        drop(inner);
        past.sort_unstable_by_key(|occurrence| occurrence.number);
        (past, live)
    }

    /// Publishes the sums of floods whose window is over, and how many events the log left out.
    pub(super) fn flush_summaries(&self) {
        let mut inner = self.inner();
        let now = Instant::now();
        self.publish_sums(&mut inner, now);
        inner.log.flush_summary(now);
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

    fn bus() -> EventBus {
        EventBus::new(Clock::of_this_kernel().unwrap(), None, Default::default())
    }

    fn event(what: u8) -> Event {
        Event {
            what,
            ..Event::default()
        }
    }

    #[test]
    fn a_flood_of_denials_does_not_push_out_who_was_let_in() {
        let bus = bus();
        bus.publish(&event(event::OPENED), Detail::None);
        // From one address, which is summed, and past the bus' own sums.
        for _ in 0..10 * KEPT {
            bus.publish(&event(event::DENIED), Detail::None);
            bus.pass_on(&mut bus.inner(), event(event::DENIED), Detail::None);
        }
        let (past, _) = bus.listen();
        assert_eq!(past.len(), 1 + NOISE_KEPT);
        assert_eq!(past[0].event.what, event::OPENED);
        assert!(past.is_sorted_by_key(|occurrence| occurrence.number));
    }

    #[test]
    fn who_listens_hears_everything_once() {
        let bus = bus();
        bus.publish(&event(event::OPENED), Detail::None);
        let (past, mut live) = bus.listen();
        bus.publish(&event(event::USED), Detail::None);
        assert_eq!(past.len(), 1);
        assert_eq!(live.try_recv().unwrap().number, 2);
        assert!(live.try_recv().is_err());
    }
}
