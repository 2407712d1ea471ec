//! What sharing costs, and how soon the other gateway knows.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{
    Fleet, PUBLIC, SERVER,
    client::{Fetching, Files, eventually, passive_ports, serve},
    cost::{Cost, on_cpu},
    speaker::{Bytes, ConnectionRecord, MappingRecord, SessionRecord, Speaker, all_told},
};
use crate::gateway::Gateway;

/// Files of one segment: what takes time is the opening of their connections.
const TINY: Files = Files {
    length: 100,
    rest: Duration::ZERO,
};
/// Connections of a session of [`crowd`], its control connection included.
const OF_SESSION: usize = 5;

/// How transfers are made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients that fetch at once.
    pub clients: usize,
    /// Transfers a second of all clients together; none: as many as they can.
    pub rate: Option<f64>,
    /// Whether the gateway shares what it knows with another one.
    pub is_shared: bool,
    /// Whether the other gateway and the engine have a CPU of their own, and everybody else the other one: as on
    /// machines of their own they take nothing from who is measured. Without sharing that CPU is idle.
    pub is_apart: bool,
    /// For how long it is measured.
    pub time: Duration,
}

/// Transfers through one gateway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    /// Transfers a second.
    pub rate: f64,
    /// From an event's arrival at the daemon until its record was in the other gateway's tables, in seconds:
    /// half of them within this time.
    pub median: f64,
    /// All but one in a hundred within this one.
    pub p99: f64,
    /// Records that this is about: the latest ones.
    pub records: u64,
    /// Batches that did not come.
    pub lost: u64,
    /// What a transfer costs the daemon of the gateway that it goes through.
    pub gateway: PerTransfer,
    /// The other gateway's daemon.
    pub other: PerTransfer,
    /// The engine.
    pub engine: PerTransfer,
}

/// What one transfer costs a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerTransfer {
    /// Microseconds of a CPU.
    pub micros: f64,
    /// How often it waits and is woken.
    pub waits: f64,
}

impl PerTransfer {
    fn of(cost: &Cost, transfers: f64) -> Self {
        Self {
            micros: cost.cpu.as_secs_f64() * 1e6 / transfers,
            waits: cost.waits as f64 / transfers,
        }
    }
}

fn status(gateway: &Gateway<'_>) -> anyhow::Result<Value> {
    Ok(gateway.json(&["cluster", "status"])?[0].take())
}

fn number(status: &Value, name: &str) -> u64 {
    status[name].as_u64().unwrap_or(0)
}

fn is_ready(gateway: &Gateway<'_>) -> anyhow::Result<bool> {
    Ok(gateway.ask(&["cluster", "ready"])?.success())
}

/// Has clients transfer small files through a gateway.
///
/// # Errors
///
/// When something does not start, or a transfer fails.
pub fn transfers(load: &Load) -> anyhow::Result<Shared> {
    let fleet = apart(load, OTHERS, Fleet::new)?;
    let server = apart(load, MEASURED, || serve(&fleet, false))?;
    fleet.give_addresses(0)?;
    let more = passive_ports();
    let mut gateways = Vec::new();
    if load.is_shared {
        gateways.push(apart(load, MEASURED, || fleet.gateway(0, &more))?);
        gateways.push(apart(load, OTHERS, || fleet.gateway(1, &more))?);
        for gateway in &gateways {
            eventually("ready", || is_ready(gateway))?;
        }
    } else {
        gateways.push(apart(load, MEASURED, || fleet.lone_gateway(0, &more))?);
    }
    let rate = load.rate.map(|rate| rate / load.clients as f64);
    let start = || Fetching::start_at_rate(&fleet, &server, &TINY, rate);
    let clients = (0..load.clients).map(|_| apart(load, MEASURED, start));
    let clients: Vec<_> = clients.collect::<anyhow::Result<_>>()?;
    thread::sleep(Duration::from_secs(1));
    let pids = [
        gateways[0].pid(),
        gateways.get(1).and_then(Gateway::pid),
        fleet.engine_pid(),
    ];
    let costs = || -> anyhow::Result<Vec<Cost>> {
        let costs = pids
            .iter()
            .map(|pid| pid.map_or(Ok(Cost::default()), Cost::of));
        costs.collect()
    };
    let count = || clients.iter().map(Fetching::files).sum::<u64>();
    let (before, files, start) = (costs()?, count(), Instant::now());
    thread::sleep(load.time);
    let (after, took) = (costs()?, start.elapsed());
    let transfers = (count() - files) as f64;
    let cost = |place: usize| PerTransfer::of(&after[place].since(&before[place]), transfers);
    let mut figures = Shared {
        rate: transfers / took.as_secs_f64(),
        gateway: cost(0),
        other: cost(1),
        engine: cost(2),
        ..Shared::default()
    };
    for client in clients {
        let failures = client.stop()?;
        ensure!(failures.is_empty(), "{failures:?}");
    }
    if let Some(other) = gateways.get(1) {
        let status = status(other)?;
        let seconds = |name: &str| status[name].as_f64().unwrap_or(0.0);
        figures.median = seconds("delay_median");
        figures.p99 = seconds("delay_p99");
        figures.records = number(&status, "delays");
        figures.lost = number(&status, "lost");
    }
    Ok(figures)
}

/// The CPU of the gateway that is measured, and of the clients and the server.
const MEASURED: usize = 0;
/// That of the other gateway and of the engine.
const OTHERS: usize = 1;

/// Starts something, on this CPU where that is wanted.
fn apart<T>(
    load: &Load,
    cpu: usize,
    start: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if load.is_apart {
        on_cpu(cpu, start)
    } else {
        start()
    }
}

/// The records of so many connections, sessions before what belongs to them.
#[must_use]
pub fn crowd(connections: usize) -> Vec<Bytes> {
    let mut records = Vec::new();
    for number in 0..connections / OF_SESSION {
        let session = 0x1000_0000 + number as u32;
        let [_, b, c, d] = (number as u32 + 256).to_be_bytes();
        let outside = |port: u16| ([100, 64 + b, c, d], port).into();
        let record = SessionRecord {
            session,
            role: 1,
            inside: (SERVER, 21).into(),
            outside: outside(40_000),
            public: (PUBLIC, 21).into(),
            seen: 1000,
        };
        records.push(record.bytes());
        for place in 0..OF_SESSION as u16 {
            let port = if place == 0 { 21 } else { 50_000 + place };
            let connection = ConnectionRecord {
                session,
                kind: if place == 0 { 1 } else { 2 },
                is_untranslated: false,
                outside: outside(40_000 + place),
                public: (PUBLIC, port).into(),
                seen: None,
                inside: (SERVER, port).into(),
            };
            records.push(connection.bytes());
        }
    }
    records
}

/// Records at a steady rate, as another gateway tells them: transfers that are announced, begin and end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    /// Records a second that were written.
    pub rate: f64,
    /// Records that were written.
    pub told: u64,
    /// Those of them that were installed.
    pub installed: u64,
    /// From writing until they were in the tables, in seconds, of the latest records each time that this was asked
    /// for, the worst time: half of them within this.
    pub median: f64,
    /// All but one in a hundred within this.
    pub p99: f64,
    /// Batches that did not come.
    pub lost: u64,
}

/// Records in a batch of [`flood`]: of 83 transfers.
const TRANSFERS: u16 = 83;
/// Sessions that those transfers are of, by turns.
const SESSIONS: u32 = 64;

/// Plays it, with so many records a second.
///
/// # Errors
///
/// When something does not start.
pub fn flood(rate: f64, time: Duration) -> anyhow::Result<Flood> {
    let fleet = Fleet::new()?;
    let gateway = fleet.gateway(0, &passive_ports())?;
    let mut speaker = Speaker::join(&fleet, 9)?;
    let mut batches = Vec::new();
    for number in 0..SESSIONS {
        let session = 0x1000_0000 + number;
        let client = [100, 64, 1, number as u8];
        let its = SessionRecord {
            session,
            role: 1,
            inside: (SERVER, 21).into(),
            outside: (client, 40_000).into(),
            public: (PUBLIC, 21).into(),
            seen: 1000,
        };
        speaker.tell(&[its.bytes()])?;
        let mut batch = Vec::new();
        for place in 0..TRANSFERS {
            let (public, inside) = ((PUBLIC, 50_000 + place), (SERVER, 50_000 + place));
            let outside = (client, 41_000 + place).into();
            let announced = MappingRecord {
                session,
                kind: 2,
                is_outward: false,
                outside: Some(outside),
                public: public.into(),
                inside: inside.into(),
            };
            let connection = ConnectionRecord {
                session,
                kind: 2,
                is_untranslated: false,
                outside,
                public: public.into(),
                seen: None,
                inside: inside.into(),
            };
            batch.push(announced.bytes());
            batch.push(connection.bytes());
            batch.push(connection.ended());
        }
        batches.push(batch);
    }
    let is_known = || Ok(number(&status(&gateway)?, "installed") >= u64::from(SESSIONS));
    eventually("the sessions are known", is_known)?;
    let of_batch = u64::from(TRANSFERS) * 3;
    let pause = Duration::from_secs_f64(of_batch as f64 / rate);
    let (start, mut told, mut figures) = (Instant::now(), 0, Flood::default());
    let delays = |figures: &mut Flood| -> anyhow::Result<()> {
        let known = status(&gateway)?;
        let seconds = |name: &str| known[name].as_f64().unwrap_or(0.0);
        figures.median = figures.median.max(seconds("delay_median"));
        figures.p99 = figures.p99.max(seconds("delay_p99"));
        Ok(())
    };
    let done = thread::scope(|scope| {
        let writing = scope.spawn(|| -> anyhow::Result<Duration> {
            for (place, batch) in batches.iter().cycle().enumerate() {
                let due = pause * place as u32;
                if due > time {
                    break;
                }
                thread::sleep(due.saturating_sub(start.elapsed()));
                speaker.tell_of_events(batch)?;
                told += of_batch;
            }
            Ok(start.elapsed())
        });
        while !writing.is_finished() {
            thread::sleep(Duration::from_millis(150));
            delays(&mut figures)?;
        }
        writing.join().ok().context("the writer ends")?
    })?;
    figures.told = told;
    figures.rate = told as f64 / done.as_secs_f64();
    // The last ones are under way; what is late is not lost.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut known = status(&gateway)?;
    while number(&known, "installed") < told + u64::from(SESSIONS) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
        known = status(&gateway)?;
    }
    figures.installed = number(&known, "installed") - u64::from(SESSIONS);
    figures.lost = number(&known, "lost");
    Ok(figures)
}

/// Room for the crowd.
#[must_use]
pub fn limits(connections: usize) -> String {
    format!(
        "{}\n[limits]\nconnections = {}\nsessions = {}\n",
        passive_ports(),
        connections * 2,
        connections
    )
}

/// A newcomer: how long it takes from its daemon's start until it is ready, with all of so many connections,
/// and how long it would take with none. Then it gets records as fast as another gateway can write them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newcomer {
    /// Connections that the other gateway has.
    pub connections: usize,
    /// Until a newcomer is ready that has nobody to learn from but an empty gateway.
    pub empty: Duration,
    /// Until it is ready with all of them.
    pub full: Duration,
    /// Records a second that were written to it, and that it has installed.
    pub rate: f64,
    /// Batches that it found missing, all records.
    pub lost: u64,
}

/// Plays it.
///
/// # Errors
///
/// When something does not start, or not all connections get there.
pub fn newcomer(connections: usize) -> anyhow::Result<Newcomer> {
    let fleet = Fleet::new()?;
    let more = limits(connections);
    let first = fleet.gateway(0, &more)?;
    eventually("ready", || is_ready(&first))?;
    let begin = || -> anyhow::Result<(Gateway<'_>, Duration)> {
        let start = Instant::now();
        let gateway = fleet.gateway(1, &more)?;
        let started = Instant::now();
        while !is_ready(&gateway)? {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "it does not get ready: {}; the other one: {}",
                status(&gateway)?,
                status(&first)?
            );
            thread::sleep(Duration::from_millis(2));
        }
        // The verifier's time before it is the same for all gateways.
        Ok((gateway, started.elapsed()))
    };
    let (gateway, empty) = begin()?;
    drop(gateway);
    let records = crowd(connections);
    let mut speaker = Speaker::join(&fleet, 9)?;
    let told = Instant::now();
    for chunk in records.chunks(1000) {
        speaker.tell(chunk)?;
    }
    speaker.tell(&[all_told()])?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut known = status(&first)?;
    while number(&known, "installed") < records.len() as u64 {
        ensure!(Instant::now() < deadline, "not all are taken over: {known}");
        thread::sleep(Duration::from_millis(5));
        known = status(&first)?;
    }
    let rate = records.len() as f64 / told.elapsed().as_secs_f64();
    let lost = number(&known, "lost");
    // Who has told it all is gone: the newcomer has it from the first gateway alone.
    drop(speaker);
    eventually("the speaker counts as gone", || {
        let known = status(&first)?;
        let peers = known["peers"].as_array().context("peers")?;
        Ok(peers.iter().all(|peer| peer["is_alive"] == false))
    })?;
    let (second, full) = begin()?;
    let known = status(&second)?;
    ensure!(
        number(&known, "installed") >= records.len() as u64,
        "ready without all: {known}"
    );
    Ok(Newcomer {
        connections,
        empty,
        full,
        rate,
        lost,
    })
}
