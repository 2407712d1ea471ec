//! The reconciler: brings the datapath to what the configuration means on the network as it is now,
//! whenever either changes.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ftp_nat_common::abi::{Flow, cluster, setting};
use jiff::Timestamp;
use log::{debug, info, warn};
use tokio::{runtime::Handle, sync::watch::Sender, task::JoinHandle};

use super::{lists::Lists, repair::Repairer, reserved::Reserved, sweep::lifetime::Lifetimes};
use crate::{
    config::{self, Config, Datapath, Health, RunArgs, difference},
    datapath::{
        attach::{self, Changes},
        maps::Maps,
        pins::Gateway,
    },
    ipc::message::{Mistake, Reloaded},
    kernel::{clock::Clock, network::Network, table::Table},
    metrics,
    model::flow::Key,
    policy::{self, Obstacle, Policy},
};

/// How long after a first change of the network the reconciler waits for more: changes come in
/// bursts.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// At least so many times the duration of the last reconciliation: thousands of routes take a while
/// to look up.
const DEBOUNCE_FACTOR: u32 = 10;
/// But no longer than this: one reconciliation that was slow, on a busy machine, must not leave the
/// next change unheeded for half a minute.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(3);
/// Changes that are logged; a client of `reload` is told all of them.
const LOGGED: usize = 20;

/// The configuration in effect, and all that depends on it.
pub(super) struct Reconciler {
    pub(super) args: RunArgs,
    pub(super) config: Config,
    pub(super) gateway: Gateway,
    pub(super) maps: Arc<Maps>,
    pub(super) clock: Clock,
    pub(super) policies: Sender<Arc<Policy>>,
    pub(super) lifetimes: Sender<Lifetimes>,
    pub(super) health: Sender<Health>,
    pub(super) reserved: Reserved,
    pub(super) lists: Lists,
    pub(super) metrics: Scraped,
    /// The warnings of the last reconciliation, so that each is logged once.
    pub(super) reported: BTreeSet<String>,
    /// How long the last reconciliation took.
    pub(super) last_duration: Duration,
    /// Whether programs stay on interfaces only for the connections that still use them.
    pub(super) has_leftovers: bool,
    /// The inside interfaces that the gateway was attached to since the configuration was read, by
    /// name.
    pub(super) insides: BTreeSet<String>,
    pub(super) repairer: Repairer,
    /// Why the last repair failed, which is said once.
    pub(super) unrepaired: Option<String>,
}

/// Where metrics are served, and by whom.
pub(super) struct Scraped {
    source: metrics::Source,
    /// The runtime of the daemon's other thread, which serves.
    runtime: Handle,
    serving: Option<(SocketAddr, JoinHandle<()>)>,
}

impl Scraped {
    /// Serves them from now on, if anywhere.
    pub(super) fn start(
        source: metrics::Source,
        runtime: Handle,
        listener: Option<(SocketAddr, tokio::net::TcpListener)>,
    ) -> Self {
        let serving = listener.map(|(address, listener)| {
            let serving = runtime.spawn(metrics::http::serve(listener, source.clone()));
            (address, serving)
        });
        Self {
            source,
            runtime,
            serving,
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.serving.as_ref().map(|(address, _)| *address)
    }

    fn move_to(&mut self, listener: Option<(SocketAddr, tokio::net::TcpListener)>) {
        if let Some((_, serving)) = self.serving.take() {
            serving.abort();
        }
        *self = Self::start(self.source.clone(), self.runtime.clone(), listener);
    }
}

/// Why a configuration was not put into effect.
enum Refusal {
    Mistakes(Vec<Mistake>),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Reconciler {
    /// What is needed to tell transfers; None: they are not told.
    pub(super) fn tables_of_transfers(&self) -> Option<Box<dyn super::transfers::Tables>> {
        self.config
            .transfers
            .then(|| Box::new(super::transfers::Kernel(Arc::clone(&self.maps))) as _)
    }

    /// How long to let a burst of changes pass.
    pub(super) fn debounce(&self) -> Duration {
        (self.last_duration * DEBOUNCE_FACTOR).clamp(DEBOUNCE, LONGEST_DEBOUNCE)
    }

    /// Brings the datapath up to a network that has changed, or may have.
    pub(super) fn reconcile_network(&mut self) {
        let started = Instant::now();
        let old = Arc::clone(&self.policies.borrow());
        let followed = self
            .derive_policy(&self.config)
            .and_then(|(network, policy, obstacles)| {
                let mut complaints = complaints(&policy, &obstacles);
                let changed = policy != *old;
                complaints.extend(self.put_into_effect(
                    &self.config,
                    &network,
                    &policy,
                    changed,
                )?);
                Ok((policy, complaints, changed))
            });
        match followed {
            Ok((policy, complaints, changed)) => {
                self.insides.extend(policy.insides().map(ToOwned::to_owned));
                for complaint in complaints.difference(&self.reported) {
                    warn!("{complaint}");
                }
                self.reported = complaints;
                if changed {
                    info!("the network has changed: the policy follows");
                    self.policies.send_replace(Arc::new(policy));
                }
            }
            Err(error) => warn!("cannot follow a change of the network: {error:#}"),
        }
        // An interface that was made anew, with its old name and number, looks like the old one.
        self.repair();
        self.last_duration = started.elapsed();
    }

    /// Attaches to interfaces that have come back, at once: all else about them can wait until the
    /// network is quiet. An interface by the name of one that the gateway was attached to is taken
    /// for that one.
    pub(super) fn attach_returned(&mut self) {
        let old = Arc::clone(&self.policies.borrow());
        let attached = Network::read([], &[]).and_then(|network| {
            let mut policy = (*old).clone();
            let wans = self.config.wan.iter().map(|wan| wan.value.as_str());
            let inside = if self.config.redirects() {
                &self.insides
            } else {
                &BTreeSet::new()
            };
            if !policy.add_returned(&network, &wans.collect(), inside) {
                return Ok(None);
            }
            attach::follow_names(&self.gateway, &network, &old.hooks)?;
            let mut there = policy.hooks.clone();
            there.retain(|hook| network.numbered(hook.link.index).is_some());
            let changes = &mut Changes::default();
            attach::add(&self.gateway, &there, self.config.placing(), changes)?;
            for (index, interface) in &policy.interfaces {
                let tried = "cannot write the interfaces";
                self.maps.interfaces.set(index, interface).context(tried)?;
            }
            Ok(Some(policy))
        });
        match attached {
            Ok(Some(policy)) => {
                info!("an interface has come back: the programs are attached to it");
                self.policies.send_replace(Arc::new(policy));
            }
            Ok(None) => {}
            // It is tried again soon, with all that belongs to it.
            Err(error) => debug!("cannot attach to an interface that came back: {error:#}"),
        }
        // One that was made anew with its old name and number looks like the old one.
        self.repair();
    }

    /// Looks at the network and derives what the configuration means there now. Programs that are
    /// wanted no more stay where connections still depend on them.
    fn derive_policy(&self, config: &Config) -> anyhow::Result<(Network, Policy, Vec<Obstacle>)> {
        let network = Network::read(policy::destinations(config), &policy::networks(config))?;
        let (mut policy, obstacles) = Policy::derive(config, &network);
        let old = self.policies.borrow();
        policy.keep_renamed(&old, &network);
        // A route that is away for a moment takes no program off its interface.
        if obstacles
            .iter()
            .any(|it| matches!(it, Obstacle::NoRoute(_)))
        {
            policy.keep_inside(&old, &network, |_| true);
        } else if old.has_inside_beside(&policy) {
            let used = interfaces_in_use(&self.maps)?;
            policy.keep_inside(&old, &network, |index| used.contains(&index));
        }
        Ok((network, policy, obstacles))
    }

    /// Writes tables and settings, attaches and detaches; gives what works, but not as fast as
    /// meant.
    fn put_into_effect(
        &self,
        config: &Config,
        network: &Network,
        policy: &Policy,
        changed: bool,
    ) -> anyhow::Result<BTreeSet<String>> {
        if changed {
            policy.apply(&self.maps, &self.clock)?;
            attach::follow_names(&self.gateway, network, &self.policies.borrow().hooks)?;
            attach::reconcile(
                &self.gateway,
                network,
                &policy.hooks,
                config.placing(),
                &mut Changes::default(),
            )?;
        }
        let slow = attach::mark_fast(&self.gateway, network, &self.maps)?;
        // Only now: flows look their routes up again and find the new interfaces.
        self.maps.change_settings(|settings| {
            let epoch = settings.route_epoch.wrapping_add(1).max(1);
            debug!("route epoch {epoch}");
            let (learning_until, listened, no_lists) = (
                settings.learning_until,
                settings.cluster & cluster::LISTENED,
                settings.flags & setting::NO_LISTS,
            );
            *settings = policy::settings(config, &self.clock, epoch);
            settings.learning_until = learning_until;
            settings.cluster |= listened;
            settings.flags |= no_lists;
        })?;
        Ok(slow)
    }

    /// Puts back what somebody else has removed. Gives what that was, a line each.
    pub(super) fn repair(&mut self) -> Vec<String> {
        let policy = Arc::clone(&self.policies.borrow());
        let repaired = self.repairer.repair(
            &self.gateway,
            &self.maps,
            &self.config,
            &policy,
            self.metrics.source.repairs(),
        );
        match repaired {
            Ok(repaired) => {
                self.unrepaired = None;
                for what in &repaired {
                    warn!("{what}");
                }
                repaired
            }
            Err(error) => {
                let why = format!("{error:#}");
                if self.unrepaired.as_ref() != Some(&why) {
                    warn!("something of the gateway was removed and cannot be put back: {why}");
                }
                self.unrepaired = Some(why);
                Vec::new()
            }
        }
    }

    /// Takes programs off interfaces that only old connections needed, once those are gone. And
    /// whether an interface sends XDP's frames depends on its other end, of which no changes comes.
    pub(super) fn prune(&mut self) {
        if self.has_leftovers || self.config.datapath == Datapath::Xdp {
            self.reconcile_network();
            self.has_leftovers = self.leftovers_remain();
        }
    }

    fn leftovers_remain(&self) -> bool {
        let wanted = Network::read(
            policy::destinations(&self.config),
            &policy::networks(&self.config),
        );
        wanted.is_ok_and(|network| {
            let (wanted, _) = Policy::derive(&self.config, &network);
            self.policies.borrow().has_inside_beside(&wanted)
        })
    }

    /// Reads the configuration anew and puts it into effect, or leaves everything as it is.
    pub(super) fn reload(&mut self) -> Reloaded {
        let started = Instant::now();
        self.reserved.refresh();
        let mut reloaded = Reloaded::default();
        match self.try_reload(&mut reloaded) {
            Ok(()) => reloaded.applied = true,
            Err(Refusal::Mistakes(mistakes)) => reloaded.mistakes = mistakes,
            Err(Refusal::Failed(error)) => reloaded.failed = Some(format!("{error:#}")),
        }
        self.metrics
            .source
            .reloads()
            .note(reloaded.applied, Timestamp::now());
        reloaded.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        log_reload(&reloaded);
        reloaded
    }

    fn try_reload(&mut self, reloaded: &mut Reloaded) -> Result<(), Refusal> {
        let mut config = config::assemble(&self.args)
            .map_err(|problems| Refusal::Mistakes(problems.iter().map(Mistake::from).collect()))?;
        let repaired = self.repair();
        reloaded.needs_restart = difference::keep_what_stays(&self.config, &mut config);
        let (network, policy, obstacles) = self.derive_policy(&config)?;
        let fatal: Vec<_> = obstacles.iter().filter(|it| !it.is_awaited()).collect();
        if !fatal.is_empty() {
            let mistakes = fatal.iter().map(|it| Mistake::from(it.problem()));
            return Err(Refusal::Mistakes(mistakes.collect()));
        }
        self.has_room(&policy)?;
        // Whatever can be refused is tried before anything changes.
        let wanted = config.metrics_listen.as_ref().map(|address| address.value);
        let listener = match wanted {
            Some(address) if self.metrics.address() != wanted => {
                // A listener belongs to a runtime.
                let _entered = self.metrics.runtime.enter();
                Some((address, metrics::http::listen(address)?))
            }
            _ => None,
        };
        let old = Arc::clone(&self.policies.borrow());
        let slow = self.put_into_effect(&config, &network, &policy, policy != *old);
        if slow.is_err() {
            // The tables are what the old configuration wants, or will be with the next change.
            if let Err(error) = self.put_into_effect(&self.config, &network, &old, true) {
                warn!("cannot go back to the old configuration: {error:#}");
            }
        }
        let slow = slow.context("the old configuration stays in effect")?;
        self.lists.configure(&config)?;
        if self.metrics.address() != wanted {
            self.metrics.move_to(listener);
        }
        reloaded.changed = repaired;
        reloaded
            .changed
            .extend(difference::changes(&self.config, &config));
        self.reported = complaints(&policy, &obstacles);
        self.reported.extend(slow);
        reloaded.warnings = self.reported.iter().cloned().collect();
        self.lifetimes
            .send_replace(Lifetimes::new(&config.timeouts, &self.clock));
        if self.config.health != config.health {
            self.health.send_replace(config.health);
        }
        self.policies.send_replace(Arc::new(policy));
        self.config = config;
        self.insides = self.policies.borrow().insides().map(Into::into).collect();
        self.has_leftovers = self.leftovers_remain();
        Ok(())
    }

    /// Tables keep the size that they were made with.
    fn has_room(&self, policy: &Policy) -> anyhow::Result<()> {
        let room = self.maps.published.room()? as usize;
        let old = self.policies.borrow().published_and_addresses();
        let new = policy.published_and_addresses();
        // The new ones are written before the old ones are deleted.
        let wanted = new.len() + old.keys().filter(|key| !new.contains_key(key)).count();
        if wanted > room {
            bail!(
                "{wanted} published addresses and ports are more than the {room} that there is \
                 room for: stop the daemon, `ftp-nat unload` (which ends its connections) and \
                 start it again"
            );
        }
        let room = self.maps.pools.room()? as usize;
        let old = Arc::clone(&self.policies.borrow());
        let gone = old.pools.keys();
        let gone = gone.filter(|key| !policy.pools.contains_key(key)).count();
        let wanted = policy.pools.len() + gone;
        if wanted > room {
            bail!(
                "{wanted} public ends with several servers are more than the {room} that there is \
                 room for: stop the daemon, `ftp-nat unload` (which ends its connections) and start \
                 it again"
            );
        }
        Ok(())
    }
}

/// What a policy warns of, and what stands in its way.
fn complaints(policy: &Policy, obstacles: &[Obstacle]) -> BTreeSet<String> {
    obstacles
        .iter()
        .map(|it| format!("{it}; waiting for it"))
        .chain(policy.warnings.iter().cloned())
        .collect()
}

/// The interfaces that live connections leave by.
pub(super) fn interfaces_in_use(maps: &Maps) -> anyhow::Result<BTreeSet<u32>> {
    fn of<K: Key>(table: &Table<K, Flow>, used: &mut BTreeSet<u32>) -> anyhow::Result<()> {
        table
            .each(|_, flow| {
                if flow.out_ifindex != 0 {
                    used.insert(flow.out_ifindex);
                }
            })
            .context("cannot read the connections")
    }
    let mut used = BTreeSet::new();
    of(&maps.flows4, &mut used)?;
    of(&maps.flows6, &mut used)?;
    Ok(used)
}

fn log_reload(reloaded: &Reloaded) {
    if !reloaded.applied {
        for mistake in reloaded.mistakes.iter().take(LOGGED) {
            warn!("{}", mistake.text);
        }
        if let Some(more) = reloaded.mistakes.len().checked_sub(LOGGED + 1) {
            warn!("and {} more mistakes", more + 1);
        }
        let why = reloaded.failed.as_deref().unwrap_or("it has mistakes");
        warn!("the new configuration is not put into effect, the old one stays: {why}");
        return;
    }
    let count = reloaded.changed.len();
    info!("reloaded: {count} changes in {} ms", reloaded.took_ms);
    for change in reloaded.changed.iter().take(LOGGED) {
        info!("{change}");
    }
    if let Some(more) = count.checked_sub(LOGGED + 1) {
        info!("and {} more changes", more + 1);
    }
    for kept in &reloaded.needs_restart {
        warn!("not changed yet: {kept}");
    }
    for warning in &reloaded.warnings {
        warn!("{warning}");
    }
}
