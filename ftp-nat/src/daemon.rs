//! The daemon: loads the datapath, keeps it current, sweeps, listens, and leaves it running.

mod answer;
pub mod sweeper;
mod watch;

use std::{os::unix::net::UnixListener, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use log::{info, warn};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::watch as latest,
};

use crate::{
    attach::{self, Changes},
    cli::RunArgs,
    clock::Clock,
    config::{Config, Datapath},
    event_log::EventLog,
    events::Events,
    exit::Failure,
    kernel,
    lifetime::Lifetimes,
    load, lock,
    maps::{self, Maps},
    metrics,
    network::Network,
    pins::{Gateway, Pins},
    policy::{self, Obstacle, Policy},
    state_dir,
};

/// A gateway that is loaded and attached.
struct Attached {
    config: Config,
    gateway: Gateway,
    maps: Arc<Maps>,
    policy: Policy,
    clock: Clock,
    /// Whether its pins end with this process.
    is_private: bool,
}

/// `ftp-nat run`.
///
/// # Errors
///
/// Whatever keeps the gateway from running.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = Config::assemble(args)
        .map_err(|problems| Failure::Usage(problems.iter().map(ToString::to_string).collect()))?;
    let network = Network::look(policy::destinations(&config), &policy::networks(&config))?;
    let policy = effective(&config, &network)?;
    if let Some(missing) = kernel::missing_privileges() {
        return Err(anyhow!(missing).into());
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config, network, policy))?;
    Ok(())
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

async fn serve(config: Config, network: Network, policy: Policy) -> anyhow::Result<()> {
    // Everything that can be refused is tried before anything is attached.
    let names = lock::take(config.wan.iter().map(|wan| wan.value.as_str()))?;
    let metrics_listener = config
        .metrics_listen
        .as_ref()
        .map(|given| metrics::http::listen(given.value))
        .transpose()?;
    let mut stop = Stop::listen()?;
    let news = watch::News::listen()?;
    let Attached {
        config,
        gateway,
        maps,
        policy,
        clock,
        is_private,
    } = start(config, &network, policy)?;
    let events = Events::new(maps::events(&gateway)?)?;

    for warning in &policy.warnings {
        warn!("{warning}");
    }
    let (policies, _) = latest::channel(Arc::new(policy));
    let lifetimes = Lifetimes::new(&config.timeouts, &clock);
    let sweeps = sweeper::start(Arc::clone(&maps), policies.subscribe(), lifetimes, clock);
    if let Some(listener) = metrics_listener {
        let source = metrics::Source::new(Arc::clone(&maps), sweeps);
        tokio::spawn(metrics::http::serve(listener, source));
    }
    tokio::spawn(log_events(events));
    answer::start(names, hello(&config, &gateway))?;
    ready(&config, &gateway, &network)?;
    trim();

    let watching = watch::follow(news, &config, &gateway, &maps, &clock, &policies);
    tokio::select! {
        signal = stop.wait() => info!("stopping: {signal}"),
        error = watching => return error.context("lost sight of the network"),
    }
    notify(&[sd_notify::NotifyState::Stopping]);
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

/// Loads and attaches; what was made is taken back when something fails.
fn start(config: Config, network: &Network, policy: Policy) -> anyhow::Result<Attached> {
    let clock = Clock::of_this_kernel()?;
    state_dir::prepare(&config.state_dir)?;
    let is_private = state_dir::is_private(&config.state_dir);
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
    let is_new = !gateway.exists();
    let mut changes = Changes::default();
    match bring_up(
        &config,
        network,
        &policy,
        &pins,
        &gateway,
        &clock,
        &mut changes,
    ) {
        Ok(maps) => {
            if !is_new {
                info!("took over what was loaded: its connections go on");
            }
            Ok(Attached {
                config,
                gateway,
                maps: Arc::new(maps),
                policy,
                clock,
                is_private,
            })
        }
        Err(error) => {
            changes.undo(&gateway);
            if is_new {
                if let Err(error) = gateway.remove() {
                    warn!("{error:#}");
                }
                pins.tidy();
            }
            Err(error)
        }
    }
}

fn bring_up(
    config: &Config,
    network: &Network,
    policy: &Policy,
    pins: &Pins,
    gateway: &Gateway,
    clock: &Clock,
    changes: &mut Changes,
) -> anyhow::Result<Maps> {
    gateway.create()?;
    let with_xdp = config.datapath == Datapath::Xdp;
    load::load(gateway, &config.limits, policy.published.len(), with_xdp)?;
    let maps = Maps::open(gateway)?;
    remove_other_versions(config, pins)?;
    attach::refuse_strangers(gateway, network, &policy.hooks)?;
    let epoch = maps.settings()?.route_epoch.wrapping_add(1).max(1);
    maps.set_settings(&policy::settings(config, clock, epoch))?;
    policy.apply(&maps)?;
    attach::reconcile(gateway, network, &policy.hooks, config.attach, changes)?;
    for slow in attach::mark_fast(gateway, network, &maps)? {
        warn!("{slow}");
    }
    Ok(maps)
}

/// Removes what other versions of ftp-nat have left on our WAN interfaces.
fn remove_other_versions(config: &Config, pins: &Pins) -> anyhow::Result<()> {
    let wans: Vec<_> = config.wan.iter().map(|wan| wan.value.clone()).collect();
    for old in pins.of_other_versions() {
        if !old.is_one_of(&wans) {
            continue;
        }
        warn!(
            "{} holds a gateway of another version, whose tables this one cannot read: removing it \
             ends its connections",
            old.dir().display()
        );
        attach::detach_all(&old)?;
        old.remove()?;
    }
    pins.tidy();
    Ok(())
}

/// The gateway that has been loaded for one of the WAN interfaces, or a new one.
fn choose(pins: &Pins, config: &Config) -> anyhow::Result<Gateway> {
    let wants = |wan: &String| config.wan.iter().any(|given| given.value == *wan);
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

fn hello(config: &Config, gateway: &Gateway) -> lock::Hello {
    lock::Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateway: gateway.name().to_owned(),
        state_dir: config.state_dir.display().to_string(),
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
    notify(&[sd_notify::NotifyState::Ready]);
    Ok(())
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot tell systemd: {error}");
    }
}

async fn log_events(mut events: Events) {
    let mut log = EventLog::default();
    loop {
        if let Err(error) = events.next(|event| log.write(event)).await {
            warn!("no more events are logged: {error:#}");
            return;
        }
    }
}

/// Gives back the memory that loading took: the kernel's type information alone is megabytes.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The signals that end the daemon.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The sockets that hold the WAN interfaces' names.
pub(crate) type Names = Vec<UnixListener>;
