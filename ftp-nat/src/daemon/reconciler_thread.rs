//! The thread on which the reconciler works.
//!
//! Reading the routes of a large table, or loading programs, takes its time. The daemon's other
//! thread never waits for it: requests are answered, signals obeyed and the watchdog fed meanwhile.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

use super::{event_bus::EventBus, reconciler::Reconciler, systemd::notify};
use crate::ipc::message::Reloaded;

/// How often what no notification tells of is looked at.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);

/// How long one piece of work may take before the thread counts as stuck.
const STUCK: Duration = Duration::from_secs(120);

/// How long the end of the daemon waits for the piece of work under way.
const LAST_WORK: Duration = Duration::from_millis(300);

/// A piece of work.
enum Job {
    NetworkChanged,
    /// Interfaces among them.
    LinksChanged,
    /// Whoever waits for the result may have gone, or there may be nobody.
    Reload(Option<oneshot::Sender<Reloaded>>),
}

/// The thread, as the other one sees it.
pub(super) struct ReconcilerThread {
    jobs: Sender<Job>,
    /// Whether a job of this kind waits already: one serves all changes before it.
    change_waits: Arc<AtomicBool>,
    links_wait: Arc<AtomicBool>,
    busy_since: Arc<Mutex<Option<Instant>>>,
    thread: JoinHandle<()>,
}

impl ReconcilerThread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the limit of threads is reached.
    pub(super) fn start(reconciler: Reconciler, bus: Arc<EventBus>) -> anyhow::Result<Self> {
        let (jobs, waiting) = channel();
        let mut worker = Worker {
            reconciler,
            bus,
            change_waits: Arc::default(),
            links_wait: Arc::default(),
            busy_since: Arc::default(),
        };
        let change_waits = Arc::clone(&worker.change_waits);
        let links_wait = Arc::clone(&worker.links_wait);
        let busy_since = Arc::clone(&worker.busy_since);
        let thread = thread::Builder::new()
            .name("reconciler".into())
            .spawn(move || worker.run(&waiting))
            .context("cannot start the reconciler's thread")?;
        Ok(Self {
            jobs,
            change_waits,
            links_wait,
            busy_since,
            thread,
        })
    }

    /// Has the datapath brought up to a network that has changed: where there are new interfaces, it
    /// is attached to these at once.
    pub(super) fn network_changed(&self, has_links: bool) {
        if has_links && !self.links_wait.swap(true, Ordering::Relaxed) {
            drop(self.jobs.send(Job::LinksChanged));
        }
        if !self.change_waits.swap(true, Ordering::Relaxed) {
            drop(self.jobs.send(Job::NetworkChanged));
        }
    }

    /// Has the configuration read anew.
    pub(super) fn reload(&self, answer: Option<oneshot::Sender<Reloaded>>) {
        drop(self.jobs.send(Job::Reload(answer)));
    }

    /// Makes sure that it works.
    ///
    /// # Errors
    ///
    /// When it has ended, which it does only by a panic.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.thread.is_finished() {
            bail!("the reconciler's thread has ended unexpectedly");
        }
        Ok(())
    }

    /// Whether one piece of work takes longer than any should.
    pub(super) fn is_stuck(&self) -> bool {
        let since = *self
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > STUCK)
    }

    /// Ends it: waits for the piece of work under way, but not for long.
    pub(super) fn stop(self) {
        drop(self.jobs);
        let end = Instant::now() + LAST_WORK;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What runs on the thread.
struct Worker {
    reconciler: Reconciler,
    bus: Arc<EventBus>,
    change_waits: Arc<AtomicBool>,
    links_wait: Arc<AtomicBool>,
    busy_since: Arc<Mutex<Option<Instant>>>,
}

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        // When the network's changes have been waited for long enough.
        let mut reconcile_at: Option<Instant> = None;
        let mut prune_at = Instant::now() + PRUNE_INTERVAL;
        loop {
            let wake = reconcile_at.map_or(prune_at, |at| at.min(prune_at));
            match jobs.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Job::LinksChanged) => {
                    self.links_wait.store(false, Ordering::Relaxed);
                    self.busy(|it| it.reconciler.attach_returned());
                }
                Ok(Job::NetworkChanged) => {
                    self.change_waits.store(false, Ordering::Relaxed);
                    reconcile_at.get_or_insert_with(|| Instant::now() + self.reconciler.debounce());
                }
                Ok(Job::Reload(answer)) => {
                    let reloaded = self.busy(Self::reload);
                    if let Some(answer) = answer {
                        drop(answer.send(reloaded));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // After each job, too: links that never rest must not put off what is due.
            let now = Instant::now();
            if reconcile_at.is_some_and(|at| at <= now) {
                reconcile_at = None;
                self.busy(|it| it.reconciler.reconcile_network());
            }
            if prune_at <= now {
                self.busy(|it| {
                    it.reconciler.prune();
                    it.reconciler.repair();
                });
                prune_at = Instant::now() + PRUNE_INTERVAL;
            }
        }
    }

    fn busy<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        self.note_busy(Some(Instant::now()));
        let result = work(self);
        self.note_busy(None);
        result
    }

    fn note_busy(&self, since: Option<Instant>) {
        let mut noted = self
            .busy_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *noted = since;
    }

    /// Reads the configuration anew, and tells systemd.
    fn reload(&mut self) -> Reloaded {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let reloaded = self.reconciler.reload();
        for file in self.bus.files() {
            file.reopen();
        }
        self.bus
            .tell_transfers(self.reconciler.tables_of_transfers());
        notify(&[NotifyState::Ready]);
        reloaded
    }
}
