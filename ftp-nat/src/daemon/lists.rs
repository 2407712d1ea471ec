//! The deny and allow lists: what the configuration has, and what was added while running, which a
//! file keeps.

mod file;
mod table;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, bail};
use ftp_nat_common::{
    abi::{role, scope},
    wire::addr::Addr,
};
use jiff::Timestamp;
use log::{info, warn};

use crate::{
    client::connections,
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
/// The longest reason, in bytes.
const WHY_MAX: usize = 200;

/// The lists.
#[derive(Clone)]
pub(super) struct Lists(Arc<Shared>);

struct Shared {
    maps: Arc<Maps>,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Where what was added is kept.
    path: PathBuf,
    /// What was added while running.
    added: Vec<Entry>,
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
        let added = file::read(&path)?;
        let lists = Self(Arc::new(Shared {
            maps,
            clock,
            inner: Mutex::new(Inner {
                path,
                added,
                configured: Vec::new(),
                servers: Vec::new(),
            }),
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
        let mut inner = self.inner();
        let now = Timestamp::now();
        let entry = Entry {
            list: change.list,
            network: change.network,
            publish: change.publish,
            why: change.why.filter(|why| !why.is_empty()),
            since: Some(now),
            until: match change.seconds {
                Some(seconds) => Some(
                    now.checked_add(std::time::Duration::from_secs(seconds))
                        .context("such a long time has no end")?,
                ),
                None => None,
            },
        };
        check(&entry, &inner.servers)?;
        let before = inner.added.clone();
        inner.added.retain(|it| !it.is_same_place(&entry));
        let was_there = inner.added.len() < before.len();
        if change.removes {
            if inner.configured.iter().any(|it| it.is_same_place(&entry)) {
                inner.added = before;
                bail!(
                    "{} is in the configuration: take it out there",
                    entry.network
                );
            }
        } else {
            if inner.added.len() + inner.configured.len() >= MOST {
                inner.added = before;
                bail!("the lists are full: {MOST} networks");
            }
            inner.added.push(entry.clone());
        }
        let kept = file::write(&inner.path, &inner.added).and_then(|()| self.apply(&mut inner));
        if let Err(error) = kept {
            inner.added = before;
            return Err(error);
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
        let mut inner = self.inner();
        let now = Timestamp::now();
        if !inner.added.iter().any(|it| it.has_ended(now)) {
            return;
        }
        for entry in inner.added.iter().filter(|it| it.has_ended(now)) {
            info!("{} list: {} has ended", entry.list, entry.network);
        }
        inner.added.retain(|it| !it.has_ended(now));
        let kept = file::write(&inner.path, &inner.added).and_then(|()| self.apply(&mut inner));
        if let Err(error) = kept {
            warn!("cannot take networks out of the lists whose time is over: {error:#}");
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
        let all = inner.configured.iter().chain(&inner.added);
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
        let all: Vec<_> = inner.configured.iter().chain(&inner.added).collect();
        table::apply(&self.0.maps, &self.0.clock, &all, &inner.servers)
            .context("cannot write the lists of networks")
    }

    /// Ends the sessions of denied networks, with all their connections: no packet of them passes any
    /// more. Gives their numbers.
    fn end_denied(&self, inner: &Inner) -> anyhow::Result<Vec<u32>> {
        let denied: Vec<_> = inner
            .configured
            .iter()
            .chain(&inner.added)
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

/// Whether a network may be added or removed.
fn check(entry: &Entry, servers: &[String]) -> anyhow::Result<()> {
    if let Some(publish) = &entry.publish
        && !servers.contains(publish)
    {
        bail!(
            "nothing is published as {publish}: there are {}",
            servers.join(", ")
        );
    }
    if entry.why.as_ref().is_some_and(|why| why.len() > WHY_MAX) {
        bail!("a reason has at most {WHY_MAX} bytes");
    }
    if entry
        .why
        .as_ref()
        .is_some_and(|why| why.chars().any(char::is_control))
    {
        bail!("a reason has no control characters");
    }
    Ok(())
}
