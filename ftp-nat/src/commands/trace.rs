//! `ftp-nat trace`: what becomes of each packet, and why.
//!
//! The stations of the running gateway give their places to traced ones for as long as this runs.
//! A second process, the guard, puts them back when this one ends in any way, SIGKILL included: it
//! waits for the end of a pipe. Should both be killed, the daemon does it within five seconds.

mod record;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use ftp_nat_common::wire::addr::Addr;
use log::{Log, Metadata, Record};

use self::record::{Joiner, Packet};
use crate::{
    cli::{TraceArgs, TraceGuardArgs},
    client::view::View,
    datapath::{
        pins::{Gateway, Pins},
        stations,
        trace::{Tracing, Wanted},
    },
    kernel::network::Network,
    output::failure::Failure,
};

/// How often records are read.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it is looked whether the traced stations are still in their places.
const CHECK: Duration = Duration::from_secs(1);

/// Prints packets until a signal comes, or the reader of what is printed has seen enough.
///
/// # Errors
///
/// When not exactly one gateway is meant, another process traces it, or the kernel refuses the
/// traced programs.
pub fn run(args: &TraceArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let [loaded] = view.loaded.as_slice() else {
        let names: Vec<_> = view.loaded.iter().map(|it| it.gateway.name()).collect();
        return Err(Failure::usage(format!(
            "there are several gateways ({}): choose one with --wan",
            names.join(", ")
        )));
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot listen for signals")?;
    }
    let wanted = Wanted {
        peer: args.peer.map_or(Addr::default(), Addr::from),
        session: args.session.unwrap_or(0),
    };
    // First, so that at no moment nobody would put them back.
    let guard = Guard::start(args, &loaded.gateway)?;
    let sink = Sink::default();
    let mut tracing = Tracing::start(&loaded.gateway, wanted, sink.clone())?;
    log::info!(
        "tracing {}: packets of data connections that XDP sends pass unseen",
        loaded.gateway.name()
    );
    let network = Network::read([], &[])?;
    let interface = |index: u32| {
        let link = network.numbered(index);
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    };
    let mut checked = Instant::now();
    let mut result = Ok(());
    while !stop.load(Ordering::Relaxed) {
        tracing.read();
        for packet in sink.take() {
            if !print(&packet, args.json, interface) {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if checked.elapsed() >= CHECK {
            checked = Instant::now();
            if !tracing.is_in_place() {
                result = Err(anyhow!(
                    "the gateway's programs were loaded anew or unloaded: they are not traced any more"
                )
                .into());
                break;
            }
        }
        thread::sleep(PAUSE);
    }
    drop(tracing);
    guard.finish();
    result
}

/// Prints a packet; false: nobody reads it any more.
fn print(packet: &Packet, json: bool, interface: impl Fn(u32) -> String) -> bool {
    let text = if json {
        serde_json::to_string(packet).unwrap_or_default() + "\n"
    } else {
        packet.text(interface)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Takes the datapath's records from aya-log.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<(Joiner, Vec<Packet>)>>);

impl Sink {
    fn take(&self) -> Vec<Packet> {
        let mut joined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut joined.1)
    }
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut joined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packet) = joined.0.add(&record.args().to_string()) {
            joined.1.push(packet);
        }
    }

    fn flush(&self) {}
}

/// The process that puts the stations back when this one is gone.
struct Guard(Child);

impl Guard {
    fn start(args: &TraceArgs, gateway: &Gateway) -> anyhow::Result<Self> {
        Command::new("/proc/self/exe")
            .arg("trace-guard")
            .arg("--state-dir")
            .arg(&args.selection.state_dir)
            .arg(gateway.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // What ends a terminal's foreground must not end it too.
            .process_group(0)
            .spawn()
            .map(Self)
            .context("cannot start the process that ends the trace if this one is killed")
    }

    fn finish(mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// `ftp-nat trace-guard`: waits for the end of its standard input and puts the stations back.
///
/// # Errors
///
/// When they are not pinned, or `EPERM`.
pub fn guard(args: &TraceGuardArgs) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::usage("this is started by `ftp-nat trace`"));
    }
    drop(io::stdin().lock().read_to_end(&mut Vec::new()));
    let gateway = Pins::here(&args.state_dir)?.gateway(&args.gateway);
    // An unloaded gateway has none. While another trace runs, they are that one's.
    if gateway.exists() && stations::lock(&gateway).is_ok_and(|lock| lock.is_some()) {
        stations::put_back(&gateway)?;
    }
    Ok(())
}
