//! The servers of pools: each is checked again and again, and the pools follow.
//!
//! Every server has a task of its own, so that none waits for another one that hangs. A server that
//! is in several pools is checked once.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use ftp_nat_common::{
    abi::{Event, PoolServer, PublishKey, event, fault, health},
    wire::addr::{Addr, Endpoint, Port},
};
use log::warn;
use tokio::{
    sync::watch::Receiver,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    event_bus::EventBus,
    occurrence::{Detail, Fault},
};
use crate::{
    cluster::{
        decisions,
        install::Outcome,
        record::{DrainedRecord, Record},
    },
    config::Health,
    datapath::maps::Maps,
    greeting::{self, Answer, Patience},
    kernel::clock::Clock,
    metrics::Checks,
    policy::Policy,
};

/// How soon a server is checked again whose last check contradicts what it counts as.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// What the tasks share.
#[derive(Clone)]
pub(super) struct Pools {
    pub(super) maps: Arc<Maps>,
    pub(super) policies: Receiver<Arc<Policy>>,
    pub(super) clock: Clock,
    pub(super) bus: Arc<EventBus>,
    /// What was decided by command, here or at another gateway of the cluster.
    pub(super) decided: Arc<Mutex<HashMap<(PublishKey, Endpoint), DrainedRecord>>>,
}

impl Pools {
    /// Checks all servers of all pools from now on, also those that reloads bring.
    pub(super) fn check(mut self, settings: Receiver<Health>, counts: Arc<Checks>) {
        tokio::spawn(async move {
            let mut tasks: HashMap<SocketAddr, JoinHandle<()>> = HashMap::new();
            loop {
                let wanted = self.servers();
                tasks.retain(|server, task| {
                    let is_wanted = wanted.contains_key(server);
                    if !is_wanted {
                        task.abort();
                    }
                    is_wanted
                });
                for (server, health) in wanted {
                    tasks.entry(server).or_insert_with(|| {
                        let check = Check {
                            server,
                            pools: self.clone(),
                            settings: settings.clone(),
                            counts: Arc::clone(&counts),
                            judge: Judge { health, against: 0 },
                        };
                        tokio::spawn(check.run())
                    });
                }
                if self.policies.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// All servers, each with its [`health`] as far as that is known.
    fn servers(&mut self) -> HashMap<SocketAddr, u8> {
        let publics = self.publics();
        let mut servers = HashMap::new();
        for public in &publics {
            let Ok(Some(pool)) = self.maps.pools.get(public) else {
                continue;
            };
            for it in pool.all() {
                let health = servers.entry(address(&it.server)).or_default();
                *health = it.health.max(*health);
            }
        }
        servers
    }

    fn publics(&mut self) -> Vec<PublishKey> {
        let policy = self.policies.borrow_and_update();
        policy.pools.keys().copied().collect()
    }

    /// Has a server's new sessions go elsewhere, or to it again. Gives its pools, and in each whether
    /// anything has changed; none where it is in no pool. Without a port, all servers of the address.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub(super) fn drain(
        &mut self,
        server: (Addr, Option<u16>),
        draining: bool,
    ) -> io::Result<Vec<(PublishKey, PoolServer, bool)>> {
        let (addr, port) = server;
        let is_meant = |it: &PoolServer| {
            it.server.addr == addr && port.is_none_or(|port| it.server.port == Port::new(port))
        };
        let publics = self.publics();
        let now = self.clock.now();
        let changed = self.maps.pools.change(&publics, |it| {
            if is_meant(it) && (it.draining != 0) != draining {
                it.draining = u8::from(draining);
                it.since = now;
            }
        })?;
        let what = if draining {
            event::SERVER_DRAINED
        } else {
            event::SERVER_UNDRAINED
        };
        for (public, server) in &changed {
            self.tell(what, public, server);
            self.decide(public, server, draining);
        }
        let mut all = Vec::new();
        for public in &publics {
            let Some(pool) = self.maps.pools.get(public)? else {
                continue;
            };
            for it in pool.all().iter().filter(|it| is_meant(it)) {
                let mut changed = changed.iter();
                let is_changed = changed.any(|(key, new)| key == public && new.server == it.server);
                all.push((*public, *it, is_changed));
            }
        }
        Ok(all)
    }

    /// Notes what a command has decided, and tells the other gateways.
    fn decide(&self, public: &PublishKey, server: &PoolServer, is_drained: bool) {
        let Some(cluster) = self.bus.cluster() else {
            return;
        };
        let place = (*public, server.server);
        let mut decided = self.decided();
        // Later than what it replaces, whatever another gateway's clock has said.
        let before = decided.get(&place).map_or(0, |it| it.time);
        let record = DrainedRecord {
            public: Endpoint::new(public.addr, public.port).into(),
            server: server.server.into(),
            time: decisions::now().max(before.saturating_add(1)),
            node: cluster.node(),
            is_drained,
        };
        decided.insert(place, record);
        cluster.decide(Record::Drained(record));
    }

    /// What was decided by command, for the other gateways.
    pub(super) fn told(&self) -> Vec<Record> {
        let decided = self.decided();
        decided.values().copied().map(Record::Drained).collect()
    }

    /// Takes over what another gateway tells.
    pub(super) fn take_over(&self, record: &DrainedRecord) -> Outcome {
        let (public, server): (Endpoint, Endpoint) = (record.public.into(), record.server.into());
        let public = PublishKey {
            addr: public.addr,
            port: public.port,
            pad: 0,
        };
        let is_in_pool = match self.maps.pools.get(&public) {
            Ok(pool) => pool.is_some_and(|pool| pool.all().iter().any(|it| it.server == server)),
            Err(error) => {
                warn!("cannot read the pools: {error}");
                return Outcome::NoRoom;
            }
        };
        if !is_in_pool || !decisions::can_be(record.node, record.time) {
            return Outcome::Refused;
        }
        let mut decided = self.decided();
        let here = decided.get(&(public, server));
        if here.is_some_and(|here| here.time >= record.time) {
            return Outcome::Stale;
        }
        let now = self.clock.now();
        let changed = self.maps.pools.change(&[public], |it| {
            if it.server == server && (it.draining != 0) != record.is_drained {
                it.draining = u8::from(record.is_drained);
                it.since = now;
            }
        });
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => {
                warn!("cannot write the pools: {error}");
                return Outcome::NoRoom;
            }
        };
        decided.insert((public, server), *record);
        let what = if record.is_drained {
            event::SERVER_DRAINED
        } else {
            event::SERVER_UNDRAINED
        };
        for (public, server) in &changed {
            self.tell(what, public, server);
        }
        Outcome::Installed
    }

    fn decided(&self) -> MutexGuard<'_, HashMap<(PublishKey, Endpoint), DrainedRecord>> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: u8, public: &PublishKey, server: &PoolServer) {
        let told = Event {
            time: self.clock.now(),
            what,
            inside: server.server,
            public: Endpoint::new(public.addr, public.port),
            ..Event::default()
        };
        let detail = if what == event::SERVER_DOWN {
            Detail::Fault(Fault {
                fault: server.fault,
                code: server.code,
            })
        } else {
            Detail::None
        };
        self.bus.publish(&told, detail);
    }
}

/// What a server counts as, and how many checks in a row have said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judge {
    health: u8,
    against: u32,
}

impl Judge {
    /// Takes another check's result. The first one of all counts at once if it is good: until then
    /// the server counts as one that passes.
    fn see(&mut self, passed: bool, settings: &Health) {
        let is_down = self.health == health::DOWN;
        if passed != is_down {
            self.against = 0;
            if passed {
                self.health = health::UP;
            }
            return;
        }
        self.against += 1;
        let (needed, then) = if passed {
            (settings.rise, health::UP)
        } else {
            (settings.fall, health::DOWN)
        };
        if self.against >= needed {
            *self = Self {
                health: then,
                against: 0,
            };
        }
    }
}

/// The checks of one server.
struct Check {
    server: SocketAddr,
    pools: Pools,
    settings: Receiver<Health>,
    counts: Arc<Checks>,
    judge: Judge,
}

impl Check {
    async fn run(mut self) {
        // What a reload has made of the pools is not known here.
        let mut is_written = false;
        loop {
            let settings = *self.settings.borrow_and_update();
            let began = Instant::now();
            let patience = Patience {
                connect: settings.timeout,
                greet: settings.timeout,
            };
            let answer = greeting::ask(self.server, None, patience).await;
            let (fault, code) = fault_of(&answer);
            let passed = fault == fault::NONE;
            let count = if passed {
                &self.counts.passed
            } else {
                &self.counts.failed
            };
            count.fetch_add(1, Ordering::Relaxed);
            let before = self.judge;
            self.judge.see(passed, &settings);
            // One that counts as up although its last check failed is as it was.
            let is_told = self.judge.health != before.health || self.judge.health == health::DOWN;
            if is_told || !is_written || self.pools.policies.has_changed().unwrap_or(false) {
                is_written = self.write(fault, code);
            }
            let rest = if self.judge.against > 0 {
                settings.interval.min(IN_DOUBT)
            } else {
                settings.interval
            };
            tokio::select! {
                () = sleep_until(began + rest) => {}
                changed = self.settings.changed() => if changed.is_err() { return; },
            }
        }
    }

    /// Writes what the server counts as to its pools, and tells what that changes; whether it is
    /// written.
    fn write(&mut self, fault: u8, code: u16) -> bool {
        let server = Endpoint::new(Addr::from(self.server.ip()), Port::new(self.server.port()));
        let judged = self.judge.health;
        let (fault, code) = if judged == health::DOWN {
            (fault, code)
        } else {
            (fault::NONE, 0)
        };
        let now = self.pools.clock.now();
        let publics = self.pools.publics();
        let mut turned = false;
        let changed = self.pools.maps.pools.change(&publics, |it| {
            if it.server != server {
                return;
            }
            if it.health != judged {
                turned |= it.health == health::DOWN || judged == health::DOWN;
                it.health = judged;
                it.since = now;
            }
            // A server that is in doubt for the better keeps the fault that it is down for.
            if fault != fault::NONE || judged != health::DOWN {
                (it.fault, it.code) = (fault, code);
            }
        });
        match changed {
            Ok(changed) => {
                let what = if judged == health::DOWN {
                    event::SERVER_DOWN
                } else {
                    event::SERVER_UP
                };
                for (public, server) in changed.iter().filter(|_| turned) {
                    self.pools.tell(what, public, server);
                }
                true
            }
            Err(error) => {
                warn!(
                    "cannot write what became of the server {}: {error}",
                    self.server
                );
                false
            }
        }
    }
}

/// What an answer means: [`fault`], and the code that was said instead of 220.
fn fault_of(answer: &Answer) -> (u8, u16) {
    match answer {
        Answer::Ready => (fault::NONE, 0),
        Answer::Other(line) => {
            let code = line.get(..3).and_then(|code| code.parse().ok());
            (fault::GREETING, code.unwrap_or(0))
        }
        Answer::HungUp(_) => (fault::CLOSED, 0),
        Answer::Silent => (fault::SILENT, 0),
        Answer::Nothing => (fault::NO_ANSWER, 0),
        Answer::NoConnection(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => (fault::REFUSED, 0),
            io::ErrorKind::TimedOut => (fault::NO_ANSWER, 0),
            _ => (fault::UNREACHABLE, 0),
        },
    }
}

fn address(end: &Endpoint) -> SocketAddr {
    SocketAddr::new(end.addr.to_ip(), end.port.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_changes_only_after_so_many_checks_in_a_row() {
        let settings = Health {
            rise: 2,
            fall: 3,
            ..Health::default()
        };
        let (unknown, up, down) = (health::UNKNOWN, health::UP, health::DOWN);
        for (first, checks, then) in [
            (unknown, "p", up),
            (unknown, "ff", unknown),
            (unknown, "fff", down),
            (up, "ffpff", up),
            (up, "ffpfff", down),
            (down, "p", down),
            (down, "pfp", down),
            (down, "pfpp", up),
        ] {
            let mut judge = Judge {
                health: first,
                against: 0,
            };
            for check in checks.chars() {
                judge.see(check == 'p', &settings);
            }
            assert_eq!(judge.health, then, "{first}: {checks}");
        }
    }

    #[test]
    fn what_is_no_220_is_a_fault_with_its_code() {
        for (line, code) in [
            ("421 Too many", 421),
            ("120 Soon", 120),
            ("SSH-2.0", 0),
            ("?", 0),
        ] {
            let answer = Answer::Other(line.to_owned());
            assert_eq!(fault_of(&answer), (fault::GREETING, code), "{line}");
        }
    }
}
