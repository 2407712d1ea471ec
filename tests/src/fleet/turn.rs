//! How many fleets there are at once in a process: a gateway that waits for its CPU for long is as good as
//! dead, and the other one takes over.

use std::sync::{Condvar, Mutex, PoisonError};

/// As many as were seen to leave each other alone on two CPUs.
const AT_ONCE: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a fleet.
#[derive(Debug)]
pub(super) struct Turn(());

impl Turn {
    /// Waits for it. Who holds one must not wait for another.
    pub(super) fn wait() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = ENDED
            .wait_while(running, |running| *running >= AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
