//! Loading and attaching: from a configuration to a gateway that works.

use std::{fs::File, iter, sync::Arc};

use anyhow::{Context as _, bail};
use log::{info, warn};

use super::{reconciler::interfaces_in_use, repair::Held};
use crate::{
    config::{Config, Datapath},
    datapath::{
        attach::{self, Changes, Hook},
        load,
        maps::{self, Maps},
        pins::{Gateway, Pins},
    },
    kernel::{bpffs, clock::Clock, network::Network},
    policy::{self, Policy},
};

/// A gateway that is loaded and attached.
pub(super) struct Attached {
    pub(super) config: Config,
    pub(super) gateway: Gateway,
    pub(super) maps: Arc<Maps>,
    pub(super) policy: Policy,
    pub(super) clock: Clock,
    /// Whether its pins end with this process.
    pub(super) is_private: bool,
    pub(super) held: Held,
    pub(super) rollback: Rollback,
}

/// Loads and attaches; what was made is taken back when something fails.
///
/// # Errors
///
/// What was refused, and what to do about it.
pub(super) fn start(
    config: Config,
    network: &Network,
    mut policy: Policy,
) -> anyhow::Result<Attached> {
    let clock = Clock::of_this_kernel()?;
    bpffs::prepare(&config.state_dir)?;
    let is_private = bpffs::is_private(&config.state_dir);
    if is_private {
        warn!(
            "{} is on a mount that only this process sees (`ip netns exec` makes such): its pins, \
             and with them the gateway and its connections, end with this process; enter the \
             namespace with `nsenter --net=/run/netns/NAME` instead",
            config.state_dir.display()
        );
    }
    let pins = Pins::here(&config.state_dir)?;
    let gateway = choose(&pins, &config)?;
    let mut rollback = Rollback {
        is_new: !gateway.exists(),
        gateway: gateway.clone(),
        pins,
        changes: Changes::default(),
        lost: Vec::new(),
        is_kept: false,
        spare: (0..2)
            .map(|_| File::open("/dev/null"))
            .collect::<Result<_, _>>()
            .context("cannot open /dev/null")?,
    };
    let (maps, held) = bring_up(&config, network, &mut policy, &clock, &mut rollback)?;
    if !rollback.is_new {
        match rollback.lost.as_slice() {
            [] => info!("took over what was loaded: its connections go on"),
            lost => warn!(
                "took over what was loaded, but some of its maps had been removed and are empty \
                 now: {}; connections whose entries were in them are not known any more",
                lost.join(", ")
            ),
        }
    }
    Ok(Attached {
        config,
        gateway,
        maps: Arc::new(maps),
        policy,
        clock,
        is_private,
        held,
        rollback,
    })
}

/// Takes back what a start has made, unless the start succeeds: no programs stay attached that no
/// daemon has ever looked after.
pub(super) struct Rollback {
    /// Whether the gateway was not there before.
    is_new: bool,
    gateway: Gateway,
    pins: Pins,
    changes: Changes,
    /// Maps of a gateway that was there before which were not.
    lost: Vec<&'static str>,
    is_kept: bool,
    /// Closed before what was made is taken back: that reads folders, which must work where the
    /// start failed for want of descriptors (EMFILE). Two: one is for a detached program's link.
    spare: Vec<File>,
}

impl Rollback {
    /// The start has succeeded.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Rollback {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        self.spare.clear();
        std::mem::take(&mut self.changes).undo(&self.gateway);
        if self.is_new {
            if let Err(error) = self.gateway.remove() {
                warn!("{error:#}");
            }
            self.pins.prune();
        }
    }
}

fn bring_up(
    config: &Config,
    network: &Network,
    policy: &mut Policy,
    clock: &Clock,
    rollback: &mut Rollback,
) -> anyhow::Result<(Maps, Held)> {
    let gateway = &rollback.gateway;
    gateway.create()?;
    let pins_lock = gateway.lock()?;
    rollback.lost = maps::names()
        .filter(|name| !gateway.map(name).exists())
        .collect();
    let with_xdp = config.datapath == Datapath::Xdp;
    let (publishes, pools) = (policy.published.len(), policy.pools.len());
    let guard = load::load(gateway, &config.limits, publishes, pools, with_xdp)?;
    let maps = Maps::open(gateway)?;
    keep_what_is_used(config, gateway, &maps, network, policy)?;
    let old = of_other_versions(config, &rollback.pins);
    let known: Vec<_> = iter::once(gateway).chain(&old).collect();
    attach::refuse_foreign_programs(&known, network, &policy.hooks)?;
    let epoch = maps.settings()?.route_epoch.wrapping_add(1).max(1);
    maps.set_settings(&policy::settings(config, clock, epoch))?;
    policy.apply(&maps, clock)?;
    for old in &old {
        // Of XDP there can be one program only, and without it everything works.
        attach::detach_xdp(old)?;
    }
    let changes = &mut rollback.changes;
    attach::reconcile(gateway, network, &policy.hooks, config.placing(), changes)?;
    // Only now: at no moment a packet meets neither of them.
    for old in &old {
        attach::detach_all(old)?;
        old.remove()?;
    }
    rollback.pins.prune();
    for slow in attach::mark_fast(gateway, network, &maps)? {
        warn!("{slow}");
    }
    Ok((maps, Held { pins_lock, guard }))
}

/// Keeps programs that the policy does not want: those on inside interfaces by which connections leave
/// (a redirected one without its program would have one half in the stack), and, while a WAN interface
/// of the configuration is missing, those on outside interfaces, of which one may be that one by another
/// name.
fn keep_what_is_used(
    config: &Config,
    gateway: &Gateway,
    maps: &Maps,
    network: &Network,
    policy: &mut Policy,
) -> anyhow::Result<()> {
    attach::follow_names(gateway, network, &attach::renamed(gateway, network)?)?;
    let attached = attach::attached(gateway, network)?;
    let hooks = attached.iter().filter_map(|it| {
        Some(Hook {
            link: network.named(&it.interface)?.clone(),
            program: it.program,
        })
    });
    let old = Policy {
        hooks: hooks.collect(),
        ..Policy::default()
    };
    let is_missing = |wan: &str| network.named(wan).is_none();
    if config.wan.iter().any(|wan| is_missing(&wan.value)) {
        policy.keep_renamed(&old, network);
    }
    if old.has_inside_beside(policy) {
        let used = interfaces_in_use(maps)?;
        policy.keep_inside(&old, network, |index| used.contains(&index));
    }
    Ok(())
}

/// The gateways that other versions of ftp-nat have left on our WAN interfaces.
fn of_other_versions(config: &Config, pins: &Pins) -> Vec<Gateway> {
    let wans: Vec<_> = config.wan.iter().map(|wan| wan.value.clone()).collect();
    let mut old = pins.of_other_versions();
    old.retain(|gateway| gateway.is_one_of(&wans));
    for gateway in &old {
        warn!(
            "{} holds a gateway of another version, whose tables this one cannot read: replacing \
             it ends its connections",
            gateway.dir().display()
        );
    }
    old
}

/// The gateway that has been loaded for one of the WAN interfaces, or a new one.
fn choose(pins: &Pins, config: &Config) -> anyhow::Result<Gateway> {
    let wants = |wan: &String| config.wan.iter().any(|configured| configured.value == *wan);
    let mut found: Vec<_> = pins
        .gateways()?
        .into_iter()
        .filter(|gateway| gateway.wans().iter().any(wants))
        .collect();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(Gateway::name).collect();
        bail!(
            "{} were loaded as gateways of their own and cannot become one: `ftp-nat unload` them \
             first, which ends their connections",
            names.join(" and ")
        );
    }
    match found.pop() {
        Some(gateway) => Ok(gateway),
        None => {
            let first = config.wan.first().context("no WAN interface")?;
            Ok(pins.gateway(&first.value))
        }
    }
}
