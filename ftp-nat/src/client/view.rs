//! The loaded gateways that a command is about: their pins, maps and daemons.

use std::path::Path;

use crate::{
    cli::Selection,
    datapath::{
        maps::Maps,
        pins::{Gateway, Pins},
    },
    ipc::{
        connection::{Daemon, daemon_of},
        message::Hello,
        runtime_dir::RuntimeDir,
        trust::Trust,
    },
    kernel::{clock::Clock, requirements},
    output::failure::Failure,
};

/// A gateway that is loaded, with what is needed to show it.
pub struct Loaded {
    /// Its pins.
    pub gateway: Gateway,
    /// Its maps.
    pub maps: Maps,
    /// The daemon that runs it, if one does.
    pub daemon: Option<Daemon>,
}

/// What is to be shown, and when it was looked at.
pub struct View {
    /// The gateways.
    pub loaded: Vec<Loaded>,
    /// The network namespace's name.
    pub namespace: String,
    /// The kernel's ticks.
    pub clock: Clock,
    /// When, in ticks.
    pub now: u64,
}

impl View {
    /// The gateways that are asked for.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn of(selection: &Selection) -> Result<Self, Failure> {
        let clock = Clock::of_this_kernel()?;
        let pins = Pins::here(&selection.state_dir)?;
        let trust = Trust::of(pins.state_dir());
        let mut gateways = gateways(&pins, &selection.wan)?;
        if gateways.is_empty() {
            gateways = behind_private_mounts(&pins, &selection.wan)?;
        }
        if gateways.is_empty() {
            return Err(Failure::NotRunning(nothing(&pins, &selection.wan)?));
        }
        let loaded = gateways
            .into_iter()
            .map(|gateway| open(gateway, trust))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            loaded,
            namespace: pins.namespace().to_owned(),
            clock,
            now: clock.now(),
        })
    }

    /// Seconds since a tick.
    pub fn age(&self, since: u64) -> f64 {
        self.clock.between(since, self.now).as_secs_f64()
    }

    /// Seconds until a tick.
    pub fn left(&self, until: u64) -> f64 {
        self.clock.between(self.now, until).as_secs_f64()
    }
}

fn gateways(pins: &Pins, wans: &[String]) -> anyhow::Result<Vec<Gateway>> {
    let all = pins.gateways().map_err(|error| {
        let why = requirements::why_refused();
        error.context(format!("cannot look for gateways{why}"))
    })?;
    Ok(all
        .into_iter()
        .filter(|gateway| gateway.is_one_of(wans))
        .collect())
}

/// A daemon started by `ip netns exec` has its pins on a mount of its own: they are seen through
/// its eyes, for as long as it lives.
fn behind_private_mounts(pins: &Pins, wans: &[String]) -> anyhow::Result<Vec<Gateway>> {
    let mut found: Vec<Gateway> = Vec::new();
    for (pid, hello) in daemons(pins, wans)? {
        if Path::new(&hello.state_dir) != pins.state_dir() {
            continue;
        }
        for gateway in gateways(&pins.seen_by(pid), wans)? {
            if !found.contains(&gateway) {
                found.push(gateway);
            }
        }
    }
    Ok(found)
}

/// The daemons of this network namespace that answer: process and what it says of itself.
fn daemons(pins: &Pins, wans: &[String]) -> anyhow::Result<Vec<(u32, Hello)>> {
    let (dir, trust) = (RuntimeDir::here()?, Trust::of(pins.state_dir()));
    Ok(dir
        .wans()
        .into_iter()
        .filter(|wan| wans.is_empty() || wans.contains(wan))
        .filter_map(|wan| {
            let daemon = daemon_of(&dir, &wan, trust)?;
            Some((daemon.pid, daemon.hello()?.clone()))
        })
        .collect())
}

fn nothing(pins: &Pins, wans: &[String]) -> anyhow::Result<String> {
    let which = if wans.is_empty() {
        String::new()
    } else {
        format!(" for {}", wans.join(", "))
    };
    let elsewhere = daemons(pins, wans)?.into_iter().find_map(|(pid, hello)| {
        (Path::new(&hello.state_dir) != pins.state_dir()).then(|| {
            format!(
                "; process {pid} runs one with --state-dir {}",
                hello.state_dir
            )
        })
    });
    Ok(format!(
        "no gateway is loaded{which} in this network namespace, below {}{}",
        pins.state_dir().display(),
        elsewhere.unwrap_or_default()
    ))
}

fn open(gateway: Gateway, trust: Trust) -> anyhow::Result<Loaded> {
    let maps = Maps::open(&gateway)?;
    let dir = RuntimeDir::here()?;
    let wans = gateway.wans();
    let daemon = wans.iter().find_map(|wan| daemon_of(&dir, wan, trust));
    Ok(Loaded {
        gateway,
        maps,
        daemon,
    })
}
