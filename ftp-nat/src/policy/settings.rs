//! The SETTINGS map.

use ftp_nat_common::{
    abi::{HALF_OPEN_SECONDS, Settings, cluster, setting},
    bucket::{self, interval},
};

use crate::{
    config::{Config, FirstPacket},
    kernel::clock::Clock,
};

/// How long an unfinished line is held while its sender repeats it and its receiver does not answer
/// keep-alives. Long enough for five lost packets in a row: a sender repeats after 0.2 s, and then
/// after twice the time each.
const HOLD: std::time::Duration = std::time::Duration::from_secs(10);

/// The settings for the datapath.
pub fn settings(config: &Config, clock: &Clock, route_epoch: u16) -> Settings {
    let second = bucket::ticks(clock.hz().into());
    Settings {
        hz: clock.hz(),
        mark: config.mark,
        route_epoch,
        pad: 0,
        remap_first: config.remap_ports.first,
        remap_last: config.remap_ports.last,
        mss_clamp: config.mss_clamp.number(),
        cluster: if config.cluster.is_some() {
            cluster::SHARED
        } else {
            0
        },
        node: config.cluster.as_ref().map_or(0, |it| u16::from(it.node)),
        flags: flags(config),
        learning_until: 0,
        mapping_timeout: clock.ticks(config.timeouts.mapping),
        hold_timeout: clock.ticks(HOLD),
        version: version(),
        client_sessions: config.limits.client_sessions(),
        client_connections: config.limits.client_connections(),
        client_interval: interval(second, config.limits.client_announcements),
        session_interval: interval(second, config.limits.session_announcements),
        half_open_interval: interval(second * HALF_OPEN_SECONDS, config.limits.client_half_open),
    }
}

/// Bits of [`setting`].
fn flags(config: &Config) -> u16 {
    let mut flags = 0;
    if config.first_packet == FirstPacket::Firewall {
        flags |= setting::SYN_BY_STACK;
    }
    if !config.symmetric_return {
        flags |= setting::BY_ROUTES;
    }
    if config.transfers {
        flags |= setting::TELLS_COMMANDS;
    }
    flags
}

/// This version, as [`Settings::version`] has it.
fn version() -> [u8; 16] {
    let mut version = [0; 16];
    for (place, byte) in version.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()) {
        *place = byte;
    }
    version
}
