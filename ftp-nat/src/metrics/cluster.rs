//! What the gateways of a cluster tell each other, in figures.

use super::family::{Family, Kind};
use crate::cluster::status::Status;

/// All of it.
pub(super) fn families(status: &Status) -> Vec<Family> {
    let flag = |is: bool| f64::from(u8::from(is));
    let mut lag = Family::new(
        "cluster_lag_seconds",
        Kind::Gauge,
        "Time between writing and reading of another gateway's last batch, by both clocks",
    );
    let mut alive = Family::new(
        "cluster_peer_alive",
        Kind::Gauge,
        "Whether another gateway was heard of within the last second",
    );
    for peer in &status.peers {
        let node = peer.node.to_string();
        lag = lag.with(&[("node", &node)], peer.lag);
        alive = alive.with(&[("node", &node)], flag(peer.is_alive));
    }
    let delay = Family::new(
        "cluster_delay_seconds",
        Kind::Gauge,
        "From an event's arrival at another gateway's daemon until its record was here: within this time were \
         so many of the latest records",
    )
    .with(&[("part", "0.5")], status.delay_median)
    .with(&[("part", "0.99")], status.delay_p99);
    vec![
        delay,
        Family::new(
            "cluster_number_twice",
            Kind::Gauge,
            "Whether another gateway has this one's number",
        )
        .with(&[], flag(status.is_doubled)),
        Family::new(
            "cluster_ready",
            Kind::Gauge,
            "Whether this gateway has all that the living others know",
        )
        .with(&[], flag(status.is_ready)),
        Family::new(
            "cluster_engine_connected",
            Kind::Gauge,
            "Whether the engine is connected",
        )
        .with(&[], flag(status.is_connected)),
        Family::new(
            "cluster_records_told_total",
            Kind::Counter,
            "Records that were written for the other gateways",
        )
        .with(&[], status.told as f64),
        Family::new(
            "cluster_records_heard_total",
            Kind::Counter,
            "Records of other gateways, by what became of them",
        )
        .with(&[("result", "installed")], status.installed as f64)
        .with(&[("result", "stale")], status.stale as f64)
        .with(&[("result", "refused")], status.refused as f64)
        .with(&[("result", "no_room")], status.no_room as f64)
        .with(&[("result", "unknown")], status.unknown as f64),
        Family::new(
            "cluster_batches_lost_total",
            Kind::Counter,
            "Batches of other gateways that never came: what they held was asked for again",
        )
        .with(&[], status.lost as f64),
        Family::new(
            "cluster_events_overflowed_total",
            Kind::Counter,
            "Events that came faster than they were told: everything was told again",
        )
        .with(&[], status.overflowed as f64),
        lag,
        alive,
    ]
}
