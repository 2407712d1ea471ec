//! The ring that the datapath's events come out of.

use std::time::Duration;

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use ftp_nat_common::abi::Event;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep},
};

/// Events that are taken at once; then others have their turn, however fast events come.
const AT_ONCE: usize = 256;

/// More than the ring has room for.
const ROOM: usize = 1 << 13;

/// The datapath wakes us once a tick (a hundredth of a second at the longest), however many events
/// there are in it. So we look again for longer than that..
const LINGER: Duration = Duration::from_millis(20);
/// ..and so often that the ring does not run over meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// The ring. There is one reader: the daemon.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Whether each event wakes us that finds us asleep.
    is_prompt: bool,
    /// Until when more may come without a wake-up; None: not before the next one.
    until: Option<Instant>,
}

impl Ring {
    /// Listens to a ring. `is_prompt`: the datapath wakes its reader for each event
    /// (`abi::cluster::SHARED`), not once a tick.
    ///
    /// # Errors
    ///
    /// When the ring cannot be waited for: `ENOMEM`, or `ENOSPC` at the limit of epoll watches.
    pub fn new(ring: RingBuf<MapData>, is_prompt: bool) -> anyhow::Result<Self> {
        // SAFETY: the descriptor is that of the map in `ring`, which stays open as long as it.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)
            .context("cannot listen for events")?;
        // What came before we listened has woken nobody, nor will what comes in the same tick.
        let until = Some(Instant::now() + LINGER);
        Ok(Self {
            ring,
            is_prompt,
            until,
        })
    }

    /// Waits for events and shows some of those that have come.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn next(&mut self, mut show: impl FnMut(&Event)) -> anyhow::Result<()> {
        if self.until.is_none() {
            let mut ready = self
                .ring
                .readable()
                .await
                .context("cannot wait for events")?;
            // Before the ring is read: a wake-up from here on is another one.
            ready.clear_ready();
            self.until = Some(Instant::now() + LINGER);
        }
        let shown = self.show(AT_ONCE, &mut show);
        let now = Instant::now();
        if self.is_prompt {
            if shown == 0 {
                self.until = None;
            } else {
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        if shown > 0 {
            self.until = Some(now + LINGER);
        } else if self.until.is_none_or(|until| until <= now) {
            self.until = None;
            return Ok(());
        }
        if shown == AT_ONCE {
            tokio::task::yield_now().await;
        } else {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Shows all that have come.
    pub fn drain(&mut self, mut show: impl FnMut(&Event)) {
        // So many at most are there at once; what comes meanwhile need not be waited for.
        self.show(ROOM, &mut show);
    }

    /// Shows at most so many; gives how many there were.
    fn show(&mut self, most: usize, show: &mut impl FnMut(&Event)) -> usize {
        let ring = self.ring.get_mut();
        for shown in 0..most {
            let Some(item) = ring.next() else {
                return shown;
            };
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                show(&event);
            }
        }
        most
    }
}
