//! The ring that the datapath's events come out of.

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use ftp_nat_common::abi::Event;
use tokio::io::{Interest, unix::AsyncFd};

/// Events that are taken at once; then others have their turn, however fast events come.
const AT_ONCE: usize = 256;

/// The ring. There is one reader: the daemon.
pub struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// Listens to a ring.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn new(ring: RingBuf<MapData>) -> anyhow::Result<Self> {
        // SAFETY: the descriptor is that of the map in `ring`, which stays open as long as it.
        unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map(Self)
            .map_err(|error| error.into_parts().1)
            .context("cannot listen for events")
    }

    /// Waits for events and shows some of those that have come.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub async fn next(&mut self, mut show: impl FnMut(&Event)) -> anyhow::Result<()> {
        let mut ready = self
            .0
            .readable_mut()
            .await
            .context("cannot wait for events")?;
        let ring = ready.get_inner_mut();
        for _ in 0..AT_ONCE {
            let Some(item) = ring.next() else {
                ready.clear_ready();
                return Ok(());
            };
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                show(&event);
            }
        }
        // There may be more: it stays ready.
        tokio::task::yield_now().await;
        Ok(())
    }
}
