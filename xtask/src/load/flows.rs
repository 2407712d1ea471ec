//! Live data connections, as many as there is room for, and some more that are announced.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aya::maps::Map;
use ftp_nat_common::abi::map;
use ftp_nat_tests::lab::Lab;

use super::{rows::Rows, watch};
use crate::bench::{
    crowd::{self, Flows},
    programs::pinned,
    scene::{Router, Scene, Settings},
    session::{Pair, Session},
};

/// What is left of the room for real ones.
const ROOM: u32 = 100;

pub(super) fn run(number: u32) -> anyhow::Result<Rows> {
    let lab = Lab::new()?;
    let settings = Settings {
        connections: Some(number),
        ..Settings::default()
    };
    let mut scene = Scene::new(&lab, Router::Redirect, &settings)?;
    let mut session = Session::open(&scene)?;
    let mut data = session.data(&scene)?;
    let pins = scene.pins()?;
    scene.gateway.as_mut().context("no ftp-nat runs")?.stop()?;
    let mut flows: Flows = pinned(&pins, map::FLOWS4, Map::HashMap)?;
    crowd::fill(&mut flows, &mut data, number - ROOM)?;
    scene
        .gateway
        .as_mut()
        .context("no ftp-nat runs")?
        .restart()?;

    // Real ones, until one is not let in.
    let mut live: Vec<Pair> = Vec::new();
    let refused = loop {
        match session.data(&scene) {
            Ok(pair) => live.push(pair),
            Err(error) => break error,
        }
        ensure!(live.len() <= ROOM as usize, "there is no end of the room");
    };
    let gateway = scene.gateway.as_ref().context("no ftp-nat runs")?;
    let mut rows = Rows::new();
    let total = number - ROOM + live.len() as u32 + 1;
    rows.push(("live data connections", total.to_string()));
    rows.push((
        "of them opened by a session just now",
        live.len().to_string(),
    ));
    rows.push(("memory", watch::memory(gateway)?));
    rows.push((
        "a sweep, on average",
        format!("{:.0?}", watch::word(gateway)?.2),
    ));
    let count = watch::answer(gateway, &["flows", "--count"])?;
    rows.push(("`flows --count`", count));
    let denied = gateway.metric("denied_packets_total", "reason=\"no_room\"")?;
    ensure!(denied > 0, "refused, and not counted: {refused:#}");
    rows.push((
        "just beyond",
        format!("the next one: {refused:#}; {denied} packets counted as `no_room`"),
    ));
    for pair in live.iter_mut().chain([&mut data]) {
        pair.exchange()?;
    }
    rows.push((
        "meanwhile",
        format!("{} of them carried bytes", live.len() + 1),
    ));

    // Some end: others are opened, in a session that has none waiting.
    live.truncate(live.len() - 2);
    let start = Instant::now();
    loop {
        let mut other = Session::open(&scene);
        let opened = other
            .as_mut()
            .is_ok_and(|session| session.data(&scene).is_ok());
        if opened {
            break;
        }
        ensure!(
            start.elapsed() < Duration::from_secs(120),
            "none is opened any more"
        );
    }
    let took = start.elapsed();
    rows.push((
        "once some have ended",
        format!("another one was opened within {took:.1?}"),
    ));
    Ok(rows)
}
