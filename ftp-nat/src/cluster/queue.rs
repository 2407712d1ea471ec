//! Events on their way from the daemon's ring to the cluster's thread.
//!
//! Whom a takeover needs is told at once. What can wait, because the other gateway has gone on with it
//! already or would only keep it for longer, waits a moment for company: each message costs three machines
//! more than what is in it.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ftp_nat_common::abi::{Event, event};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

/// Events that wait to be told.
const ROOM: usize = 1 << 16;
/// How long after a message what can wait does so.
const GATHERING: Duration = Duration::from_micros(400);

/// The queue: any thread puts in, one takes out.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// There is something that must be told now.
    is_due: Notify,
    /// Readable when what waits for company has waited for long enough. tokio's own timers know milliseconds only.
    timer: OwnedFd,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<(Event, Instant)>,
    /// Whether one of them cannot wait, or has waited for long enough.
    is_due: bool,
    /// Whether the timer runs.
    is_timed: bool,
    /// When something was told last.
    told: Option<Instant>,
}

/// What others are told of an event, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Who takes over would not know what to do with the next packet.
    Now,
    /// A connection that has begun: its announcement, which is told, lets any packet of it in. One that has
    /// ended.
    Soon,
    /// It is not told.
    Never,
}

fn urgency(event: &Event) -> Urgency {
    match event.what {
        event::SESSION | event::OPENED | event::REWRITTEN | event::ENCRYPTED | event::CLEARED => {
            Urgency::Now
        }
        event::USED | event::EXPIRED | event::ENDED => Urgency::Soon,
        _ => Urgency::Never,
    }
}

impl Queue {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// `EMFILE`: no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            inner: Mutex::default(),
            is_due: Notify::new(),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
        })
    }

    /// Puts an event in, if others are told of its kind; false: there is no room. Never waits.
    pub fn put(&self, event: &Event) -> bool {
        let urgency = urgency(event);
        if urgency == Urgency::Never {
            return true;
        }
        let now = Instant::now();
        let mut inner = self.inner();
        if inner.events.len() >= ROOM {
            return false;
        }
        inner.events.push_back((*event, now));
        if inner.is_due {
            return true;
        }
        inner.is_due = urgency == Urgency::Now || !self.is_awaiting_company(&mut inner, now);
        if inner.is_due {
            drop(inner);
            self.is_due.notify_one();
        }
        true
    }

    /// Takes the oldest one out.
    pub fn take(&self) -> Option<(Event, Instant)> {
        let mut inner = self.inner();
        let taken = inner.events.pop_front();
        if inner.events.is_empty() {
            inner.is_due = false;
        }
        taken
    }

    /// Something is told now: what can wait does so for a while from now on.
    pub fn note_told(&self) {
        self.inner().told = Some(Instant::now());
    }

    /// Whether what can wait has not waited for long enough; then the timer runs.
    fn is_awaiting_company(&self, inner: &mut Inner, now: Instant) -> bool {
        let told = inner
            .told
            .map_or(GATHERING, |told| now.saturating_duration_since(told));
        let left = GATHERING.saturating_sub(told);
        if left.is_zero() || inner.is_timed {
            return !left.is_zero();
        }
        let time = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        // EINVAL, EBADF: neither can be; nobody would be woken then.
        inner.is_timed = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time).is_ok();
        inner.is_timed
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who takes out, within its runtime.
#[derive(Debug)]
pub struct Taker {
    queue: Arc<Queue>,
    timer: AsyncFd<OwnedFd>,
}

impl Taker {
    /// Of this queue.
    ///
    /// # Errors
    ///
    /// `EMFILE`: no descriptor is left. `ENOSPC`: the limit of epoll watches.
    pub fn new(queue: Arc<Queue>) -> io::Result<Self> {
        let timer = queue.timer.try_clone()?;
        // SAFETY: the descriptor is the one that it owns, which stays open as long as it.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self {
            queue,
            timer: timer.map_err(|error| error.into_parts().1)?,
        })
    }

    /// Waits until something must be told. May be cancelled.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn due(&self) -> io::Result<()> {
        loop {
            if self.queue.inner().is_due {
                return Ok(());
            }
            tokio::select! {
                () = self.queue.is_due.notified() => {}
                readable = self.timer.readable() => {
                    readable?.clear_ready();
                    let mut inner = self.queue.inner();
                    inner.is_timed = false;
                    inner.is_due = !inner.events.is_empty()
                        && !self.queue.is_awaiting_company(&mut inner, Instant::now());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u8) -> Event {
        Event {
            what,
            ..Event::default()
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(test);
    }

    fn queue() -> (Arc<Queue>, Taker) {
        let queue = Arc::new(Queue::new().unwrap());
        (Arc::clone(&queue), Taker::new(queue).unwrap())
    }

    #[test]
    fn what_can_wait_waits_for_company_and_no_longer() {
        run(async {
            let (queue, taker) = queue();
            // Nothing was told of late: it has nobody to wait for.
            assert!(queue.put(&event(event::USED)));
            assert!(queue.inner().is_due);
            taker.due().await.unwrap();
            assert!(queue.take().is_some());
            for _ in 0..3 {
                let start = Instant::now();
                queue.note_told();
                assert!(queue.put(&event(event::USED)));
                assert!(!queue.inner().is_due);
                taker.due().await.unwrap();
                assert!(start.elapsed() >= GATHERING);
                assert_eq!(queue.take().unwrap().0.what, event::USED);
                assert!(!queue.inner().is_due);
            }
        });
    }

    #[test]
    fn what_a_takeover_needs_takes_along_what_waits() {
        run(async {
            let (queue, taker) = queue();
            queue.note_told();
            for what in [event::USED, event::DENIED, event::OPENED] {
                assert!(!queue.inner().is_due);
                assert!(queue.put(&event(what)));
            }
            taker.due().await.unwrap();
            let taken = || queue.take().map(|(event, _)| event.what);
            assert_eq!(
                [taken(), taken(), taken()],
                [Some(event::USED), Some(event::OPENED), None]
            );
            assert!(!queue.inner().is_due);
            // The timer that ran for the first one is no reason to tell the next one sooner.
            let start = Instant::now();
            std::thread::sleep(GATHERING / 2);
            queue.note_told();
            assert!(queue.put(&event(event::USED)));
            taker.due().await.unwrap();
            assert!(start.elapsed() >= GATHERING * 3 / 2);
        });
    }

    #[test]
    fn there_is_room_for_so_many() {
        run(async {
            let (queue, _) = queue();
            for _ in 0..ROOM {
                assert!(queue.put(&event(event::USED)));
            }
            assert!(!queue.put(&event(event::USED)));
            assert!(queue.take().is_some());
            assert!(queue.put(&event(event::USED)));
        });
    }
}
