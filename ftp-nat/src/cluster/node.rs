//! This gateway in its cluster: tells the others, and takes over what they tell.
//!
//! On a thread of its own, so that nobody waits for it: events come by a queue of bounded length, and
//! what does not fit is told later with everything else.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use ftp_nat_common::abi::{Event, event, kind};
use log::{info, warn};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    describe,
    engine::{self, Reader, Writer},
    install::{Installer, Outcome},
    peers::Peers,
    record::{self, Header, Record, VERSION},
    status::Shared,
};
use crate::{config::Cluster, datapath::maps::Maps, kernel::clock::Clock, policy::Policy};

/// Events that wait to be told.
const QUEUE: usize = 1 << 16;
/// Records in a batch at most: some 50 KiB.
const BATCH: usize = 1000;
/// Batches that wait to be written while the engine is slow or away.
const WAITING: usize = 256;
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
/// How often a gateway looks at what has changed around it.
const LOOK: Duration = Duration::from_millis(100);

/// The daemon's end of it.
#[derive(Clone)]
pub struct Handle {
    maps: Arc<Maps>,
    clock: Clock,
    events: mpsc::Sender<Event>,
    overflow: Arc<std::sync::atomic::AtomicU64>,
    status: Arc<Shared>,
}

impl Handle {
    /// Passes on an event. Never waits.
    pub fn tell(&self, event: &Event) {
        if self.events.try_send(*event).is_err() {
            self.overflow
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
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
) -> anyhow::Result<Handle> {
    learn(&maps, &clock)?;
    let (events, queue) = mpsc::channel(QUEUE);
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
        status: Arc::clone(&status),
    };
    let node = Node {
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
        waiting: VecDeque::new(),
        started: Instant::now(),
        walk_due: Some(Instant::now() + WALK),
        alive: 0,
        overflowed: 0,
        is_ready: false,
    };
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
    queue: mpsc::Receiver<Event>,
    /// Batches to be written.
    waiting: VecDeque<Vec<u8>>,
    started: Instant,
    walk_due: Option<Instant>,
    alive: usize,
    overflowed: u64,
    /// [`super::status::Status::is_ready`].
    is_ready: bool,
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
                () = &mut pause => break,
            }
        }
        self.waiting.clear();
        self.walk_due = Some(Instant::now());
        self.look();
    }

    /// Until the engine fails, or the daemon ends.
    async fn connected(&mut self) -> anyhow::Result<()> {
        let client = engine::connect(&self.config.engine).await?;
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
        loop {
            while let Some(batch) = self.waiting.pop_front() {
                let written = timeout(Duration::from_secs(2), writer.write(&batch)).await;
                written.context("the engine does not answer")??;
            }
            if self.walk_due.is_some_and(|due| due <= Instant::now()) {
                self.walk(&mut writer).await?;
                continue;
            }
            tokio::select! {
                biased;
                event = self.queue.recv() => match event {
                    Some(event) => self.events(event)?,
                    None => return Ok(()),
                },
                read = incoming.recv() => {
                    let batches = read.context("the reader has ended")??;
                    for batch in batches {
                        self.hear(&batch)?;
                    }
                }
                _ = heartbeat.tick() => self.tell(&[])?,
                _ = look.tick() => self.look(),
            }
            if !self.is_ready {
                self.judge_readiness(Some(connected));
            }
        }
    }

    /// An event, and those that wait behind it.
    fn events(&mut self, first: Event) -> anyhow::Result<()> {
        let mut records = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
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
        self.tell(&records)
    }

    /// Puts a batch where it will be written from.
    fn tell(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let batch = self.batch(records)?;
        if self.waiting.len() >= WAITING {
            self.waiting.clear();
            self.walk_due = Some(Instant::now());
        }
        self.waiting.push_back(batch);
        Ok(())
    }

    fn batch(&mut self, records: &[Record]) -> anyhow::Result<Vec<u8>> {
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

    /// Tells everything. Events wait meanwhile in their queue, so that what they tell comes after it.
    async fn walk(&mut self, writer: &mut Writer) -> anyhow::Result<()> {
        self.walk_due = Some(Instant::now() + WALK);
        self.status.change(|it| it.walks += 1);
        let (maps, clock) = (Arc::clone(&self.maps), self.clock);
        let (send, mut chunks) = mpsc::channel::<Vec<Record>>(4);
        // The tables are read by another thread, in pieces that the engine takes one by one.
        let walking = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let mut chunk = Vec::with_capacity(BATCH);
            describe::everything(&maps, &clock, &mut |record| {
                chunk.push(record);
                if chunk.len() == BATCH {
                    drop(send.blocking_send(std::mem::take(&mut chunk)));
                }
            })?;
            drop(send.blocking_send(chunk));
            Ok(())
        });
        while let Some(chunk) = chunks.recv().await {
            let batch = self.batch(&chunk)?;
            writer.write(&batch).await?;
        }
        walking.await.context("the walk was broken off")??;
        let batch = self.batch(&[Record::AllTold])?;
        writer.write(&batch).await
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
        for record in &batch.records {
            match record {
                Record::Ask { node } if matches!(*node, 0) || *node == self.config.node => {
                    self.walk_due = Some(now);
                }
                Record::Ask { .. } => {}
                Record::AllTold => self.peers.all_told(header.node),
                record => match self.installer.install(record)? {
                    Outcome::Installed => counts[0] += 1,
                    Outcome::Stale => counts[1] += 1,
                    Outcome::Refused => counts[2] += 1,
                    Outcome::NoRoom => counts[3] += 1,
                },
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
            self.tell(&[Record::Ask { node: header.node }])?;
        }
        Ok(())
    }

    /// Looks at what has changed: the others, the policy, the queue.
    fn look(&mut self) {
        let now = Instant::now();
        if self.policies.has_changed().unwrap_or(false) {
            self.policies.borrow_and_update();
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
        if alive < self.alive
            && let Err(error) = learn(&self.maps, &self.clock)
        {
            warn!("cluster {}: {error:#}", self.config.name);
        }
        self.alive = alive;
        let peers = self.peers.show(self.digest, now);
        self.status.change(|it| {
            it.peers = peers;
            it.overflowed = overflowed;
        });
        self.judge_readiness(None);
    }

    /// Ready: all that the living others have is here, or nobody is there, or no engine.
    fn judge_readiness(&mut self, connected: Option<Instant>) {
        let now = Instant::now();
        let is_ready = match connected {
            Some(connected) => {
                self.peers.are_caught_up(now)
                    && (self.peers.alive(now) > 0 || now - connected > ALONE)
            }
            None => now - self.started > WITHOUT_ENGINE && !self.status.get().is_connected,
        };
        if is_ready && !self.is_ready {
            info!("cluster {}: ready", self.config.name);
            self.is_ready = true;
            self.status.change(|it| it.is_ready = true);
        }
    }
}

/// Ends a task with this value.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
