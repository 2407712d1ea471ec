//! What must hold, looked at from outside: by ftp-nat's own commands, the kernel's files and counters of
//! the hosts.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ftp_nat_common::counter::Counter;
use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Host, Lab},
    process,
};
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;

use super::record::Record;

/// Counts what a host sends by TCP, over either family, out of its own sockets.
const COUNTER: &str = "table inet soak {\n counter sent { }\n chain out {\n type filter hook output \
                       priority 0;\n meta l4proto tcp oifname \"eth0\" counter name sent\n }\n}\n";

/// Words of the kernel's log that nobody wants to see.
const ALARMS: [&str; 7] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "general protection",
    "refcount_t",
    "use-after-free",
    "scheduling while atomic",
];

/// By how much a daemon's memory and its maps' may grow over what they were at the first look.
const GROWTH: f64 = 1.5;

/// What was seen so far.
pub(super) struct Watch<'l> {
    lab: &'l Lab,
    kernel_log: File,
    /// What did not fit at the last look: it may have been under way.
    doubtful: BTreeSet<String>,
    daemon_memory: Range,
    map_memory: Range,
    looks: u64,
    /// What the hosts have sent in the calm, at least and at most, and how many verdicts were counted.
    packets: Option<(u64, u64, u64)>,
}

/// Counters of the hosts and the gateway.
struct Counts {
    /// Packets that the hosts have sent, before and after the verdicts were read.
    sent: (u64, u64),
    /// The packets of each verdict.
    verdicts: Vec<(String, u64)>,
}

/// The first, smallest and largest of some numbers of KiB.
#[derive(Default)]
struct Range {
    first: Option<u64>,
    least: u64,
    most: u64,
}

impl Range {
    fn see(&mut self, value: u64) {
        let first = *self.first.get_or_insert(value);
        self.least = if self.least == 0 {
            first.min(value)
        } else {
            self.least.min(value)
        };
        self.most = self.most.max(value);
    }

    fn has_grown(&self) -> bool {
        self.first
            .is_some_and(|first| self.most as f64 > first as f64 * GROWTH)
    }

    fn text(&self) -> String {
        format!("{} to {} KiB", self.least, self.most)
    }
}

impl<'l> Watch<'l> {
    /// From now on.
    ///
    /// # Errors
    ///
    /// When the kernel's log cannot be read, or a host has no nftables.
    pub(super) fn begin(lab: &'l Lab, _: &Gateway<'_>) -> anyhow::Result<Self> {
        for host in counted(lab) {
            host.namespace.nft(COUNTER)?;
        }
        let mut kernel_log = File::open("/dev/kmsg").context("cannot read /dev/kmsg")?;
        kernel_log.seek(SeekFrom::End(0))?;
        fcntl_setfl(kernel_log.as_fd(), OFlags::NONBLOCK)?;
        Ok(Self {
            lab,
            kernel_log,
            doubtful: BTreeSet::new(),
            daemon_memory: Range::default(),
            map_memory: Range::default(),
            looks: 0,
            packets: None,
        })
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// When a command of ftp-nat fails.
    pub(super) fn look(&mut self, gateway: &Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        self.looks += 1;
        self.look_at_tables(gateway, record)?;
        self.look_at_memory(gateway, record)?;
        self.look_at_kernel(record);
        Ok(())
    }

    fn look_at_tables(&mut self, gateway: &Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        // Sessions last: what is made meanwhile has its session in it.
        let mappings = gateway.json(&["mappings"])?;
        let flows = gateway.json(&["flows", "--all"])?;
        let sessions = gateway.json(&["sessions", "--all"])?;
        let known: BTreeSet<_> = rows(&sessions)
            .map(|it| it["session"].to_string())
            .collect();
        let hosts = || self.lab.outside.iter();
        let outside: BTreeSet<_> = hosts()
            .map(|it| it.v4.to_string())
            .chain(hosts().map(|it| it.v6.to_string()))
            .collect();
        let server = self.lab.server();
        let inside = [server.v4.to_string(), server.v6.to_string()];
        let mut doubtful = BTreeSet::new();
        for mapping in rows(&mappings) {
            if !known.contains(&mapping["session"].to_string()) {
                doubtful.insert(format!("a mapping without a session: {mapping}"));
            }
        }
        for flow in rows(&flows) {
            let text = |key: &str| flow[key].as_str().unwrap_or_default().to_owned();
            if !outside.contains(&text("outside")) || !inside.contains(&text("inside")) {
                record.violation(format!("a flow that nobody made: {flow}"));
            }
            if flow["kind"] == "control" && !known.contains(&flow["session"].to_string()) {
                doubtful.insert(format!(
                    "a control flow without a session: {} {}",
                    flow["session"], flow["outside_port"]
                ));
            }
        }
        for twice in doubtful.intersection(&self.doubtful) {
            record.violation(twice.clone());
        }
        self.doubtful = doubtful;
        Ok(())
    }

    fn look_at_memory(&mut self, gateway: &Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        let pid = gateway.pid().context("the daemon does not run")?;
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            record.violation("the daemon has ended by itself".to_owned());
            return Ok(());
        };
        if let Some(resident) = field(&status, "VmRSS:") {
            self.daemon_memory.see(resident);
        }
        let mut maps = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains("map_type:") {
                maps += field(&text, "memlock:").unwrap_or(0);
            }
        }
        self.map_memory.see(maps / 1024);
        for (what, range) in [
            ("the daemon's memory", &self.daemon_memory),
            ("the maps' memory", &self.map_memory),
        ] {
            if range.has_grown() {
                record.violation(format!("{what} grows: {}", range.text()));
            }
        }
        Ok(())
    }

    fn look_at_kernel(&mut self, record: &Record) {
        let mut line = [0; 8192];
        while let Ok(length) = self.kernel_log.read(&mut line) {
            let text = String::from_utf8_lossy(&line[..length]);
            if ALARMS.iter().any(|alarm| text.contains(alarm)) {
                record.violation(format!("the kernel's log: {text}"));
            }
        }
    }

    /// Compares what the hosts have sent with what the gateway has counted, for so long: each packet
    /// has one verdict, and only one.
    ///
    /// # Errors
    ///
    /// When the counters cannot be read.
    pub(super) fn count_packets(
        &mut self,
        gateway: &Gateway<'_>,
        how_long: Duration,
        record: &Record,
    ) -> anyhow::Result<()> {
        let before = self.count(gateway)?;
        thread::sleep(how_long);
        let after = self.count(gateway)?;
        // Reading takes its time on a busy machine, and packets come meanwhile.
        let least = after.sent.0 - before.sent.1;
        let most = after.sent.1 - before.sent.0;
        let moved: Vec<_> = after
            .verdicts
            .into_iter()
            .zip(before.verdicts)
            .map(|((name, after), (_, before))| (name, after.saturating_sub(before)))
            .filter(|(_, moved)| *moved > 0)
            .collect();
        let judged = moved.iter().map(|(_, count)| count).sum();
        self.packets = Some((least, most, judged));
        // Those under way while the counters were read.
        let slack = (most / 100).max(30);
        if judged + slack < least || judged > most + slack {
            record.violation(format!(
                "{least} to {most} packets were sent and {judged} verdicts counted: {moved:?}"
            ));
        }
        Ok(())
    }

    fn count(&self, gateway: &Gateway<'_>) -> anyhow::Result<Counts> {
        let before = self.sent()?;
        let verdicts = verdicts(gateway)?;
        Ok(Counts {
            sent: (before, self.sent()?),
            verdicts,
        })
    }

    /// What the hosts have sent so far.
    fn sent(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for host in counted(self.lab) {
            let mut nft = host.namespace.command("nft")?;
            nft.args(["-j", "list", "counter", "inet", "soak", "sent"]);
            let answer = process::run(&mut nft, Duration::from_secs(10))?.expect_success()?;
            let answer: Value = serde_json::from_slice(&answer.stdout)?;
            let counters = answer["nftables"].as_array().context("no counters")?;
            sum += counters
                .iter()
                .find_map(|it| it["counter"]["packets"].as_u64())
                .context("no counter")?;
        }
        Ok(sum)
    }

    /// Waits until the tables are empty.
    pub(super) fn nothing_is_left(
        &mut self,
        gateway: &Gateway<'_>,
        limit: Duration,
        record: &Record,
    ) {
        let start = Instant::now();
        loop {
            let left: Vec<_> = ["sessions", "flows", "mappings"]
                .into_iter()
                .filter_map(|table| {
                    let all: &[&str] = if table == "mappings" { &[] } else { &["--all"] };
                    let rows = gateway.json(&[&[table], all].concat()).ok()?;
                    let rows = rows.as_array()?;
                    (!rows.is_empty()).then(|| format!("{} {table}: {}", rows.len(), rows[0]))
                })
                .collect();
            if left.is_empty() {
                return;
            }
            if start.elapsed() > limit {
                record.violation(format!("left after all has ended: {}", left.join("; ")));
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Unloads the gateway and looks whether anything stays.
    ///
    /// # Errors
    ///
    /// When the gateway cannot be unloaded.
    pub(super) fn end(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        gateway.stop()?;
        gateway.ask(&["unload"])?.expect_success()?;
        let left = fs::read_dir(gateway.state_dir()).map_or(0, Iterator::count);
        if left > 0 {
            record.violation("pins stay after unload".to_owned());
        }
        self.look_at_kernel(record);
        Ok(())
    }

    /// What was seen.
    pub(super) fn summary(&self) -> String {
        let (least, most, judged) = self.packets.unwrap_or_default();
        format!(
            "{} looks; the daemon's memory {}, its maps' {}; {least} to {most} packets sent in \
             the calm, {judged} verdicts",
            self.looks,
            self.daemon_memory.text(),
            self.map_memory.text()
        )
    }
}

/// The hosts whose own sockets send to the gateway or through it.
fn counted(lab: &Lab) -> impl Iterator<Item = &Host> {
    lab.outside.iter().chain([lab.server()])
}

fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten()
}

/// The number behind a name, at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The packets of each counter that counts a packet's one verdict: those with bytes beside them.
fn verdicts(gateway: &Gateway<'_>) -> anyhow::Result<Vec<(String, u64)>> {
    let text = gateway.ask(&["metrics"])?.expect_success()?.text();
    let mut all = Vec::new();
    for counter in Counter::ALL {
        let it = counter.description();
        if !it.bytes {
            continue;
        }
        let name = format!(
            "ftp_nat_{}_packets_total{{{}=\"{}\"}}",
            it.family, it.label, it.value
        );
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        let value = value.with_context(|| format!("there is no {name}"))?;
        all.push((name, value.trim().parse::<f64>()? as u64));
    }
    ensure!(
        all.iter().any(|(_, count)| *count > 0),
        "nothing was counted"
    );
    Ok(all)
}
