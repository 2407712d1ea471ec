//! Hearing of interfaces, addresses and routes as they change.

use anyhow::Context as _;
use tokio::io::{Interest, unix::AsyncFd};

use crate::kernel::netlink;

/// Hears of changes.
pub(super) struct NetworkChanges(AsyncFd<netlink::Changes>);

impl NetworkChanges {
    /// From now on, so that nothing between the first look and the watch is missed.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let changes = netlink::Changes::open().context("cannot listen to the network's changes")?;
        // SAFETY: the descriptor is that of the socket in `changes`, which stays open as long as it.
        unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) }
            .map(Self)
            .map_err(|error| error.into_parts().1)
            .context("cannot wait for the network's changes")
    }

    /// Waits for changes and takes all that came. Cancelled while it waits, it misses nothing.
    pub(super) async fn drain(&mut self) -> anyhow::Result<netlink::Changed> {
        let tried = "cannot hear of the network's changes";
        let mut ready = self.0.readable_mut().await.context(tried)?;
        let changed = ready.get_inner_mut().drain().context(tried)?;
        ready.clear_ready();
        Ok(changed)
    }
}
