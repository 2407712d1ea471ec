//! docs/topologies.md is true: each of its scenes is built and played as it stands there. For each
//! scene, the doctor finds nothing where all is well, and the cause where one thing is broken.

mod beside;
mod ordinary;
mod pools;
mod routed;
mod scene;
mod stage;
mod tunnels;
mod two_ends;
mod uplinks;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use ftp_nat_tests::{lab::WAN_ADDRESS, process, scratch::Scratch, tools::Tools};

use crate::scene::Scene;

/// Where clients find a published server.
const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);

/// The sources of these tests: each scene's heading stands in one of them.
const SOURCES: &[&str] = &[
    include_str!("beside.rs"),
    include_str!("ordinary.rs"),
    include_str!("pools.rs"),
    include_str!("routed.rs"),
    include_str!("tunnels.rs"),
    include_str!("two_ends.rs"),
    include_str!("uplinks.rs"),
];

#[test]
fn every_scene_is_played() {
    let titles: BTreeSet<_> = Scene::all().into_iter().map(|it| it.title).collect();
    assert!(titles.len() >= 2, "{titles:?}");
    for title in titles {
        let call = format!("Scene::named(\"{title}\")");
        let plays = SOURCES.iter().any(|source| source.contains(&call));
        assert!(plays, "no test plays the scene {title:?}");
    }
}

#[test]
fn every_configuration_is_right() {
    let scratch = Scratch::new().unwrap();
    let binary = Tools::get().unwrap().binary;
    for scene in Scene::all() {
        let text = scene.block("toml").unwrap();
        let path = scratch.write("ftp-nat.toml", text).unwrap();
        let mut check = std::process::Command::new(&binary);
        check.args(["check", "--config"]).arg(path);
        let outcome = process::run(&mut check, Duration::from_secs(5)).unwrap();
        if let Err(error) = outcome.expect_success() {
            panic!("{}: {error:#}", scene.title);
        }
    }
}
