//! This gateway in its cluster: tells the others, and takes over what they tell.
//!
//! On a thread of its own, so that nobody waits for it: events come by a queue of bounded length, and
//! what does not fit is told later with everything else. The ends of data connections are told last, few at
//! once: nobody waits for them, and whatever is told takes the others' time.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    future::ready,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use ftp_nat_common::{
    abi::{Event, cluster, event, kind},
    counter::Counter,
};
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
    record::{self, HELD, Header, Record, Told, VERSION},
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
/// The same of ends of data connections that are told by themselves; and of those that go along with what is
/// told at once.
const ENDS: usize = 64;
const ENDS_ALONG: usize = 8;
/// In how many turns of [`LOOK`] those are told that wait.
const ENDS_TURNS: usize = 8;
/// So many wait at most; of more, they are told at once.
const ENDS_WAITING: usize = 1 << 17;
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
        if describe::is_told_of(event) && self.events.try_send((*event, Instant::now())).is_err() {
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
        ends: VecDeque::new(),
        ends_due: 0,
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
    /// Ends of data connections that wait to be told.
    ends: VecDeque<Record>,
    /// How many of them are due.
    ends_due: usize,
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
            let Err(error) = self.connected().await;
            let error = format!("{error:#}");
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

    /// The engine is away: everything is told when it is back, and what has ended meanwhile. Other events are
    /// not kept.
    async fn while_away(&mut self) {
        let pause = sleep(PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                Some(_) = self.decided_here.recv() => {}
                () = &mut pause => break,
            }
        }
        self.waiting.clear();
        if let Err(error) = self.keep_ends() {
            warn!("cluster {}: {error}", self.config.name);
        }
        self.walk_due = Some(Instant::now());
        self.look();
    }

    /// Takes all events from the queue, and keeps the ends of connections and sessions.
    fn keep_ends(&mut self) -> io::Result<()> {
        while let Ok((event, _)) = self.queue.try_recv() {
            if event.what == event::ENDED && self.ends.len() < ENDS_WAITING {
                let ended = describe::event(&self.maps, &self.clock, &event)?;
                self.ends.extend(ended);
            }
        }
        Ok(())
    }

    /// Until the engine fails.
    async fn connected(&mut self) -> anyhow::Result<Infallible> {
        let client = self.engines.connect().await?;
        let name = self.config.name.clone();
        let node = self.config.node;
        let mut reader = Reader::open(&client, &name, node).await?;
        let mut writer = Writer::open(&client, &name, node).await?;
        self.installer.refresh().context("cannot read the tables")?;
        // One that lets nobody write or read counts as away, though it answers.
        let ask = self.batch(&[Record::Ask { node: 0 }.into()])?;
        if let Err(error) = writer.write(&ask).await {
            // Nobody misses it.
            self.number -= 1;
            return Err(error);
        }
        self.claim_number(&mut writer).await?;
        let mut heard = VecDeque::from(reader.read_at_once().await?);
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
        let mut heartbeat = interval(HEARTBEAT);
        let mut look = interval(LOOK);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                    self.tell(vec![Record::Holds { addresses }])?;
                    self.claim_number(&mut writer).await?;
                }
                _ = look.tick() => {
                    self.ends_due = self.ends_due.max(self.ends.len().div_ceil(ENDS_TURNS));
                    self.look();
                }
                Some(decision) = self.decided_here.recv() => self.tell(vec![decision])?,
                // The handle that this node has itself keeps the channel open.
                Some(first) = self.queue.recv() => self.events(first, walk.as_mut())?,
                () = ready(()), if self.ends_due > 0 => {
                    let mut records = Vec::new();
                    self.end_some(ENDS, &mut records);
                    self.tell_some(records, walk.as_mut())?;
                }
                piece = next_piece(&mut walk), if walk.is_some() && is_walks_turn => {
                    is_walks_turn = heard.is_empty();
                    match piece {
                        Some(piece) => self.tell(piece)?,
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
        let mut next = Some(first);
        while let Some((event, read)) = next {
            match event.what {
                event::SESSION => self.installer.enter_own(event.session)?,
                event::ENDED if event.kind == kind::CONTROL => {
                    self.installer.forget(event.session);
                }
                _ => {}
            }
            let described = describe::event(&self.maps, &self.clock, &event)?;
            // Of one that was replaced, what took its place is told next.
            let can_wait = event.what == event::ENDED
                && event.kind != kind::CONTROL
                && event.reason != Counter::Replaced as u16
                && self.ends.len() < ENDS_WAITING;
            if can_wait {
                self.ends.extend(described);
            } else {
                records.extend(described.into_iter().map(|it| (it, read)));
            }
            let has_room = records.len() < BATCH - 4 - ENDS_ALONG;
            next = has_room.then(|| self.queue.try_recv().ok()).flatten();
        }
        let now = Instant::now();
        let records = records.into_iter().map(|(record, read)| Told {
            record,
            waited: u32::try_from((now - read).as_micros() + 1).unwrap_or(u32::MAX),
        });
        let mut records: Vec<_> = records.collect();
        if !records.is_empty() {
            self.end_some(ENDS_ALONG, &mut records);
        }
        self.tell_some(records, walk)
    }

    /// Adds ends of data connections to a batch, so many at most.
    fn end_some(&mut self, most: usize, records: &mut Vec<Told>) {
        let some = self.ends.len().min(most);
        self.ends_due = self
            .ends_due
            .saturating_sub(most)
            .min(self.ends.len() - some);
        records.extend(self.ends.drain(..some).map(Told::from));
    }

    /// Tells these records, if there are any; `walk`: while everything is told.
    fn tell_some(&mut self, records: Vec<Told>, walk: Option<&mut Walk>) -> anyhow::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(walk) = walk {
            walk.note(&records);
        }
        self.put(&records)
    }

    /// Tells records that are about no event.
    fn tell(&mut self, records: Vec<Record>) -> anyhow::Result<()> {
        let records: Vec<_> = records.into_iter().map(Told::from).collect();
        self.put(&records)
    }

    /// Puts a batch where it will be written from.
    fn put(&mut self, records: &[Told]) -> anyhow::Result<()> {
        let batch = self.batch(records)?;
        if self.waiting.len() >= WAITING {
            self.waiting.clear();
            self.walk_due = Some(Instant::now());
        }
        self.waiting.push_back(batch);
        Ok(())
    }

    fn batch(&mut self, records: &[Told]) -> anyhow::Result<Vec<u8>> {
        let header = Header {
            version: VERSION,
            node: self.config.node,
            epoch: self.epoch,
            number: self.number,
            time: unix_time().as_micros() as u64,
            config: self.digest,
            records: records.len() as u32,
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
            self.tell(ended.to_vec())?;
        }
        if walk.ended.len() == ENDED {
            self.walk_due = Some(Instant::now());
        }
        self.tell(vec![Record::AllTold { from: walk.from }])
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
        for Told { record, waited } in &batch.records {
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
            if *waited > 0 {
                let waited = f64::from(*waited - 1) / 1e6;
                self.delays.note(lag + waited + now.elapsed().as_secs_f64());
            }
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
            self.tell(vec![Record::Ask { node: header.node }])?;
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
    fn note(&mut self, records: &[Told]) {
        let records = records.iter().map(|told| &told.record);
        let have_ended = records.filter(|record| {
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
    /// A record was here this many seconds after its event was read.
    fn note(&mut self, delay: f64) {
        let place = self.count as usize % DELAYS;
        if place < self.latest.len() {
            self.latest[place] = delay as f32;
        } else {
            self.latest.push(delay as f32);
        }
        self.count += 1;
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
        let many = DELAYS * 98 / 100;
        for (delay, count) in [(9.0, DELAYS), (1.0, many), (2.0, DELAYS - many)] {
            for _ in 0..count {
                delays.note(delay);
            }
        }
        assert_eq!((delays.within(0.5), delays.within(0.99)), (1.0, 2.0));
        assert_eq!(delays.count, 2 * DELAYS as u64);
    }
}
