//! Floods: packets as fast as a rate wants them, until they are stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::wire::{BATCH, Wire};

/// A thread that sends until it is stopped or dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    started: Instant,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// What a flood was.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Packets that left.
    pub packets: u64,
    /// How long it lasted.
    pub took: Duration,
}

impl Sent {
    /// Packets a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.took.as_secs_f64()
    }
}

impl Flood {
    /// Sends what `packet` makes of the numbers from 0 on, at most `rate` a second.
    pub fn start(
        wire: Wire,
        rate: u64,
        mut packet: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || {
            let mut next = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                // Behind time, the next batch goes out at once; ahead of it, this thread rests.
                let due = Duration::from_secs_f64(next as f64 / rate as f64);
                if let Some(ahead) = due.checked_sub(started.elapsed()) {
                    thread::sleep(ahead);
                }
                let frames: Vec<_> = (next..next + BATCH as u64)
                    .map(|number| wire.frame(&packet(number)))
                    .collect();
                wire.send_frames(&frames)?;
                next += BATCH as u64;
                count.store(next, Ordering::Relaxed);
            }
            Ok(())
        });
        Self {
            stop,
            sent,
            started,
            thread: Some(thread),
        }
    }

    /// Waits until so many packets have left.
    pub fn wait_for(&self, packets: u64) {
        while self.sent.load(Ordering::Relaxed) < packets
            && self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When a packet could not be sent.
    pub fn stop(mut self) -> anyhow::Result<Sent> {
        let took = self.started.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the flood was stopped before")?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Sent {
            packets: self.sent.load(Ordering::Relaxed),
            took,
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure of it has no reader any more.
            drop(thread.join());
        }
    }
}
