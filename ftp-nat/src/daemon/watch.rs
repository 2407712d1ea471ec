//! Following interfaces, addresses and routes as they change.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use log::{debug, info, warn};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch::Sender,
    time::{sleep, timeout},
};

use crate::{
    attach::{self, Changes},
    clock::Clock,
    config::{Config, Datapath},
    maps::Maps,
    netlink,
    network::Network,
    pins::Gateway,
    policy::{self, Obstacle, Policy},
};

/// Changes come in bursts: one look serves all that come within this time.
const SETTLE: Duration = Duration::from_millis(100);

/// Hears of changes.
pub(super) struct News(AsyncFd<netlink::News>);

impl News {
    /// From now on, so that nothing between the first look and the watch is missed.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let news = netlink::News::open().context("cannot listen to the network's changes")?;
        // SAFETY: the descriptor is that of the socket in `news`, which stays open as long as it.
        unsafe { AsyncFd::register_with_interest(news, Interest::READABLE) }
            .map(Self)
            .map_err(|error| error.into_parts().1)
            .context("cannot wait for the network's changes")
    }

    async fn next(&mut self) -> anyhow::Result<()> {
        let tried = "cannot hear of the network's changes";
        let mut ready = self.0.readable_mut().await.context(tried)?;
        ready.get_inner_mut().drain().context(tried)?;
        ready.clear_ready();
        Ok(())
    }
}

/// Follows the network for ever; returns only with an error.
pub(super) async fn follow(
    mut news: News,
    config: &Config,
    gateway: &Gateway,
    maps: &Arc<Maps>,
    clock: &Clock,
    policies: &Sender<Arc<Policy>>,
) -> anyhow::Result<()> {
    // What has been said once is not repeated with every change of a route.
    let mut said: BTreeSet<String> = policies.borrow().warnings.clone();
    // Whether an interface sends XDP's frames depends on its other end, of which no news comes.
    let patience = match config.datapath {
        Datapath::Xdp => Duration::from_secs(5),
        _ => Duration::MAX,
    };
    loop {
        match timeout(patience, news.next()).await {
            Ok(heard) => {
                heard?;
                sleep(SETTLE).await;
            }
            Err(_) => debug!("looking at the network again"),
        }
        let old = Arc::clone(&policies.borrow());
        match update(config, gateway, maps, clock, &old) {
            Ok((policy, complaints)) => {
                for complaint in complaints.difference(&said) {
                    warn!("{complaint}");
                }
                said = complaints;
                if policy != *old {
                    info!("the network has changed: the policy follows");
                    policies.send_replace(Arc::new(policy));
                }
            }
            Err(error) => warn!("cannot follow a change of the network: {error:#}"),
        }
    }
}

/// Looks at the network and brings the datapath up to it.
fn update(
    config: &Config,
    gateway: &Gateway,
    maps: &Maps,
    clock: &Clock,
    old: &Policy,
) -> anyhow::Result<(Policy, BTreeSet<String>)> {
    let network = Network::look(policy::destinations(config), &policy::networks(config))?;
    let (mut policy, obstacles) = Policy::derive(config, &network);
    // A route that is away for a moment takes no program off its interface.
    if obstacles
        .iter()
        .any(|it| matches!(it, Obstacle::NoRoute(_)))
    {
        policy.keep_inside(old, &network);
    }
    let mut complaints: BTreeSet<_> = obstacles
        .iter()
        .map(ToString::to_string)
        .chain(policy.warnings.iter().cloned())
        .collect();
    if policy != *old {
        policy.apply(maps)?;
        let mut changes = Changes::default();
        attach::reconcile(
            gateway,
            &network,
            &policy.hooks,
            config.attach,
            &mut changes,
        )?;
    }
    complaints.extend(attach::mark_fast(gateway, &network, maps)?);
    // Only now: flows look their routes up again and find the new interfaces.
    let epoch = maps.settings()?.route_epoch.wrapping_add(1).max(1);
    debug!("route epoch {epoch}");
    maps.set_settings(&policy::settings(config, clock, epoch))?;
    Ok((policy, complaints))
}
