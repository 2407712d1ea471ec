//! What systemd is told (sd_notify(3)).

use log::warn;
use sd_notify::NotifyState;

/// Tells systemd; without it, nothing happens.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell systemd: {error}");
    }
}
