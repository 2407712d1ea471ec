//! Putting back what somebody else has removed: programs detached from interfaces, pins of links,
//! programs and maps, the whole folder.
//!
//! What the daemon holds open outlives its pins, so nothing is lost but what a program that was not
//! attached did not see. What cannot be put back, an unmounted BPF file system for one, is an error
//! that says so.

use std::{fs::File, sync::atomic::Ordering};

use anyhow::{Context as _, bail};
use log::debug;

use crate::{
    config::{Config, Datapath},
    datapath::{
        attach::{self, Attachment, Changes, Hook},
        guard::Guard,
        handles::Handles,
        load,
        maps::Maps,
        pins::Gateway,
        program::Program,
        stations,
    },
    kernel::{bpffs, network::Network},
    metrics::Repairs,
    policy::Policy,
};

/// What of a gateway lasts as long as its daemon.
pub(super) struct Held {
    /// The lock on the folder of the pins.
    pub(super) pins_lock: File,
    /// None: this kernel has not what it needs.
    pub(super) guard: Option<Guard>,
}

/// What is needed for repairs.
pub(super) struct Repairer {
    handles: Handles,
    held: Held,
    /// What was attached at the last look: an XDP program that never was is not missing.
    last: Vec<Attachment>,
}

impl Repairer {
    /// Holds on to all maps of a gateway.
    ///
    /// # Errors
    ///
    /// As [`Handles::open`].
    pub(super) fn new(gateway: &Gateway, held: Held) -> anyhow::Result<Self> {
        Ok(Self {
            handles: Handles::open(gateway)?,
            held,
            last: Vec::new(),
        })
    }

    /// Compares what is pinned and attached with what must be, and puts back what is missing.
    /// Gives what that was, a sentence each.
    ///
    /// # Errors
    ///
    /// What could not be put back.
    pub(super) fn repair(
        &mut self,
        gateway: &Gateway,
        maps: &Maps,
        config: &Config,
        policy: &Policy,
        repairs: &Repairs,
    ) -> anyhow::Result<Vec<String>> {
        let mut repaired = Vec::new();
        if !bpffs::is_on_bpf(gateway.dir()) {
            bail!(
                "{} is on no BPF file system any more: mount it again with `mount -t bpf bpf \
                 /sys/fs/bpf`, and its pins come back",
                config.state_dir.display()
            );
        }
        if !gateway.is_whole() {
            gateway.create()?;
            self.held.pins_lock = gateway.lock()?;
        }
        let pinned = self.handles.pin_again(gateway)?;
        if !pinned.is_empty() {
            repairs
                .maps
                .fetch_add(pinned.len() as u64, Ordering::Relaxed);
            repaired.push(format!(
                "the pins of maps were removed by another program and are there again: {}",
                pinned.join(", ")
            ));
        }
        let with_xdp = config.datapath == Datapath::Xdp;
        let unpinned = Program::ALL
            .into_iter()
            .filter(|program| with_xdp || !program.is_xdp())
            .filter(|program| !gateway.program(*program).exists())
            .count()
            + stations::unpinned(gateway);
        if unpinned > 0 {
            let (publishes, pools) = (policy.published.len(), policy.pools.len());
            self.held.guard = load::load(gateway, &config.limits, publishes, pools, with_xdp)
                .context("cannot load the programs again")?;
            repairs
                .programs
                .fetch_add(unpinned as u64, Ordering::Relaxed);
            repaired.push(
                "the pins of programs were removed by another program: they are loaded again"
                    .to_owned(),
            );
        }
        // Where nobody traces (any more), the stations are our own.
        if stations::lock(gateway)?.is_some() && stations::put_back(gateway)? {
            repairs.programs.fetch_add(1, Ordering::Relaxed);
            repaired.push(
                "other programs were in the places of the gateway's stations, as a killed trace \
                 leaves them: its own are there again"
                    .to_owned(),
            );
        }
        let network = Network::read([], &[])?;
        let missing = self.missing(gateway, &network, policy)?;
        // New programs take the old ones' places as well.
        if !missing.is_empty() || unpinned > 0 {
            let changes = &mut Changes::default();
            attach::reconcile(gateway, &network, &policy.hooks, config.placing(), changes)?;
            for slow in attach::mark_fast(gateway, &network, maps)? {
                debug!("{slow}");
            }
        }
        for hook in &missing {
            repairs.attachments.fetch_add(1, Ordering::Relaxed);
            repaired.push(format!(
                "{} was detached from {} by another program, or the interface was made anew: it is \
                 attached again",
                hook.program.name(),
                hook.link.name
            ));
        }
        self.last = attach::attached(gateway, &network)?;
        Ok(repaired)
    }

    /// The hooks that must be there, whose interface is there, and that are not.
    fn missing<'p>(
        &self,
        gateway: &Gateway,
        network: &Network,
        policy: &'p Policy,
    ) -> anyhow::Result<Vec<&'p Hook>> {
        let attached = attach::attached(gateway, network)?;
        let is_in = |list: &[Attachment], hook: &Hook| {
            list.iter()
                .any(|it| it.program == hook.program && it.interface == hook.link.name)
        };
        let hooks = policy.hooks.iter();
        Ok(hooks
            .filter(|hook| network.named(&hook.link.name) == Some(&hook.link))
            .filter(|hook| !is_in(&attached, hook))
            .filter(|hook| !hook.program.is_xdp() || is_in(&self.last, hook))
            .collect())
    }
}
