//! This gateway in its cluster: tells the others, and takes over what they tell.
//!
//! On a thread of its own, so that nobody waits for it: events come by a queue of bounded length, and
//! what does not fit is told later with everything else.

use std::{
    collections::{BTreeSet, VecDeque},
    future::ready,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use ftp_nat_common::abi::{Event, cluster, event, kind};
use log::{info, warn};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    decisions::Decisions,
    describe,
    engine::{Engines, Reader, Writer},
    install::{Installer, Outcome},
    peers::Peers,
    record::{self, HELD, Header, Record, VERSION},
    status::Shared,
};
use crate::{config::Cluster, datapath::maps::Maps, kernel::clock::Clock, policy::Policy};

/// Events that wait to be told.
const QUEUE: usize = 1 << 16;
/// Records in a batch at most: some 50 KiB.
const BATCH: usize = 1000;
/// The same of what operators decide: each may have a reason of some hundred bytes.
const DECISIONS: usize = 200;
/// Decisions of operators that wait to be told; what does not fit is told with everything else.
const DECIDED: usize = 1024;
/// Batches that wait to be written while the engine is slow or away.
const WAITING: usize = 256;
/// Of what has ended while everything was told, so much is told once more; where there is more, everything is.
const ENDED: usize = 1 << 17;
/// A gateway is never silent for longer.
const HEARTBEAT: Duration = Duration::from_millis(300);
/// How long the engine is left alone after a failure.
const PAUSE: Duration = Duration::from_millis(200);
/// With nobody else there, or no engine, a gateway is ready after this time.
const ALONE: Duration = Duration::from_millis(1500);
const WITHOUT_ENGINE: Duration = Duration::from_secs(10);
/// Everything is told again so often: what is quiet lives on at the others.
const WALK: Duration = Duration::from_secs(600);
/// How long nobody is refused after an address came or went, or another gateway has gone.
const LEARNING: Duration = Duration::from_secs(5);
/// How long after its start, or an outage, a gateway's number may have been claimed by its own daemon
/// before.
const DOUBTFUL: Duration = Duration::from_secs(3);
/// How long two gateways count as having one number after the other's claim was found.
const DOUBLED: Duration = Duration::from_secs(5);
/// Of how many records the delay is known.
const DELAYS: usize = 1 << 14;
/// How often a gateway looks at what has changed around it.
const LOOK: Duration = Duration::from_millis(100);

/// The daemon's end of it.
#[derive(Clone)]
pub struct Handle {
    maps: Arc<Maps>,
    clock: Clock,
    events: mpsc::Sender<(Event, Instant)>,
    overflow: Arc<std::sync::atomic::AtomicU64>,
    decisions: mpsc::Sender<Record>,
    node: u8,
    status: Arc<Shared>,
}

impl Handle {
    /// Passes on an event. Never waits.
    pub fn tell(&self, event: &Event) {
        if self.events.try_send((*event, Instant::now())).is_err() {
            self.overflow
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Passes on what an operator has decided: [`Record::Denied`], [`Record::Drained`]. Never waits.
    pub fn decide(&self, decision: Record) {
        if self.decisions.try_send(decision).is_err() {
            self.overflow
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// This gateway's number.
    pub fn node(&self) -> u8 {
        self.node
    }

    /// An address came or went. At once, and not with the policy, which waits for further changes: what is
    /// under way now may be known to another gateway.
    pub fn addresses_changed(&self) {
        if let Err(error) = learn(&self.maps, &self.clock) {
            warn!("{error:#}");
        }
    }

    /// What is known.
    pub fn status(&self) -> &Arc<Shared> {
        &self.status
    }
}

/// Joins the cluster.
///
/// # Errors
///
/// When the settings cannot be written, or no thread can be started.
pub fn start(
    config: &Cluster,
    digest: u64,
    maps: Arc<Maps>,
    policies: watch::Receiver<Arc<Policy>>,
    clock: Clock,
    decisions: Arc<dyn Decisions>,
) -> anyhow::Result<Handle> {
    learn(&maps, &clock)?;
    let (events, queue) = mpsc::channel(QUEUE);
    let (decided, decided_here) = mpsc::channel(DECIDED);
    let status = Arc::new(Shared::default());
    status.change(|it| {
        it.name.clone_from(&config.name);
        it.node = config.node;
    });
    let handle = Handle {
        maps: Arc::clone(&maps),
        clock,
        events,
        overflow: Arc::default(),
        decisions: decided,
        node: config.node,
        status: Arc::clone(&status),
    };
    let mut node = Node {
        engines: Engines::of(config)?,
        config: config.clone(),
        digest,
        epoch: unix_time().as_millis() as u64,
        number: 0,
        installer: Installer::new(Arc::clone(&maps), clock),
        maps,
        clock,
        policies,
        peers: Peers::default(),
        status,
        handle: handle.clone(),
        queue,
        decisions,
        decided_here,
        waiting: VecDeque::new(),
        started: Instant::now(),
        walk_due: Some(Instant::now() + WALK),
        alive: 0,
        overflowed: 0,
        is_ready: false,
        away_since: Instant::now(),
        holds_address: false,
        held: Vec::new(),
        is_listened_to: None,
        doubled: None,
        delays: Delays::default(),
    };
    node.follow_policy();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the cluster's runtime")?;
    thread::Builder::new()
        .name("cluster".to_owned())
        .spawn(move || runtime.block_on(node.run()))
        .context("cannot start the cluster's thread")?;
    Ok(handle)
}

/// From now on, for a while, nobody is refused whom another gateway may know
/// ([`ftp_nat_common::abi::Settings::learning_until`]).
///
/// # Errors
///
/// `EPERM`: no CAP_BPF.
pub fn learn(maps: &Maps, clock: &Clock) -> anyhow::Result<()> {
    let until = clock.now().saturating_add(clock.ticks(LEARNING));
    maps.change_settings(|settings| settings.learning_until = until)
}

/// A digest of what must be the same at all gateways of a cluster.
pub fn digest(parts: &impl std::fmt::Debug) -> u64 {
    // The same program gives the same; two versions of it may differ, and doctor says so.
    let mut hasher = DefaultHasher::new();
    format!("{parts:?}").hash(&mut hasher);
    hasher.finish()
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

struct Node {
    config: Cluster,
    engines: Engines,
    digest: u64,
    epoch: u64,
    /// Of the next batch.
    number: u64,
    maps: Arc<Maps>,
    clock: Clock,
    policies: watch::Receiver<Arc<Policy>>,
    installer: Installer,
    peers: Peers,
    status: Arc<Shared>,
    handle: Handle,
    queue: mpsc::Receiver<(Event, Instant)>,
    decisions: Arc<dyn Decisions>,
    /// What operators decide at this gateway.
    decided_here: mpsc::Receiver<Record>,
    /// Batches to be written.
    waiting: VecDeque<Vec<u8>>,
    started: Instant,
    walk_due: Option<Instant>,
    alive: usize,
    overflowed: u64,
    /// [`super::status::Status::is_ready`].
    is_ready: bool,
    /// Since when the engine is away, or was last.
    away_since: Instant,
    /// Whether a published address is here, or none is published.
    holds_address: bool,
    /// The published addresses that are here, in order, [`HELD`] at most.
    held: Vec<IpAddr>,
    /// [`cluster::LISTENED`] as it was set last.
    is_listened_to: Option<bool>,
    /// When another gateway was last found to have this one's number.
    doubled: Option<Instant>,
    delays: Delays,
}

impl Node {
    async fn run(mut self) {
        loop {
            let error = match self.connected().await {
                Ok(()) => return,
                Err(error) => format!("{error:#}"),
            };
            let was = self.status.get();
            if was.engine_error.as_ref() != Some(&error) {
                warn!(
                    "cluster {}: the engine: {error}; trying again",
                    self.config.name
                );
            }
            if self.status.get().is_connected {
                self.away_since = Instant::now();
            }
            self.status.change(|it| {
                it.is_connected = false;
                it.engine_error = Some(error);
            });
            self.peers.doubt_all();
            self.while_away().await;
        }
    }

    /// The engine is away: events are not kept, everything is told when it is back.
    async fn while_away(&mut self) {
        let pause = sleep(PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                event = self.queue.recv() => if event.is_none() { return },
                Some(_) = self.decided_here.recv() => {}
                () = &mut pause => break,
            }
        }
        self.waiting.clear();
        self.walk_due = Some(Instant::now());
        self.look();
    }

    /// Until the engine fails, or the daemon ends.
    async fn connected(&mut self) -> anyhow::Result<()> {
        let client = self.engines.connect().await?;
        let name = self.config.name.clone();
        let node = self.config.node;
        let mut reader = Reader::open(&client, &name, node).await?;
        let mut writer = Writer::open(&client, &name, node).await?;
        self.installer.refresh().context("cannot read the tables")?;
        let connected = Instant::now();
        info!("cluster {name}: connected to the engine, as node {node}");
        self.status.change(|it| {
            it.is_connected = true;
            it.engine_error = None;
        });
        // The reader is a task of its own: a read that is under way must not be cancelled.
        let (batches, mut incoming) = mpsc::channel(64);
        let reading = tokio::spawn(async move {
            loop {
                let read = reader.read().await;
                let is_over = read.is_err();
                if batches.send(read).await.is_err() || is_over {
                    return;
                }
            }
        });
        let _reading = AbortOnDrop(reading);
        self.tell(&[Record::Ask { node: 0 }])?;
        let mut heartbeat = interval(HEARTBEAT);
        let mut look = interval(LOOK);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard: VecDeque<Vec<u8>> = VecDeque::new();
        let mut walk: Option<Walk> = None;
        // A piece of the walk and a batch of another gateway, by turns.
        let mut is_walks_turn = true;
        loop {
            while let Some(batch) = self.waiting.pop_front() {
                let written = timeout(Duration::from_secs(2), writer.write(&batch)).await;
                written.context("the engine does not answer")??;
            }
            if walk.is_none() && self.walk_due.is_some_and(|due| due <= Instant::now()) {
                walk = Some(self.begin_walk());
            }
            tokio::select! {
                biased;
                _ = heartbeat.tick() => {
                    let addresses = self.held.clone();
                    self.tell(&[Record::Holds { addresses }])?;
                    self.claim_number(&mut writer).await?;
                }
                _ = look.tick() => self.look(),
                Some(decision) = self.decided_here.recv() => self.tell(&[decision])?,
                event = self.queue.recv() => match event {
                    Some(event) => self.events(event, walk.as_mut())?,
                    None => return Ok(()),
                },
                piece = next_piece(&mut walk), if walk.is_some() && is_walks_turn => {
                    is_walks_turn = heard.is_empty();
                    match piece {
                        Some(piece) => self.tell(&piece)?,
                        None => self.end_walk(walk.take()).await?,
                    }
                }
                () = ready(()), if !heard.is_empty() => {
                    is_walks_turn = true;
                    if let Some(batch) = heard.pop_front() {
                        self.hear(&batch)?;
                    }
                }
                read = incoming.recv(), if heard.is_empty() => {
                    heard.extend(read.context("the reader has ended")??);
                }
            }
            self.judge_readiness(Some(connected));
        }
    }

    /// An event, and those that wait behind it.
    fn events(&mut self, first: (Event, Instant), walk: Option<&mut Walk>) -> anyhow::Result<()> {
        let mut records = Vec::new();
        let read = first.1;
        let mut next = Some(first);
        while let Some((event, _)) = next {
            records.extend(describe::event(&self.maps, &self.clock, &event)?);
            match event.what {
                event::SESSION => self.installer.enter_own(event.session)?,
                event::ENDED if event.kind == kind::CONTROL => {
                    self.installer.forget(event.session);
                }
                _ => {}
            }
            next = if records.len() < BATCH - 4 {
                self.queue.try_recv().ok()
            } else {
                None
            };
        }
        if records.is_empty() {
            return Ok(());
        }
        if let Some(walk) = walk {
            walk.note(&records);
        }
        self.tell_of(&records, Some(read))
    }

    /// Puts a batch where it will be written from.
    fn tell(&mut self, records: &[Record]) -> anyhow::Result<()> {
        self.tell_of(records, None)
    }

    /// The same; `read`: when the first of the events that it tells of was read.
    fn tell_of(&mut self, records: &[Record], read: Option<Instant>) -> anyhow::Result<()> {
        let batch = self.batch(records, read)?;
        if self.waiting.len() >= WAITING {
            self.waiting.clear();
            self.walk_due = Some(Instant::now());
        }
        self.waiting.push_back(batch);
        Ok(())
    }

    fn batch(&mut self, records: &[Record], read: Option<Instant>) -> anyhow::Result<Vec<u8>> {
        let header = Header {
            version: VERSION,
            node: self.config.node,
            epoch: self.epoch,
            number: self.number,
            time: unix_time().as_micros() as u64,
            config: self.digest,
            records: records.len() as u32,
            waited: read.map_or(0, |read| {
                u32::try_from(read.elapsed().as_micros() + 1).unwrap_or(u32::MAX)
            }),
        };
        self.number += 1;
        self.status.change(|it| it.told += records.len() as u64);
        record::write(&header, records)
    }

    /// Begins to tell everything.
    fn begin_walk(&mut self) -> Walk {
        self.walk_due = Some(Instant::now() + WALK);
        self.status.change(|it| it.walks += 1);
        let (maps, clock) = (Arc::clone(&self.maps), self.clock);
        let decisions = Arc::clone(&self.decisions);
        let (send, pieces) = mpsc::channel::<Vec<Record>>(4);
        // The tables are read by another thread, in pieces that the engine takes one by one.
        let reading = tokio::task::spawn_blocking(move || -> io::Result<()> {
            for piece in decisions.all().chunks(DECISIONS) {
                drop(send.blocking_send(piece.to_vec()));
            }
            let mut piece = Vec::with_capacity(BATCH);
            describe::everything(&maps, &clock, &mut |record| {
                piece.push(record);
                if piece.len() == BATCH {
                    // Nobody waits for it any more where the engine has failed.
                    drop(send.blocking_send(std::mem::take(&mut piece)));
                }
            })?;
            drop(send.blocking_send(piece));
            Ok(())
        });
        Walk {
            pieces,
            reading,
            from: self.number,
            ended: Vec::new(),
        }
    }

    /// All pieces were told.
    async fn end_walk(&mut self, walk: Option<Walk>) -> anyhow::Result<()> {
        let Some(walk) = walk else {
            return Ok(());
        };
        walk.reading.await.context("the walk was broken off")??;
        for ended in walk.ended.chunks(BATCH) {
            self.tell(ended)?;
        }
        if walk.ended.len() == ENDED {
            self.walk_due = Some(Instant::now());
        }
        self.tell(&[Record::AllTold { from: walk.from }])
    }

    fn take_over(&mut self, record: &Record) -> io::Result<Outcome> {
        match record {
            Record::Denied(_) | Record::Drained(_) => Ok(self.decisions.take_over(record)),
            record => self.installer.install(record),
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let batch = match record::read(bytes) {
            Ok(batch) => batch,
            Err(_) => {
                self.status.change(|it| it.unknown += 1);
                return Ok(());
            }
        };
        let (now, header) = (Instant::now(), &batch.header);
        if header.node == self.config.node {
            return Ok(());
        }
        let lag = (unix_time().as_micros() as i128 - i128::from(header.time)) as f64 / 1e6;
        let heard = self.peers.hear(header, lag, now);
        let mut counts = [0_u64; 4];
        let is_of_events = header.waited > 0;
        for record in &batch.records {
            match record {
                Record::Ask { node } if matches!(*node, 0) || *node == self.config.node => {
                    self.walk_due = Some(now);
                }
                Record::Ask { .. } => {}
                Record::Holds { addresses } => self.peers.holds(header.node, addresses),
                Record::AllTold { from } => self.peers.all_told(header.node, *from),
                record => match self.take_over(record)? {
                    Outcome::Installed => counts[0] += 1,
                    Outcome::Stale => counts[1] += 1,
                    Outcome::Refused => counts[2] += 1,
                    Outcome::NoRoom => counts[3] += 1,
                },
            }
        }
        if is_of_events {
            let waited = f64::from(header.waited - 1) / 1e6;
            let installed = now.elapsed().as_secs_f64();
            self.delays
                .note(lag + waited + installed, batch.records.len());
        }
        self.status.change(|it| {
            it.installed += counts[0];
            it.stale += counts[1];
            it.refused += counts[2];
            it.no_room += counts[3];
            it.unknown += batch.unknown;
            it.lost += heard.lost;
        });
        if heard.must_ask {
            self.tell(&[Record::Ask { node: header.node }])?;
        }
        Ok(())
    }

    /// Looks for another gateway of the same number: both claim it, and each finds the other's claim.
    async fn claim_number(&mut self, writer: &mut Writer) -> anyhow::Result<()> {
        let former = writer.claim(self.epoch).await?;
        let now = Instant::now();
        // The first time it is what this gateway's own daemon has left before its start.
        let is_first = now - self.away_since.max(self.started) < DOUBTFUL;
        if !is_first && former.is_some_and(|former| former != self.epoch) {
            if self.doubled.is_none() {
                warn!(
                    "cluster {}: another gateway has number {} too: each needs its own",
                    self.config.name, self.config.node
                );
            }
            self.doubled = Some(now);
        }
        Ok(())
    }

    fn is_doubled(&self) -> bool {
        self.doubled
            .is_some_and(|doubled| doubled.elapsed() < DOUBLED)
    }

    /// Looks at what has changed: the others, the policy, the queue.
    fn look(&mut self) {
        let now = Instant::now();
        if self.policies.has_changed().unwrap_or(false) {
            self.follow_policy();
            if let Err(error) = self.installer.refresh() {
                warn!("cluster {}: {error}", self.config.name);
            }
        }
        let overflowed = self
            .handle
            .overflow
            .load(std::sync::atomic::Ordering::Relaxed);
        if overflowed != self.overflowed {
            self.overflowed = overflowed;
            self.walk_due = Some(now);
        }
        let alive = self.peers.alive(now);
        // Where both have an address, what one of them let in meets the other one at once.
        let is_shared = self.peers.share_address(&self.held, now);
        if (alive < self.alive || is_shared)
            && let Err(error) = learn(&self.maps, &self.clock)
        {
            warn!("cluster {}: {error:#}", self.config.name);
        }
        self.alive = alive;
        self.doubled = self.doubled.filter(|_| self.is_doubled());
        let (peers, is_doubled) = (
            self.peers.show(self.digest, &self.held, now),
            self.doubled.is_some(),
        );
        self.status.change(|it| {
            it.peers = peers;
            it.overflowed = overflowed;
            it.is_doubled = is_doubled;
            if it.delays != self.delays.count {
                it.delays = self.delays.count;
                [it.delay_median, it.delay_p99] = [0.5, 0.99].map(|part| self.delays.within(part));
            }
        });
        self.judge_readiness(None);
        let is_connected = self.status.get().is_connected;
        let is_listened_to = Some(is_connected && alive > 0);
        if self.is_listened_to != is_listened_to {
            let changed = self.maps.change_settings(|settings| {
                settings.cluster &= !cluster::LISTENED;
                if is_listened_to == Some(true) {
                    settings.cluster |= cluster::LISTENED;
                }
            });
            match changed {
                Ok(()) => self.is_listened_to = is_listened_to,
                Err(error) => warn!("cluster {}: {error:#}", self.config.name),
            }
        }
    }

    /// Takes note of the policy that is in effect now.
    fn follow_policy(&mut self) {
        let policy = self.policies.borrow_and_update();
        self.digest = digest(&policy.shared());
        let published = policy.published.keys().map(|public| public.addr);
        let held = published.filter(|addr| !policy.away.contains(addr));
        let held: BTreeSet<_> = held.map(|addr| addr.to_ip()).collect();
        self.holds_address = policy.published.is_empty() || !held.is_empty();
        self.held = held.into_iter().take(HELD).collect();
    }

    /// Ready: all that the living others have is here, or nobody is there, or no engine. A gateway that was
    /// ready and has a published address stays so: whatever it may lack, giving its address away would
    /// lose more. `connected`: since when the engine is.
    fn judge_readiness(&mut self, connected: Option<Instant>) {
        let now = Instant::now();
        let is_ready = match connected {
            Some(connected) => {
                let has_all = self.peers.are_caught_up(now) && !self.is_doubled();
                // What one that was ready knows of the others is not forgotten; after an outage it
                // waits for them.
                let is_alone = now - connected > ALONE;
                has_all && (self.peers.alive(now) > 0 || is_alone)
            }
            // While it is away nobody can know more, and what was known then is as good as it gets.
            None if self.status.get().is_connected => return,
            None => self.is_ready || now - self.away_since > WITHOUT_ENGINE,
        };
        if is_ready == self.is_ready || self.is_ready && self.holds_address {
            return;
        }
        info!(
            "cluster {}: {}",
            self.config.name,
            if is_ready { "ready" } else { "not ready" }
        );
        self.is_ready = is_ready;
        self.status.change(|it| it.is_ready = is_ready);
    }
}

/// Everything that there is, on its way to the others. Events are told meanwhile.
struct Walk {
    /// Read from the tables, in order.
    pieces: mpsc::Receiver<Vec<Record>>,
    reading: tokio::task::JoinHandle<io::Result<()>>,
    /// The number of the batch with which it began.
    from: u64,
    /// What has ended meanwhile, [`ENDED`] at most: a piece that was read before may have told of it as alive.
    ended: Vec<Record>,
}

impl Walk {
    fn note(&mut self, records: &[Record]) {
        let have_ended = records.iter().filter(|record| {
            matches!(
                record,
                Record::SessionEnded { .. } | Record::ConnectionEnded(_) | Record::MappingEnded(_)
            )
        });
        let room = ENDED - self.ended.len();
        self.ended.extend(have_ended.take(room).cloned());
    }
}

async fn next_piece(walk: &mut Option<Walk>) -> Option<Vec<Record>> {
    match walk {
        Some(walk) => walk.pieces.recv().await,
        None => None,
    }
}

/// The delays of the latest records.
#[derive(Debug, Default)]
struct Delays {
    /// In seconds; record number `n` stands at place `n % DELAYS`.
    latest: Vec<f32>,
    /// How many there ever were.
    count: u64,
}

impl Delays {
    /// That many records were here this many seconds after the first of their events was read.
    fn note(&mut self, delay: f64, records: usize) {
        for _ in 0..records {
            let place = self.count as usize % DELAYS;
            if place < self.latest.len() {
                self.latest[place] = delay as f32;
            } else {
                self.latest.push(delay as f32);
            }
            self.count += 1;
        }
    }

    /// Within how many seconds this part of them was here; 0: there are none.
    fn within(&self, part: f64) -> f64 {
        let mut all = self.latest.clone();
        if all.is_empty() {
            return 0.0;
        }
        let place = ((all.len() as f64 * part) as usize).min(all.len() - 1);
        let (_, delay, _) = all.select_nth_unstable_by(place, f32::total_cmp);
        f64::from(*delay)
    }
}

/// Ends a task with this value.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delays_of_the_latest_records_are_known() {
        let mut delays = Delays::default();
        assert_eq!(delays.within(0.5), 0.0);
        delays.note(9.0, DELAYS);
        delays.note(1.0, DELAYS * 98 / 100);
        delays.note(2.0, DELAYS - DELAYS * 98 / 100);
        assert_eq!((delays.within(0.5), delays.within(0.99)), (1.0, 2.0));
        assert_eq!(delays.count, 2 * DELAYS as u64);
    }
}
