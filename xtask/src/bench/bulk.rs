//! Bulk transfers: how much a second, and what the router's CPU takes for a gigabyte.
//!
//! The data connections are announced and translated like any other. The server sends one file in
//! memory over and over (sendfile, which copies nothing), and the client throws away what comes
//! (MSG_TRUNC, which copies nothing either): what remains is the way between them.
//!
//! Packets that come to an interface are handled by a thread of their own (threaded NAPI), on the
//! hosts too: so what the router's two threads take is the router's share.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    net::TcpStream,
    os::fd::AsRawFd as _,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use ftp_nat_tests::{
    lab::{HOST_INTERFACE, LAN, Lab, WAN},
    namespace::Namespace,
    process,
};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};

use super::{
    figure::Figure,
    options::Options,
    scene::{Router, Scene, Settings, interfaces, offload},
    session::{Pair, Session},
};
use crate::progress::say;

/// How long one measurement sends.
const SENDS: Duration = Duration::from_millis(400);
/// And in a smoke run.
const SENDS_SHORTLY: Duration = Duration::from_millis(30);
/// The most that one call sends or receives.
const CHUNK: usize = 1 << 20;

/// How many streams at once.
const STREAMS: [usize; 2] = [1, 16];

/// Whether packets are handled in large bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bundling {
    /// TSO, GSO and GRO, as by default.
    On,
    /// Every packet by itself, with its own checksum.
    Off,
}

impl Bundling {
    const ALL: [Self; 2] = [Self::On, Self::Off];

    const fn key(self) -> &'static str {
        match self {
            Self::On => "offload",
            Self::Off => "segments",
        }
    }

    /// Whose CPU time is told: bundles pass between veths without the interfaces' threads, so that
    /// the router's share cannot be told from its neighbours'.
    const fn cpu_key(self) -> &'static str {
        match self {
            Self::On => "cpu_of_all",
            Self::Off => "cpu",
        }
    }

    /// Sets it everywhere in a lab.
    fn set(self, lab: &Lab) -> anyhow::Result<()> {
        let word = if self == Self::On { "on" } else { "off" };
        // Without checksum offload there is no TSO either; XDP needs checksums that are finished.
        offload(lab, &["tx", word, "tso", word, "gso", word])?;
        // GRO itself must stay on: without it a veth polls no more, and the thread has no work.
        let most = if self == Self::On { 65_536 } else { 1 };
        for (namespace, interface) in interfaces(lab) {
            namespace.ip(&format!("link set {interface} gro_max_size {most}"))?;
        }
        Ok(())
    }
}

/// A contestant with its streams.
struct Pipe<'lab> {
    scene: Scene<'lab>,
    _session: Session,
    streams: Vec<Pair>,
    /// The threads of the router's interfaces.
    threads: Vec<i32>,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let labs = Lab::several(Router::ALL.len())?;
    let mut pipes = Vec::new();
    for (lab, router) in labs.iter().zip(Router::ALL) {
        say(&format!("bulk: {}", router.name()));
        pipes.push(Pipe::new(lab, router)?);
    }
    let source = source()?;
    let sends = if options.smoke { SENDS_SHORTLY } else { SENDS };
    let mut figures = Vec::new();
    for bundling in Bundling::ALL {
        for streams in STREAMS {
            for router in Router::ALL {
                let key = format!("bulk.{}.{streams}.{}", router.key(), bundling.key());
                let cpu = format!("{key}.{}", bundling.cpu_key());
                figures.push(Figure::new(key, "Gbit/s"));
                figures.push(Figure::new(cpu, "ms/GB"));
            }
        }
    }
    // A smoke run needs no warming up.
    for turn in u32::from(options.smoke)..=options.runs(15) {
        let mut at = 0;
        for bundling in Bundling::ALL {
            for pipe in &pipes {
                bundling.set(pipe.scene.lab)?;
            }
            for streams in STREAMS {
                for pipe in &pipes {
                    let (rate, cpu) = pipe.pump(&source, streams, sends, bundling)?;
                    // The first turn warms up: TCP's windows grow.
                    if turn > 0 {
                        figures[at].runs.push(rate);
                        figures[at + 1].runs.push(cpu);
                    }
                    at += 2;
                }
            }
        }
    }
    Ok(figures)
}

impl<'lab> Pipe<'lab> {
    fn new(lab: &'lab Lab, router: Router) -> anyhow::Result<Self> {
        let scene = Scene::new(lab, router, &Settings::default())?;
        let mut session = Session::open(&scene)?;
        let streams = (0..STREAMS[1])
            .map(|_| session.data(&scene))
            .collect::<Result<_, _>>()?;
        for host in [lab.client(), lab.server()] {
            give_threads(&host.namespace, &[HOST_INTERFACE])?;
        }
        let threads = give_threads(&lab.router, &[WAN, LAN])?;
        Ok(Self {
            scene,
            _session: session,
            streams,
            threads,
        })
    }

    /// Sends over so many streams; gives gigabits a second, and milliseconds of CPU a gigabyte.
    fn pump(
        &self,
        source: &File,
        streams: usize,
        sends: Duration,
        bundling: Bundling,
    ) -> anyhow::Result<(f64, f64)> {
        let spent = || match bundling {
            Bundling::On => cpu_seconds_of_all(),
            Bundling::Off => cpu_seconds(&self.threads),
        };
        let before = spent()?;
        let start = Instant::now();
        let deadline = start + sends;
        let bytes: u64 = thread::scope(|scope| {
            let transfers: Vec<_> = self.streams[..streams]
                .iter()
                .map(|pair| scope.spawn(move || transfer(pair, source, deadline)))
                .collect();
            transfers
                .into_iter()
                .map(|transfer| {
                    transfer
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .sum::<anyhow::Result<u64>>()
        })
        .with_context(|| format!("a bulk transfer through {}", self.scene.router.name()))?;
        let took = start.elapsed().as_secs_f64();
        let cpu = spent()? - before;
        let gigabytes = bytes as f64 / 1e9;
        Ok((gigabytes * 8.0 / took, cpu * 1000.0 / gigabytes))
    }
}

/// Sends until the deadline, and receives all of it; gives the number of bytes.
fn transfer(pair: &Pair, source: &File, deadline: Instant) -> anyhow::Result<u64> {
    let sent = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| -> anyhow::Result<u64> {
            let mut received = 0;
            while !is_over.load(Ordering::Acquire) || received < sent.load(Ordering::Acquire) {
                received += discard(&pair.client)?;
            }
            Ok(received)
        });
        let result = loop {
            let mut offset = 0;
            match sendfile(&pair.server, source, Some(&mut offset), CHUNK) {
                Ok(number) => sent.fetch_add(number as u64, Ordering::Release),
                Err(error) => break Err(error),
            };
            if Instant::now() > deadline {
                break Ok(());
            }
        };
        is_over.store(true, Ordering::Release);
        // The receiver may wait for something to come.
        if result.is_ok() {
            (&pair.server).write_all(b".")?;
            sent.fetch_add(1, Ordering::Release);
        }
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        result.context("cannot send")?;
        Ok(received)
    })
}

/// Receives something and throws it away without copying it (tcp(7)).
fn discard(stream: &TcpStream) -> anyhow::Result<u64> {
    // SAFETY: with MSG_TRUNC the kernel writes nothing to the buffer, there is none.
    let received = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            std::ptr::null_mut(),
            CHUNK,
            libc::MSG_TRUNC,
        )
    };
    match received {
        0 => bail!("the connection ended"),
        received if received < 0 => Err(std::io::Error::last_os_error()).context("cannot receive"),
        received => Ok(received as u64),
    }
}

/// A file in memory.
fn source() -> anyhow::Result<File> {
    let mut file = File::from(memfd_create("bulk", MemfdFlags::CLOEXEC)?);
    file.write_all(&vec![b'.'; CHUNK])?;
    Ok(file)
}

/// Lets packets that come to these interfaces be handled by threads of their own; gives their
/// numbers.
fn give_threads(namespace: &Namespace, interfaces: &[&str]) -> anyhow::Result<Vec<i32>> {
    let before = napi_threads()?;
    for interface in interfaces {
        // `ip netns exec` mounts the namespace's own /sys.
        process::run(
            Command::new("ip")
                .args(["netns", "exec", namespace.name(), "sh", "-c"])
                .arg(format!("echo 1 > /sys/class/net/{interface}/threaded")),
            Duration::from_secs(5),
        )?
        .expect_success()
        .context("interfaces get no threads (which needs Linux 5.12)")?;
    }
    let threads: Vec<_> = napi_threads()?.difference(&before).copied().collect();
    ensure!(
        threads.len() >= interfaces.len(),
        "the kernel made no threads for {interfaces:?}"
    );
    Ok(threads)
}

/// The kernel's threads that handle packets.
fn napi_threads() -> anyhow::Result<BTreeSet<i32>> {
    let is_one = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("napi/"))
    };
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_one)
        .collect())
}

/// The CPU time that threads have had.
fn cpu_seconds(threads: &[i32]) -> anyhow::Result<f64> {
    let nanoseconds = threads.iter().map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
        let first = text.split(' ').next().unwrap_or_default();
        anyhow::Ok(first.parse::<u64>()?)
    });
    Ok(nanoseconds.sum::<anyhow::Result<u64>>()? as f64 / 1e9)
}

/// The time that all CPUs have worked.
fn cpu_seconds_of_all() -> anyhow::Result<f64> {
    // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, in hundredths of a second.
    let text = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure!(ticks.len() >= 7, "/proc/stat is not what it was");
    Ok((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) as f64 / 100.0)
}
