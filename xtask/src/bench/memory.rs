//! What is kept: the kernel's memory for it, and the sweep that looks through all of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{Mapping, MappingKey, Session as State, map},
    wire::addr::{Addr, Port},
};
use ftp_nat_tests::lab::{Lab, WAN_ADDRESS};

use super::{
    crowd::{self, Flows},
    figure::Figure,
    options::Options,
    programs::{
        layout::{flow_address, flow_port},
        pinned,
    },
    scene::{Router, Scene, Settings},
    session::{Pair, Session},
};
use crate::progress::say;

/// How many of each there are.
const CONNECTIONS: u32 = 1 << 20;
const MAPPINGS: u32 = 200_000;
const SESSIONS: u32 = 20_000;
/// Where the daemon serves its metrics, within the router.
const METRICS: &str = "127.0.0.1:9810";
/// How long a sweep may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is only there to be swept: where it is in its table.
const OVERDUE: u32 = u32::MAX;

/// The gateway and its tables.
struct Store<'lab> {
    scene: Scene<'lab>,
    session: Session,
    data: Pair,
    flows: Flows,
    mappings: HashMap<MapData, MappingKey, Mapping>,
    sessions: HashMap<MapData, u32, State>,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let number = |suits| options.turns(suits);
    let lab = Lab::new()?;
    let mut store = Store::new(&lab)?;
    let mut figures = Vec::new();
    let tables = [map::FLOWS4, map::FLOWS6, map::MAPPINGS, map::SESSIONS];
    let empty: u64 = tables
        .iter()
        .map(|table| accounted_of(&store.scene.pins()?.join("maps").join(table)))
        .sum::<anyhow::Result<u64>>()?;
    figures.push(Figure::of(
        "memory.empty_tables",
        "MB",
        vec![empty as f64 / 1e6],
    ));
    say("memory: sessions, mappings, connections");
    let [sessions, mappings, connections] = [SESSIONS, MAPPINGS, CONNECTIONS].map(number);
    let cost = |what, number, entries| Cost {
        what,
        number,
        entries,
    };
    let table = store.fd(map::SESSIONS);
    let cost_of = cost("session", sessions, 1).of(&table, || store.add_sessions(sessions));
    figures.extend(cost_of?);
    let table = store.fd(map::MAPPINGS);
    let cost_of = cost("mapping", mappings, 1).of(&table, || store.add_mappings(mappings));
    figures.extend(cost_of?);
    let table = store.fd(map::FLOWS4);
    let cost_of = cost("connection", connections, 2).of(&table, || {
        crowd::fill(&mut store.flows, &mut store.data, connections)?;
        Ok(())
    });
    figures.extend(cost_of?);
    // Not before: what is given back comes late, and would be missing from what comes next.
    store.remove_sessions(sessions)?;
    store.remove_mappings(mappings)?;
    if let Some(size) = slab_size("nf_conntrack")? {
        figures.push(Figure::of("memory.conntrack.slab", "B", vec![size]));
    }
    say("memory: sweeps");
    let mut sweep = Figure::new("sweep.time", "ms");
    let mut delays = [
        (Figure::new("sweep.delay_worst", "µs"), 1.0),
        (Figure::new("sweep.delay_p99", "µs"), 0.99),
    ];
    let mut quiet = [
        (Figure::new("sweep.quiet_delay_worst", "µs"), 1.0),
        (Figure::new("sweep.quiet_delay_p99", "µs"), 0.99),
    ];
    for _ in 0..options.runs(5) {
        let swept = store.sweep()?;
        sweep.runs.push(swept.took.as_secs_f64() * 1000.0);
        for (figures, sample) in [(&mut delays, &swept.delays), (&mut quiet, &swept.quiet)] {
            for (figure, share) in figures {
                let last = sample.len().saturating_sub(1);
                let place = (last as f64 * *share) as usize;
                let delay = sample.get(place).context("no packet was on its way")?;
                figure.runs.push(delay.as_secs_f64() * 1e6);
            }
        }
    }
    figures.push(sweep);
    figures.extend(delays.into_iter().chain(quiet).map(|(figure, _)| figure));
    Ok(figures)
}

/// What so many of a kind cost.
struct Cost {
    what: &'static str,
    number: u32,
    /// Entries of the table that each of them takes.
    entries: u32,
}

impl Cost {
    /// Bytes for each: as the table accounts for them, and as the kernel's memory for small things
    /// grows. A table that is preallocated grows by nothing, and each costs its share of the table.
    fn of(
        &self,
        table: &MapData,
        add: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Figure>> {
        let before = (slabs()?, accounted(table)?);
        add()?;
        let after = (slabs()?, accounted(table)?);
        let figure = |key: &str, bytes: f64| {
            Figure::of(format!("memory.{}.{key}", self.what), "B", vec![bytes])
        };
        let each =
            |before: u64, after: u64| (after as f64 - before as f64) / f64::from(self.number);
        if before.1 == after.1 {
            let room = f64::from(table.info()?.max_entries());
            let bytes = after.1 as f64 / room * f64::from(self.entries);
            return Ok(vec![figure("map", bytes)]);
        }
        Ok(vec![
            figure("slab", each(before.0, after.0)),
            figure("map", each(before.1, after.1)),
        ])
    }
}

/// A sweep, and what packets met meanwhile.
struct Swept {
    took: Duration,
    /// Of single bytes there and back, sorted.
    delays: Vec<Duration>,
    /// The same for as long without a sweep.
    quiet: Vec<Duration>,
}

impl<'lab> Store<'lab> {
    fn new(lab: &'lab Lab) -> anyhow::Result<Self> {
        let settings = Settings {
            connections: Some(CONNECTIONS + 4096),
            mappings: Some(MAPPINGS + 4096),
            metrics: Some(METRICS),
            ..Settings::default()
        };
        let scene = Scene::new(lab, Router::Redirect, &settings)?;
        let mut session = Session::open(&scene)?;
        let data = session.data(&scene)?;
        let pins = scene.pins()?;
        Ok(Self {
            flows: pinned(&pins, map::FLOWS4, Map::HashMap)?,
            mappings: pinned(&pins, map::MAPPINGS, Map::HashMap)?,
            sessions: pinned(&pins, map::SESSIONS, Map::HashMap)?,
            scene,
            session,
            data,
        })
    }

    fn fd(&self, table: &str) -> MapData {
        let path = self.scene.pins().map(|pins| pins.join("maps").join(table));
        path.ok()
            .and_then(|path| MapData::from_pin(path).ok())
            .unwrap_or_else(|| panic!("the map {table} was pinned a moment ago"))
    }

    /// The real session's state.
    fn state(&self) -> anyhow::Result<(u32, State)> {
        let (client, control) = super::session::ends(self.session.client())?;
        let key = crowd::key(client, control);
        let number = self.flows.get(&key, 0)?.session;
        Ok((number, self.sessions.get(&number, 0)?))
    }

    fn add_sessions(&mut self, number: u32) -> anyhow::Result<()> {
        let (_, state) = self.state()?;
        for number in numbers(number) {
            self.sessions.insert(number, state, 0)?;
        }
        Ok(())
    }

    fn remove_sessions(&mut self, number: u32) -> anyhow::Result<()> {
        for number in numbers(number) {
            // The daemon's sweep may have been there before.
            let _ = self.sessions.remove(&number);
        }
        Ok(())
    }

    fn add_mappings(&mut self, number: u32) -> anyhow::Result<()> {
        let (session, _) = self.state()?;
        let mapping = Mapping {
            session,
            expires: u64::MAX / 2,
            ..Mapping::default()
        };
        for number in 0..number {
            self.mappings.insert(mapping_key(number), mapping, 0)?;
        }
        Ok(())
    }

    fn remove_mappings(&mut self, number: u32) -> anyhow::Result<()> {
        for number in 0..number {
            self.mappings.remove(&mapping_key(number))?;
        }
        Ok(())
    }

    /// Starts the daemon anew, which sweeps at once. Something overdue tells when: mappings go
    /// first, sessions last.
    fn sweep(&mut self) -> anyhow::Result<Swept> {
        let key = mapping_key(OVERDUE);
        let gateway = self.scene.gateway.as_mut().context("no ftp-nat runs")?;
        gateway.stop()?;
        self.mappings.insert(key, Mapping::default(), 0)?;
        self.sessions.insert(OVERDUE, State::zeroed(), 0)?;
        let is_over = AtomicBool::new(false);
        let (mappings, sessions, data) = (&self.mappings, &self.sessions, &self.data);
        let (times, window) = thread::scope(|scope| {
            let pings = scope.spawn(|| ping(data, &is_over));
            let watch = scope.spawn(|| {
                let begun = wait_until(|| mappings.get(&key, 0).is_err())?;
                let ended = wait_until(|| sessions.get(&OVERDUE, 0).is_err())?;
                // As long again, while the daemon rests.
                thread::sleep(ended - begun);
                anyhow::Ok((begun, ended))
            });
            let restarted = gateway.restart();
            let window = join(watch);
            is_over.store(true, Ordering::Relaxed);
            let times = join(pings);
            restarted?;
            anyhow::Ok((times?, window?))
        })?;
        let (begun, ended) = window;
        let during = |from: Instant, to: Instant| {
            let mut delays: Vec<_> = times
                .iter()
                .filter(|(sent, came)| *came >= from && *sent <= to)
                .map(|(sent, came)| *came - *sent)
                .collect();
            delays.sort();
            delays
        };
        Ok(Swept {
            took: self.sweep_time()?,
            delays: during(begun, ended),
            quiet: during(ended, ended + (ended - begun)),
        })
    }

    /// What the daemon itself says of its one sweep.
    fn sweep_time(&self) -> anyhow::Result<Duration> {
        let text = self.scene.lab.router.run(|| {
            let mut stream = TcpStream::connect(METRICS)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let metric = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
                .with_context(|| format!("the daemon does not tell its {name}:\n{text}"))
        };
        let sweeps = metric("ftp_nat_sweeps_total ")?;
        ensure!(sweeps >= 1.0, "the daemon has not swept");
        let seconds = metric("ftp_nat_sweep_seconds_total ")?;
        Ok(Duration::from_secs_f64(seconds / sweeps))
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sends single bytes there and back until it is over; gives when each left and came back.
fn ping(data: &Pair, is_over: &AtomicBool) -> anyhow::Result<Vec<(Instant, Instant)>> {
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> anyhow::Result<()> {
            let mut byte = [0];
            while byte != *b"." {
                (&data.server).read_exact(&mut byte)?;
                (&data.server).write_all(&byte)?;
            }
            Ok(())
        });
        let mut times = Vec::new();
        let mut once = |byte: [u8; 1]| -> anyhow::Result<()> {
            let sent = Instant::now();
            (&data.client).write_all(&byte)?;
            (&data.client).read_exact(&mut [0])?;
            times.push((sent, Instant::now()));
            Ok(())
        };
        while !is_over.load(Ordering::Relaxed) {
            once(*b"p")?;
        }
        once(*b".")?;
        join(echo)?;
        anyhow::Ok(times)
    })
    .context("a byte that should go there and back")
}

/// When something came true.
fn wait_until(is_so: impl Fn() -> bool) -> anyhow::Result<Instant> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            bail!("the daemon has not swept within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok(Instant::now())
}

/// Numbers that no session of the datapath's own has.
fn numbers(number: u32) -> impl Iterator<Item = u32> {
    (0..number).map(|number| 0xf000_0000 | number)
}

fn mapping_key(number: u32) -> MappingKey {
    MappingKey {
        src: Addr::from_v4(flow_address(number % (1 << 20))),
        dst: Addr::from_octets(WAN_ADDRESS.octets()),
        dport: Port(flow_port(number)),
        ..MappingKey::default()
    }
}

/// The kernel's memory for small things, in bytes: nobody else's grows by much meanwhile.
fn slabs() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("SUnreclaim:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("the kernel does not tell the size of its slabs")?
        .parse()?;
    Ok(kib * 1024)
}

/// What a map accounts for, in bytes (Linux 6.4 counts elements; before, only room).
fn accounted(table: &MapData) -> anyhow::Result<u64> {
    let fd = table.fd().as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .context("the kernel does not tell a map's memory")?
        .trim()
        .parse()?)
}

fn accounted_of(pin: &std::path::Path) -> anyhow::Result<u64> {
    accounted(&MapData::from_pin(pin)?)
}

/// The size of an object of the kernel's, where it tells.
fn slab_size(name: &str) -> anyhow::Result<Option<f64>> {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|rest| rest.split_whitespace().nth(2)?.parse().ok()))
}
