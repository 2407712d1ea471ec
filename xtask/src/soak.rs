//! `cargo xtask soak`: load, faults and attacks at random, for as long as is wanted, and what must hold
//! all the while, looked at from outside.

mod attack;
mod capture;
mod client;
mod fault;
mod load;
mod record;
mod watch;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Lab, Plan},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};

use self::{capture::Captures, fault::Faults, load::Load, record::Record, watch::Watch};
use crate::progress::say;

/// What the gateway is told: times so short that what is left over would be seen to stay.
const CONFIGURATION: &str = r#"
[gateway]
wan = ["wan"]
datapath = "redirect"
[[publish]]
public = "198.51.100.1:21"
server = "10.0.0.5:21"
[[publish]]
public = "[2001:db8:1::1]:21"
server = "[fd00:10::5]:21"
[timeouts]
mapping = 20
data_idle = 300
control_idle = 300
"#;

/// How often what must hold is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long what is closed may stay in the tables.
const END: Duration = Duration::from_secs(90);
/// Without faults and attacks, at the end.
const CALM: Duration = Duration::from_secs(20);

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many hours, beside the minutes
    #[arg(long, default_value_t = 0)]
    hours: u64,
    /// How many minutes; 10 unless hours are given
    #[arg(long)]
    minutes: Option<u64>,
    /// What the random choices come from: the same seed makes the same ones
    #[arg(long)]
    seed: Option<u64>,
    /// Only faults with this in their name, to find out which one breaks something; more than once
    #[arg(long)]
    fault: Vec<String>,
    /// Records the headers of what passes the clients, the router and the server as pcap files in this
    /// folder, and tells the time of each fault
    #[arg(long)]
    capture: Option<PathBuf>,
}

impl Arguments {
    fn duration(&self) -> Duration {
        let default = if self.hours == 0 { 10 } else { 0 };
        Duration::from_secs(self.hours * 3600 + self.minutes.unwrap_or(default) * 60)
    }
}

/// Runs it.
///
/// # Errors
///
/// What did not hold, or that the scene does not come about.
pub(crate) fn run(tools: Tools, arguments: &Arguments) -> anyhow::Result<()> {
    tools.use_here();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = arguments.seed.unwrap_or(now.map_or(1, |it| it.as_secs()));
    let length = arguments.duration();
    say(&format!(
        "soak: {} minutes, --seed {seed}",
        length.as_secs() / 60
    ));

    let lab = Lab::with(Plan {
        outside: 3,
        inside: 2,
    })?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    let folder = Scratch::new()?;
    let file = folder.write("ftp-nat.toml", CONFIGURATION)?;
    let file = file.to_str().context("a path that is no text")?;
    let mut gateway = Gateway::start(&lab.router, &["--config", file])?;

    let record = Record::new(arguments.capture.is_some());
    let captures = match &arguments.capture {
        Some(folder) => Captures::start(&lab, folder)?,
        None => Captures::none(),
    };
    let load = Load::new(&lab, &server)?;
    let mut watch = Watch::begin(&lab, &gateway)?;
    let mut faults = Faults::new(&lab, seed, &arguments.fault)?;
    let (stop, calm) = (AtomicBool::new(false), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        for number in 0..load::WORKERS {
            let (load, record, stop) = (&load, &record, &stop);
            scope.spawn(move || load.work(number, seed, record, stop));
        }
        scope.spawn(|| load.trickle(&record, &stop));
        let attacks = scope.spawn(|| attack::work(&lab, &server, seed, &record, &calm));
        let result = steer(
            length,
            &mut gateway,
            &mut watch,
            &mut faults,
            &record,
            || {
                calm.store(true, Ordering::Relaxed);
                drop(attacks.join());
            },
        );
        calm.store(true, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        result
    });
    result?;
    watch.nothing_is_left(&gateway, END, &record);
    let left = watch.end(&mut gateway, &record);
    drop(server);
    captures.stop()?;
    left?;
    report(seed, &record, &faults, &watch)
}

/// Breaks something now and then and looks at what must hold, until the time is up. `calm_down` ends all
/// attacks.
fn steer(
    length: Duration,
    gateway: &mut Gateway<'_>,
    watch: &mut Watch<'_>,
    faults: &mut Faults<'_>,
    record: &Record,
    calm_down: impl FnOnce(),
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut look_at = start + LOOK;
    let mut told_at = start;
    while start.elapsed() < length.saturating_sub(CALM) {
        faults.one(gateway, record)?;
        let rest = faults.pause();
        let next = Instant::now() + rest;
        while Instant::now() < next {
            if Instant::now() >= look_at {
                watch.look(gateway, record)?;
                look_at = Instant::now() + LOOK;
            }
            thread::sleep(Duration::from_millis(200));
        }
        if told_at.elapsed() >= Duration::from_secs(60) {
            told_at = Instant::now();
            say(&format!(
                "soak: {} s, {}",
                start.elapsed().as_secs(),
                record.summary()
            ));
        }
    }
    // What attackers send is no socket's.
    calm_down();
    // What the last fault has delayed.
    thread::sleep(Duration::from_secs(8));
    watch.count_packets(gateway, CALM, record)?;
    watch.look(gateway, record)
}

fn report(
    seed: u64,
    record: &Record,
    faults: &Faults<'_>,
    watch: &Watch<'_>,
) -> anyhow::Result<()> {
    say(&format!("soak: {}", record.summary()));
    say(&format!("soak: faults: {}", faults.summary()));
    say(&format!("soak: attacks: {}", record.attacks()));
    say(&format!("soak: {}", watch.summary()));
    let violations = record.violations();
    if violations.is_empty() {
        say("soak: all of it held");
        return Ok(());
    }
    bail!(
        "{} things did not hold (--seed {seed}):\n{}",
        violations.len(),
        violations.join("\n")
    )
}
