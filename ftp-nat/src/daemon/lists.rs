//! The deny and allow lists: what the configuration has, and what was added while running, which a
//! file keeps.

mod decided;
mod file;
mod table;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::{Context as _, bail};
use ftp_nat_common::{
    abi::{role, scope},
    wire::addr::Addr,
};
use jiff::Timestamp;
use log::{info, warn};
use tokio::{sync::Notify, task::spawn_blocking};

use self::decided::Decided;
use crate::{
    client::connections,
    cluster::{
        install::Outcome,
        node,
        record::{DeniedRecord, Record},
    },
    config::Config,
    datapath::{cut, maps::Maps},
    ipc::message::{Listing, NetworkChange},
    kernel::clock::Clock,
    model::{
        list::{Entry, List, Shown},
        prefix::Prefix,
    },
};

/// Networks that may be in the lists at once, those of the configuration included.
const MOST: usize = 32_768;
/// Of these so many may come from other gateways: there is always room for a command here.
const MOST_OF_OTHERS: usize = MOST / 2;

/// The lists.
#[derive(Clone)]
pub(super) struct Lists(Arc<Shared>);

struct Shared {
    maps: Arc<Maps>,
    clock: Clock,
    inner: Mutex<Inner>,
    /// Held while the file is written, and taken before `inner`.
    writing: Mutex<()>,
    /// Notified when something was taken over that is not in force yet.
    taken_over: Notify,
    cluster: OnceLock<node::Handle>,
}

struct Inner {
    /// Where what was added is kept.
    path: PathBuf,
    /// What was added while running, and taken out.
    decided: Decided,
    /// Whether something was taken over that is not in force, or not kept, yet.
    is_behind: bool,
    /// What the configuration has.
    configured: Vec<Entry>,
    /// What clients dial, in the order of the configuration: a server's scope is its place, from 1.
    servers: Vec<String>,
}

impl Lists {
    /// Reads what was kept and puts it into force, with what the configuration has.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be read: a gateway that forgets whom it must not let in does
    /// not start.
    pub(super) fn start(config: &Config, maps: Arc<Maps>, clock: Clock) -> anyhow::Result<Self> {
        let path = config.lists_file();
        let decided = file::read(&path)?;
        let lists = Self(Arc::new(Shared {
            maps,
            clock,
            inner: Mutex::new(Inner {
                path,
                decided,
                is_behind: false,
                configured: Vec::new(),
                servers: Vec::new(),
            }),
            writing: Mutex::default(),
            taken_over: Notify::new(),
            cluster: OnceLock::new(),
        }));
        lists.configure(config)?;
        Ok(lists)
    }

    /// Puts what the configuration has into force.
    ///
    /// # Errors
    ///
    /// When the table cannot be written.
    pub(super) fn configure(&self, config: &Config) -> anyhow::Result<()> {
        let mut inner = self.inner();
        inner.configured = configured(config);
        inner.servers = config
            .publish
            .iter()
            .map(|publish| publish.public.value.to_string())
            .collect();
        self.apply(&mut inner)?;
        self.end_denied(&inner).map(drop)
    }

    /// Adds a network or takes it out. Gives whether that has changed anything, and the sessions that
    /// it has ended.
    ///
    /// # Errors
    ///
    /// What is wrong with the request, or why it could not be kept or put into force.
    pub(super) fn change(&self, change: NetworkChange) -> anyhow::Result<Listing> {
        let _writing = self.writing();
        let mut inner = self.inner();
        let place = (change.list, change.network, change.publish.clone());
        let (now, since) = (Timestamp::now(), inner.decided.time_for(&place));
        let entry = Entry {
            list: change.list,
            network: change.network,
            publish: change.publish,
            why: change.why.filter(|why| !why.is_empty()),
            since: Some(since),
            node: None,
            until: match change.seconds {
                Some(seconds) => Some(
                    now.checked_add(std::time::Duration::from_secs(seconds))
                        .context("such a long time has no end")?,
                ),
                None => None,
            },
        };
        decided::check(&entry, &inner.servers)?;
        let before = inner.decided.clone();
        let mut was_there = false;
        if change.removes {
            if inner.configured.iter().any(|it| it.place() == place) {
                bail!(
                    "{} is in the configuration: take it out there",
                    entry.network
                );
            }
            was_there = inner.decided.remove(place, since, None);
        } else {
            if inner.decided.len() + inner.configured.len() >= MOST {
                bail!("the lists are full: {MOST} networks");
            }
            inner.decided.add(entry.clone());
        }
        let kept = file::write(&inner.path, &inner.decided).and_then(|()| self.apply(&mut inner));
        if let Err(error) = kept {
            inner.decided = before;
            return Err(error);
        }
        if let Some(cluster) = self.0.cluster.get()
            && entry.list == List::Deny
        {
            cluster.decide(decided::told(&entry, change.removes, cluster.node(), now));
        }
        let verb = if change.removes { "removed" } else { "added" };
        let what = entry.publish.as_deref().unwrap_or("all servers");
        let why = entry.why.as_deref().unwrap_or("no reason given");
        info!(
            "{} list: {verb} {} for {what} ({why})",
            entry.list, entry.network
        );
        let ended = if change.removes {
            Vec::new()
        } else {
            self.end_denied(&inner)?
        };
        Ok(Listing {
            changed: !change.removes || was_there,
            ended,
        })
    }

    /// Takes out what has ended.
    pub(super) fn expire(&self) {
        let ended = self.inner().decided.expire(Timestamp::now());
        for entry in &ended {
            info!("{} list: {} has ended", entry.list, entry.network);
        }
        if !ended.is_empty() {
            self.inner().is_behind = true;
        }
        self.catch_up();
    }

    /// From now on what is decided here goes to the other gateways of the cluster too, and what they tell comes
    /// into force.
    pub(super) fn share(&self, cluster: node::Handle) {
        // Only once; and that is what is meant.
        let _ = self.0.cluster.set(cluster);
        let lists = self.clone();
        tokio::spawn(async move {
            loop {
                lists.0.taken_over.notified().await;
                let lists = lists.clone();
                // It writes a file; those that come meanwhile are taken together.
                drop(spawn_blocking(move || lists.catch_up()).await);
            }
        });
    }

    /// What was decided by command, for the other gateways. `node`: this one's number.
    pub(super) fn told(&self, node: u8) -> Vec<Record> {
        self.inner().decided.told(node)
    }

    /// Takes over what another gateway tells; [`Lists::catch_up`] puts it into force.
    pub(super) fn take_over(&self, record: &DeniedRecord) -> Outcome {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let room = MOST_OF_OTHERS.min(MOST.saturating_sub(inner.configured.len()));
        let outcome = inner.decided.take_over(record, &inner.servers, room);
        if outcome == Outcome::Installed {
            let verb = if record.is_removed {
                "removed"
            } else {
                "added"
            };
            info!(
                "deny list: {verb} {}/{} by node {}",
                record.address, record.bits, record.node
            );
            inner.is_behind = true;
            self.0.taken_over.notify_one();
        }
        outcome
    }

    /// Puts into force what has changed but by command, and keeps it.
    fn catch_up(&self) {
        let _writing = self.writing();
        let (path, decided) = {
            let mut inner = self.inner();
            if !std::mem::take(&mut inner.is_behind) {
                return;
            }
            let applied = self.apply(&mut inner);
            if let Err(error) = applied.and_then(|()| self.end_denied(&inner).map(drop)) {
                inner.is_behind = true;
                warn!("cannot put the lists of networks into force: {error:#}; trying again");
                return;
            }
            (inner.path.clone(), inner.decided.clone())
        };
        // What others tell meanwhile does not wait for the disk.
        if let Err(error) = file::write(&path, &decided) {
            self.inner().is_behind = true;
            warn!("{error:#}; trying again");
        }
    }

    /// All networks of a list, and how often each was met.
    ///
    /// # Errors
    ///
    /// When the table cannot be read.
    pub(super) fn shown(&self, list: List) -> anyhow::Result<Vec<Shown>> {
        let inner = self.inner();
        let hits = table::hits(&self.0.maps)?;
        let decided = inner.decided.entries();
        let all = inner.configured.iter().chain(&decided);
        Ok(all
            .filter(|it| it.list == list)
            .map(|entry| Shown {
                hits: table::prefix(entry, &inner.servers)
                    .and_then(|prefix| hits.get(&prefix).copied())
                    .unwrap_or(0),
                entry: entry.clone(),
            })
            .collect())
    }

    fn apply(&self, inner: &mut Inner) -> anyhow::Result<()> {
        let decided = inner.decided.entries();
        let all: Vec<_> = inner.configured.iter().chain(&decided).collect();
        table::apply(&self.0.maps, &self.0.clock, &all, &inner.servers)
            .context("cannot write the lists of networks")
    }

    /// Ends the sessions of denied networks, with all their connections: no packet of them passes any
    /// more. Gives their numbers.
    fn end_denied(&self, inner: &Inner) -> anyhow::Result<Vec<u32>> {
        let decided = inner.decided.entries();
        let denied: Vec<_> = inner
            .configured
            .iter()
            .chain(&decided)
            .filter(|it| it.list == List::Deny)
            .map(|it| (it.network, table::scope_of(it, &inner.servers)))
            .collect();
        if denied.is_empty() {
            return Ok(Vec::new());
        }
        let is_denied = |peer: Addr, its: u32| {
            let ip = peer.to_ip();
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            let peer = Prefix::of(ip, bits);
            denied.iter().any(|(network, scope)| {
                (*scope == Some(scope::ALL) || *scope == Some(its)) && network.contains(&peer)
            })
        };
        let maps = &self.0.maps;
        let mut ended = Vec::new();
        maps.sessions
            .each(|number, session| {
                let its = if session.role == role::PUBLISH {
                    session.index.wrapping_add(1)
                } else {
                    scope::ALL
                };
                if is_denied(session.outside.addr, its) {
                    ended.push(*number);
                }
            })
            .context("cannot read the sessions")?;
        if ended.is_empty() {
            return Ok(ended);
        }
        for connection in connections::of(maps)? {
            if ended.contains(&connection.common().session) {
                cut::cut(maps, &connection).context("cannot end a connection")?;
            }
        }
        cut::forget_mappings(maps, |session| ended.contains(&session))?;
        info!("{} sessions of denied networks were ended", ended.len());
        Ok(ended)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the configuration has.
fn configured(config: &Config) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut add = |list, networks: &[Prefix], publish: Option<String>| {
        all.extend(networks.iter().map(|network| Entry {
            list,
            network: *network,
            publish: publish.clone(),
            why: None,
            since: None,
            until: None,
            node: None,
        }));
    };
    add(List::Deny, &config.lists.deny, None);
    add(List::Allow, &config.lists.allow, None);
    for publish in &config.publish {
        let name = publish.public.value.to_string();
        add(List::Deny, &publish.lists.deny, Some(name.clone()));
        add(List::Allow, &publish.lists.allow, Some(name));
    }
    all
}
