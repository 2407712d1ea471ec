//! The daemon: loads the datapath, keeps it current, sweeps, listens, and leaves it running.

mod answer;
mod audit;
mod clients;
mod decisions;
mod event_bus;
mod event_log;
mod flood;
mod health;
mod lists;
mod nearing;
mod network_changes;
mod occurrence;
mod reconciler;
mod reconciler_thread;
mod repair;
mod reserved;
mod ring;
mod startup;
mod sweep;
mod sweeper;
mod systemd;
mod transfers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use ftp_nat_common::{abi::Event, counter::Counter};
use jiff::Timestamp;
use log::{info, warn};
use sd_notify::NotifyState;
use tokio::{
    runtime::{Builder, Handle},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, oneshot, watch as latest},
    task::spawn_blocking,
    time::{interval, sleep_until},
};

use self::{
    reconciler::Reconciler,
    reconciler_thread::ReconcilerThread,
    repair::Repairer,
    ring::{Message, Ring},
    startup::Attached,
    sweep::lifetime::Lifetimes,
    systemd::notify,
    transfers::Kernel,
};
use crate::{
    cluster,
    config::{self, Config, RunArgs},
    datapath::{attach, maps, pins::Gateway},
    ipc::{
        lock::{self, Guard},
        message::Hello,
        runtime_dir::RuntimeDir,
        trust::Trust,
    },
    kernel::{network::Network, privileges, realtime, requirements},
    metrics,
    model::event::time_text,
    output::{failure::Failure, logging},
    policy::{self, Obstacle, Policy},
};

/// `ftp-nat run`.
///
/// # Errors
///
/// Whatever keeps the gateway from running.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = config::assemble(args)
        .map_err(|problems| Failure::Usage(problems.iter().map(ToString::to_string).collect()))?;
    let network = Network::read(policy::destinations(&config), &policy::networks(&config))?;
    let policy = effective(&config, &network)?;
    if let Some(missing) = requirements::missing_privileges() {
        return Err(anyhow!(missing).into());
    }
    if let Some(missing) = requirements::missing_features() {
        return Err(anyhow!(missing).into());
    }
    if let Some(obstacle) = realtime::obstacle() {
        return Err(anyhow!(obstacle).into());
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(args.clone(), config, network, policy));
    // A sweep that is under way is not waited for.
    runtime.shutdown_background();
    logging::flush();
    Ok(served?)
}

/// The policy, when nothing stands in its way but what may be waited for.
fn effective(config: &Config, network: &Network) -> Result<Policy, Failure> {
    let (mut policy, obstacles) = Policy::derive(config, network);
    let (awaited, fatal): (Vec<_>, Vec<_>) = obstacles.iter().partition(|it| it.is_awaited());
    let wrong: Vec<_> = fatal
        .iter()
        .filter(|it| !matches!(it, Obstacle::NoRoute(_)))
        .map(ToString::to_string)
        .collect();
    if !wrong.is_empty() {
        return Err(Failure::Usage(wrong));
    }
    if let Some(obstacle) = fatal.first() {
        return Err(anyhow!(obstacle.to_string()).into());
    }
    let awaited = awaited.iter().map(|it| format!("{it}; waiting for it"));
    policy.warnings.extend(awaited);
    Ok(policy)
}

async fn serve(
    args: RunArgs,
    config: Config,
    network: Network,
    policy: Policy,
) -> anyhow::Result<()> {
    // Everything that can be refused is tried before anything is attached.
    let trust = Trust::of(&config.state_dir);
    let wans = config.wan.iter().map(|wan| wan.value.as_str());
    let mut guards = lock::take(&RuntimeDir::here()?, wans, trust)?;
    let listener = match &config.metrics_listen {
        Some(address) => Some((address.value, metrics::http::listen(address.value)?)),
        None => None,
    };
    let losses = Arc::<metrics::Losses>::default();
    let mut files = Vec::new();
    for (path, form) in [
        (&config.audit_log, audit::Form::Json),
        (&config.xferlog, audit::Form::Xferlog),
    ] {
        if let Some(path) = path {
            files.push(audit::Audit::open(path, form, Arc::clone(&losses))?);
        }
    }
    let mut signals = Signals::listen()?;
    let mut changes = network_changes::NetworkChanges::listen()?;
    let Attached {
        config,
        gateway,
        maps,
        policy,
        clock,
        is_private,
        held,
        rollback,
    } = startup::start(config, &network, policy)?;
    let ring = Ring::new(maps::events(&gateway)?, config.cluster.is_some())?;
    // Before any other thread is started: each has its own.
    privileges::drop_surplus();
    logging::detach()?;
    let files = files
        .into_iter()
        .map(audit::Opened::start)
        .collect::<Result<_, _>>()?;

    for warning in &policy.warnings {
        warn!("{warning}");
    }
    let bus = Arc::new(event_bus::EventBus::new(clock, files, Arc::clone(&losses)));
    if config.transfers {
        let tables = Kernel(Arc::clone(&maps));
        bus.tell_transfers(Some(Box::new(tables)));
    }
    let digest = cluster::node::digest(&policy.shared());
    let reported = policy.warnings.clone();
    let insides = policy.insides().map(ToOwned::to_owned).collect();
    let (policies, _) = latest::channel(Arc::new(policy));
    let lists = lists::Lists::start(&config, Arc::clone(&maps), clock)?;
    let pools = health::Pools {
        maps: Arc::clone(&maps),
        policies: policies.subscribe(),
        clock,
        bus: Arc::clone(&bus),
        decided: Arc::default(),
    };
    if let Some(config) = &config.cluster {
        let decided = decisions::Decided {
            node: config.node,
            lists: lists.clone(),
            pools: pools.clone(),
        };
        let cluster = cluster::node::start(
            config,
            digest,
            Arc::clone(&maps),
            policies.subscribe(),
            clock,
            Arc::new(decided),
        )?;
        bus.share(cluster.clone());
        lists.share(cluster);
    }
    let (lifetimes, _) = latest::channel(Lifetimes::new(&config.timeouts, &clock));
    let need = Arc::<Notify>::default();
    let (health, _) = latest::channel(config.health);
    let sweeps = sweeper::start(
        Arc::clone(&maps),
        policies.subscribe(),
        lifetimes.subscribe(),
        clock,
        Arc::clone(&bus),
        Arc::clone(&need),
    );
    let source = metrics::Source::new(Arc::clone(&maps), sweeps, losses)
        .with_cluster(bus.cluster().map(|it| Arc::clone(it.status())))
        .with_transfers(Arc::clone(bus.transfers()));
    pools
        .clone()
        .check(health.subscribe(), Arc::clone(source.checks()));
    let listeners = guards
        .iter()
        .map(Guard::listener)
        .collect::<Result<_, _>>()
        .context("cannot copy the descriptor of the daemon's socket")?;
    let mut orders = answer::start(
        listeners,
        hello(&config, &gateway),
        source.clone(),
        &bus,
        lists.clone(),
        pools,
    )?;
    let (end, ended) = oneshot::channel::<()>();
    let wans = config.wan.iter().map(|wan| wan.value.clone()).collect();
    let reserved = reserved::Reserved::start(Arc::clone(&maps), wans)?;
    let watchers = Watchers {
        clients: clients::Clients::start(Arc::clone(&maps))?,
        nearing: nearing::Nearing::new(Arc::clone(&maps)),
        need,
    };
    let publishing = tokio::spawn(publish_events(ring, Arc::clone(&bus), watchers, ended));
    for guard in &mut guards {
        guard.set_ready().context("cannot write the lock file")?;
    }
    ready(&config, &gateway, &network)?;
    rollback.keep();
    trim();
    let repairer = Repairer::new(&gateway, held)?;
    let reconciler = Reconciler {
        args,
        config,
        gateway,
        maps,
        clock,
        policies,
        lifetimes,
        health,
        reserved,
        lists: lists.clone(),
        metrics: reconciler::Scraped::start(source, Handle::current(), listener),
        reported,
        last_duration: Duration::ZERO,
        // What is kept of another configuration is looked for soon.
        has_leftovers: true,
        insides,
        repairer,
        unrepaired: None,
    };
    let reconciler = ReconcilerThread::start(reconciler, Arc::clone(&bus))?;
    let stopped = run_until_stopped(
        &reconciler,
        &mut changes,
        &mut signals,
        &mut orders,
        &bus,
        &lists,
    )
    .await;
    notify(&[NotifyState::Stopping]);
    reconciler.stop();
    drop(end);
    publishing
        .await
        .context("the task that publishes events failed")?;
    stopped?;
    for file in bus.files() {
        file.finish();
    }
    if is_private {
        info!("the programs end with this process, and so do their connections");
    } else {
        info!(
            "the programs stay attached, so that no connection breaks: `ftp-nat run` takes them \
             over, `ftp-nat unload` removes them"
        );
    }
    Ok(())
}

/// Why something was refused that may be let in once what has ended is gone.
const LACKS_ROOM: [Counter; 4] = [
    Counter::DeniedNoRoom,
    Counter::DeniedClientSessions,
    Counter::DeniedClientConnections,
    Counter::PassedMapFull,
];

/// Who looks at the datapath's events before they are published.
struct Watchers {
    clients: clients::Clients,
    nearing: nearing::Nearing,
    /// Notified when room is needed.
    need: Arc<Notify>,
}

impl Watchers {
    fn see(&self, event: &Event) {
        self.clients.see(event);
        let lacks_room = LACKS_ROOM.iter().any(|it| *it as u16 == event.reason);
        if lacks_room || self.nearing.is_near(event) {
            self.need.notify_one();
        }
    }
}

/// Publishes the datapath's events until `ended` is dropped, and then those that the ring still holds.
async fn publish_events(
    mut ring: Ring,
    bus: Arc<event_bus::EventBus>,
    watchers: Watchers,
    mut ended: oneshot::Receiver<()>,
) {
    let publish = |told: Message<'_>| match told {
        Message::Event(event) => {
            watchers.see(event);
            bus.publish_of_datapath(event);
        }
        Message::Said(said, line) => bus.hear(said, line),
    };
    loop {
        let latest = Instant::now() + TICK;
        let due = bus.look_after_transfers().unwrap_or(latest).min(latest);
        tokio::select! {
            () = sleep_until(due.into()) => {}
            next = ring.next(publish) => if let Err(error) = next {
                warn!("no more events are published: {error:#}");
                return;
            },
            // Its other end is dropped.
            _ = &mut ended => break,
        }
    }
    ring.drain(publish);
}

/// How often the sums of floods are looked for, and whether the reconciler works.
const TICK: Duration = Duration::from_secs(1);

/// Passes on what signals, clients and the network ask for, until a signal asks to stop. Nothing
/// here waits for anything else.
async fn run_until_stopped(
    reconciler: &ReconcilerThread,
    changes: &mut network_changes::NetworkChanges,
    signals: &mut Signals,
    orders: &mut mpsc::Receiver<answer::ReloadOrder>,
    bus: &event_bus::EventBus,
    lists: &lists::Lists,
) -> anyhow::Result<()> {
    // Twice as often as systemd wants to hear of us.
    let watchdog = sd_notify::watchdog_enabled();
    let mut alive = interval(watchdog.map_or(TICK, |patience| patience / 2));
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signalled::Stop(signal) => {
                    info!("stopping: {signal}");
                    return Ok(());
                }
                Signalled::Reload => reconciler.reload(None),
            },
            Some(order) = orders.recv() => reconciler.reload(Some(order)),
            drained = changes.drain() => {
                let changed = drained.context("lost sight of the network")?;
                if changed.addresses && let Some(cluster) = bus.cluster() {
                    cluster.addresses_changed();
                }
                reconciler.network_changed(changed.links);
            }
            _ = tick.tick() => {
                reconciler.check()?;
                bus.flush_summaries();
                let lists = lists.clone();
                // It may write a file; nothing waits for that.
                drop(spawn_blocking(move || lists.expire()));
            }
            _ = alive.tick() => {
                if watchdog.is_some() && !reconciler.is_stuck() {
                    notify(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

fn hello(config: &Config, gateway: &Gateway) -> Hello {
    Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateway: gateway.name().to_owned(),
        state_dir: config.state_dir.display().to_string(),
        since: Some(time_text(Timestamp::now())),
        last_reload: None,
    }
}

fn ready(config: &Config, gateway: &Gateway, network: &Network) -> anyhow::Result<()> {
    let attached = attach::attached(gateway, network)?;
    let hooks: Vec<_> = attached
        .iter()
        .map(|it| {
            format!(
                "{} {} ({})",
                it.interface,
                it.program.name(),
                it.kind.name()
            )
        })
        .collect();
    info!(
        "ready: {} published, {} networks masqueraded; attached: {}",
        config.publish.len(),
        policy::networks(config).len(),
        if hooks.is_empty() {
            "nothing yet".to_owned()
        } else {
            hooks.join(", ")
        }
    );
    notify(&[NotifyState::Ready]);
    Ok(())
}

/// Gives back the memory that loading took: the kernel's type information alone is megabytes.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What a signal asks for.
enum Signalled {
    Stop(&'static str),
    Reload,
}

/// The signals that the daemon hears.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signalled {
        tokio::select! {
            _ = self.terminate.recv() => Signalled::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Signalled::Stop("SIGINT"),
            _ = self.reload.recv() => Signalled::Reload,
        }
    }
}
