//! The event bus: gives each event its number and passes it to the log, to followers and to the
//! audit log.
//!
//! No subscriber delays another one, and memory is bounded: a fixed number of past events is kept, a
//! follower that reads too slowly loses events and is told how many, and the audit log is written by
//! a thread of its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Instant,
};

use ftp_nat_common::abi::{Event, Said};
use tokio::sync::broadcast;

use super::{
    audit::Audit,
    event_log::EventLog,
    flood::Floods,
    occurrence::{Detail, Occurrence},
    transfers::{Ledger, Over, Tables},
};
use crate::{
    cluster,
    kernel::clock::Clock,
    metrics::{Losses, Transfers},
};

/// How many events are kept for who asks later.
const KEPT: usize = 2048;

/// How many events are kept that clients cause without having been let in: they have a queue of
/// their own, so that they never push out the others.
const NOISE_KEPT: usize = 512;

/// How many transfers and changes are kept: half of them at most of one client.
const TRANSFERS_KEPT: usize = 2048;

/// How far a follower may fall behind.
const FOLLOWED: usize = 1024;

/// The event bus.
pub struct EventBus {
    clock: Clock,
    inner: Mutex<Inner>,
    live: broadcast::Sender<Occurrence>,
    /// The files that occurrences are written to.
    files: Vec<Audit>,
    losses: Arc<Losses>,
    cluster: OnceLock<cluster::node::Handle>,
    /// What is transferred; None: that is not told.
    ledger: Mutex<Option<Ledger>>,
    transfers: Arc<Transfers>,
}

#[derive(Debug, Default)]
struct Inner {
    number: u64,
    kept: VecDeque<Occurrence>,
    noise: VecDeque<Occurrence>,
    transfers: VecDeque<Occurrence>,
    log: EventLog,
    floods: Floods,
}

impl EventBus {
    /// Nothing has happened yet.
    pub(super) fn new(clock: Clock, files: Vec<Audit>, losses: Arc<Losses>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
            live: broadcast::Sender::new(FOLLOWED),
            files,
            losses,
            cluster: OnceLock::new(),
            ledger: Mutex::default(),
            transfers: Arc::default(),
        }
    }

    /// From now on it is told what is transferred, or no more.
    pub(super) fn tell_transfers(&self, tables: Option<Box<dyn Tables>>) {
        let mut ledger = self.ledger();
        match tables {
            Some(tables) if ledger.is_none() => *ledger = Some(Ledger::new(tables, self.clock)),
            Some(_) => {}
            None => *ledger = None,
        }
    }

    /// The transfers that were told, for the metrics.
    pub(super) fn transfers(&self) -> &Arc<Transfers> {
        &self.transfers
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
        let now = Instant::now();
        self.publish_locally(event, detail.clone(), now);
        self.publish_over(now, |ledger| ledger.see(event, &detail, now));
    }

    /// Takes note of what a control connection said.
    pub(super) fn hear(&self, said: &Said, line: &[u8]) {
        let now = Instant::now();
        self.publish_over(now, |ledger| ledger.hear(said, line, now));
    }

    /// Looks after data connections that may have ended, and tells when to call this again.
    pub(super) fn look_after_transfers(&self) -> Option<Instant> {
        let now = Instant::now();
        self.publish_over(now, |ledger| ledger.look(now));
        self.ledger().as_ref().and_then(Ledger::due)
    }

    /// Publishes the transfers that a change of the ledger shows to be over.
    fn publish_over(&self, now: Instant, change: impl FnOnce(&mut Ledger) -> Vec<Over>) {
        let over = self.ledger().as_mut().map(change).unwrap_or_default();
        for (event, transfer) in over {
            self.transfers.note(&transfer);
            self.publish_locally(&event, Detail::Transfer(Arc::new(transfer)), now);
        }
    }

    fn publish_locally(&self, event: &Event, detail: Detail, now: Instant) {
        let mut inner = self.inner();
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
        let (queue, most) = if occurrence.is_transfer() {
            make_room_of(&mut inner.transfers, &occurrence);
            (&mut inner.transfers, TRANSFERS_KEPT)
        } else if occurrence.is_noise() {
            (&mut inner.noise, NOISE_KEPT)
        } else {
            (&mut inner.kept, KEPT)
        };
        if queue.len() == most {
            queue.pop_front();
        }
        queue.push_back(occurrence.clone());
        for file in &self.files {
            file.write(&occurrence);
        }
        // That there is no follower is no error.
        drop(self.live.send(occurrence));
    }

    /// What has happened of late, in order, and what happens from now on.
    pub(super) fn listen(&self) -> (Vec<Occurrence>, broadcast::Receiver<Occurrence>) {
        let inner = self.inner();
        let live = self.live.subscribe();
        let kept = inner
            .kept
            .iter()
            .chain(&inner.noise)
            .chain(&inner.transfers);
        let mut past: Vec<_> = kept.cloned().collect();
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

    /// The files that are written.
    pub(super) fn files(&self) -> &[Audit] {
        &self.files
    }

    fn ledger(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for a client's transfer where the queue is full: of that client's own, if it has half of it.
fn make_room_of(queue: &mut VecDeque<Occurrence>, new: &Occurrence) {
    if queue.len() < TRANSFERS_KEPT {
        return;
    }
    let is_its = |it: &Occurrence| it.event.peer.addr == new.event.peer.addr;
    let its = queue.iter().filter(|it| is_its(it)).count();
    if its >= TRANSFERS_KEPT / 2
        && let Some(oldest) = queue.iter().position(is_its)
    {
        queue.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftp_nat_common::{
        abi::event,
        wire::addr::{Addr, Endpoint, Port},
    };

    fn bus() -> EventBus {
        EventBus::new(
            Clock::of_this_kernel().unwrap(),
            Vec::new(),
            Default::default(),
        )
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
    fn one_clients_transfers_push_out_at_most_half_of_the_others() {
        let bus = bus();
        let of = |last| Event {
            peer: Endpoint::new(Addr::from_octets([192, 0, 2, last]), Port::default()),
            ..event(event::TRANSFER)
        };
        for _ in 0..TRANSFERS_KEPT / 2 {
            bus.publish(&of(1), Detail::None);
        }
        for _ in 0..10 * TRANSFERS_KEPT {
            bus.publish(&of(2), Detail::None);
        }
        let (past, _) = bus.listen();
        let others = past.iter().filter(|it| it.event.peer == of(1).peer);
        assert_eq!(
            (others.count(), past.len()),
            (TRANSFERS_KEPT / 2, TRANSFERS_KEPT)
        );
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
