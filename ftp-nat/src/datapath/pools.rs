//! The pools of servers: each server's state, and which of them new sessions go to.
//!
//! The map is the only place where states are kept: so they outlive the daemon, and whoever shows them
//! needs none. Whoever changes a pool reads it, changes it and writes it as a whole, and holds the
//! lock meanwhile; other processes only read.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::maps::MapError;
use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{POOL_SERVERS, Pool, PoolServer, PublishKey, Session, role},
    wire::addr::Endpoint,
};

use crate::kernel::table::Table;

/// The POOLS map.
#[derive(Debug)]
pub struct Pools {
    table: Table<PublishKey, Pool>,
    changing: Mutex<()>,
}

impl Pools {
    pub(super) fn new(table: Table<PublishKey, Pool>) -> Self {
        Self {
            table,
            changing: Mutex::default(),
        }
    }

    /// The pool behind a public end; none: there is no pool.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn get(&self, public: &PublishKey) -> io::Result<Option<Pool>> {
        self.table.get(public)
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn all(&self) -> io::Result<HashMap<PublishKey, Pool>> {
        Ok(self.table.all()?.into_iter().collect())
    }

    /// The pools that there is room for.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn room(&self) -> Result<u32, MapError> {
        self.table.room()
    }

    /// Sets the servers of pools. Those that were in their pool already keep their states.
    ///
    /// # Errors
    ///
    /// `E2BIG`: the map is full. `ENOMEM`: no memory for a pool. `EPERM`: no CAP_BPF.
    pub fn set_servers(&self, wanted: &HashMap<PublishKey, Vec<PoolServer>>) -> io::Result<()> {
        let _changing = self.lock();
        for (public, servers) in wanted {
            let old = self.table.get(public)?;
            let known = old.as_ref().map_or(&[][..], Pool::all);
            let mut new = Pool::zeroed();
            new.count = u8::try_from(servers.len().min(POOL_SERVERS)).unwrap_or(0);
            for (server, wanted) in new.all_mut().iter_mut().zip(servers) {
                let before = known.iter().find(|it| it.server == wanted.server);
                *server = PoolServer {
                    near: wanted.near,
                    ..*before.unwrap_or(wanted)
                };
            }
            new.fill();
            if old.as_ref() != Some(&new) {
                self.table.set(public, &new)?;
            }
        }
        Ok(())
    }

    /// Deletes the pools that are not wanted any more. Their sessions do not need them.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF.
    pub fn keep_only(&self, wanted: &HashMap<PublishKey, Vec<PoolServer>>) -> io::Result<()> {
        let _changing = self.lock();
        for public in self.all()?.keys().filter(|it| !wanted.contains_key(it)) {
            self.table.delete(public)?;
        }
        Ok(())
    }

    /// Shows every server of these pools, to be changed; gives those that were, as they are now.
    ///
    /// # Errors
    ///
    /// `EPERM`: no CAP_BPF. `ENOMEM`: no memory for a pool.
    pub fn change(
        &self,
        publics: &[PublishKey],
        mut change: impl FnMut(&mut PoolServer),
    ) -> io::Result<Vec<(PublishKey, PoolServer)>> {
        let _changing = self.lock();
        let mut changed = Vec::new();
        for public in publics {
            let Some(old) = self.table.get(public)? else {
                continue;
            };
            let mut new = old;
            new.all_mut().iter_mut().for_each(&mut change);
            if new == old {
                continue;
            }
            new.fill();
            // One that a reload has deleted meanwhile stays deleted.
            if self.table.replace(public, &new)? {
                let both = old.all().iter().zip(new.all());
                let differing = both.filter(|(old, new)| old != new);
                changed.extend(differing.map(|(_, new)| (*public, *new)));
            }
        }
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sessions each public end has with each server.
///
/// # Errors
///
/// As [`Table::each`].
pub fn sessions_of_servers(
    table: &Table<u32, Session>,
) -> io::Result<HashMap<(Endpoint, Endpoint), u64>> {
    let mut sessions = HashMap::new();
    table.each(|_, session| {
        if session.role == role::PUBLISH {
            *sessions
                .entry((session.public, session.inside))
                .or_default() += 1;
        }
    })?;
    Ok(sessions)
}
