//! What goes wrong around the gateway: one thing at a time, each put right again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use ftp_nat_tests::{
    gateway::Gateway,
    lab::{LAN, LAN_ADDRESS, LAN_ADDRESS_V6, Lab, WAN, WAN_ADDRESS, WAN_ADDRESS_V6},
    link,
    namespace::Namespace,
};
use rustix::process::Signal;

use super::record::Record;

/// For so long new connections may fail when an interface has no programs or is away: until the daemon
/// has looked, and the ends have repeated what was lost.
const EXCUSED: Duration = Duration::from_secs(15);

/// One kind of fault.
type Fault = (
    &'static str,
    fn(&mut Faults<'_>, &mut Gateway<'_>, &Record) -> anyhow::Result<()>,
);

static FAULTS: [Fault; 12] = [
    ("the daemon killed", |it, gateway, record| {
        it.kill(gateway, record)
    }),
    ("the daemon stopped and started", |it, gateway, record| {
        it.restart(gateway, record)
    }),
    ("the daemon asleep", |it, gateway, record| {
        it.asleep(gateway, record)
    }),
    ("a reload", |it, gateway, record| it.reload(gateway, record)),
    (
        "the stack and back to redirect, by reload",
        |it, gateway, record| it.stack(gateway, record),
    ),
    ("a link's pin removed", |it, gateway, record| {
        it.unlink(gateway, record)
    }),
    ("all maps' pins removed", |it, gateway, record| {
        it.unpin_maps(gateway, record)
    }),
    ("the WAN made anew", |it, gateway, record| {
        it.anew_wan(gateway, record)
    }),
    ("the LAN made anew", |it, gateway, record| {
        it.anew_lan(gateway, record)
    }),
    ("an interface renamed and back", |it, gateway, record| {
        it.rename(gateway, record)
    }),
    ("routes that come and go", |it, gateway, record| {
        it.routes(gateway, record)
    }),
    ("all neighbours forgotten", |it, gateway, record| {
        it.neighbours(gateway, record)
    }),
];

/// The faults so far.
pub(super) struct Faults<'l> {
    lab: &'l Lab,
    random: Rng,
    chosen: Vec<&'static Fault>,
    made: BTreeMap<&'static str, u64>,
}

impl<'l> Faults<'l> {
    /// None yet; of those with one of these words in their name, or of all.
    ///
    /// # Errors
    ///
    /// When the router's kernel refuses a setting, or no fault has such a name.
    pub(super) fn new(lab: &'l Lab, seed: u64, words: &[String]) -> anyhow::Result<Self> {
        let is_chosen =
            |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
        let chosen: Vec<_> = FAULTS.iter().filter(|(name, _)| is_chosen(name)).collect();
        ensure!(!chosen.is_empty(), "no fault has a name like {words:?}");
        // A link that goes down loses its IPv6 addresses otherwise.
        for scope in ["all", "default", WAN, LAN] {
            let key = format!("net.ipv6.conf.{scope}.keep_addr_on_down");
            lab.router.sysctl(&key, "1")?;
        }
        Ok(Self {
            lab,
            random: Rng::with_seed(seed ^ 0xfa07),
            chosen,
            made: BTreeMap::new(),
        })
    }

    /// Makes one and puts it right.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or the gateway does not come back.
    pub(super) fn one(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        let (name, make) = *self.chosen[self.random.usize(..self.chosen.len())];
        record.fault(name);
        make(self, gateway, record).with_context(|| format!("fault: {name}"))?;
        *self.made.entry(name).or_default() += 1;
        Ok(())
    }

    /// How long until the next one.
    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(4_000..16_000))
    }

    /// Each kind, and how often it was made.
    pub(super) fn summary(&self) -> String {
        let all = self.made.iter();
        let all: Vec<_> = all.map(|(name, count)| format!("{name} {count}")).collect();
        all.join(", ")
    }

    fn moment(&mut self, most: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(..most)));
    }

    fn kill(&mut self, gateway: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        gateway.kill()?;
        self.moment(3000);
        gateway.restart()
    }

    fn restart(&mut self, gateway: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        gateway.stop()?;
        self.moment(1000);
        gateway.restart()
    }

    fn asleep(&mut self, gateway: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        gateway.signal(Signal::STOP)?;
        self.moment(4000);
        gateway.signal(Signal::CONT)
    }

    fn reload(&mut self, gateway: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        gateway.ask(&["reload"])?.expect_success().map(drop)
    }

    fn stack(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        let file = gateway.configuration().context("no configuration file")?;
        let redirect = fs::read_to_string(&file)?;
        fs::write(&file, redirect.replace("\"redirect\"", "\"stack\""))?;
        self.reload(gateway, record)?;
        thread::sleep(Duration::from_secs(3));
        fs::write(&file, redirect)?;
        self.reload(gateway, record)
    }

    fn unlink(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        record.excuse(EXCUSED);
        let links = files(&gateway_folder(gateway.state_dir())?.join("links"))?;
        let pin = &links[self.random.usize(..links.len())];
        fs::remove_file(pin)?;
        Ok(())
    }

    fn unpin_maps(&mut self, gateway: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        for pin in files(&gateway_folder(gateway.state_dir())?.join("maps"))? {
            fs::remove_file(pin)?;
        }
        // The daemon has them, and puts the pins back: nobody else may die meanwhile.
        thread::sleep(Duration::from_secs(8));
        Ok(())
    }

    fn anew_wan(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        let _ = gateway;
        record.excuse(EXCUSED);
        self.anew(
            WAN,
            &format!("{WAN_ADDRESS}/24"),
            &format!("{WAN_ADDRESS_V6}/64"),
        )
    }

    fn anew_lan(&mut self, gateway: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        let _ = gateway;
        record.excuse(EXCUSED);
        self.anew(
            LAN,
            &format!("{LAN_ADDRESS}/24"),
            &format!("{LAN_ADDRESS_V6}/64"),
        )
    }

    /// Deletes the router's interface and makes it anew, with the hardware address that it had.
    fn anew(&mut self, interface: &str, v4: &str, v6: &str) -> anyhow::Result<()> {
        let router = &self.lab.router;
        let address = link::mac(router, interface)?.map(|byte| format!("{byte:02x}"));
        let address = address.join(":");
        let switch = router.name().strip_suffix("-router").context("no lab")?;
        let switch = Namespace::existing(&format!("{switch}-{interface}-switch"))?;
        router.ip(&format!("link delete {interface}"))?;
        self.moment(1500);
        let router = &self.lab.router;
        switch.ip(&format!(
            "link add router type veth peer name {interface} address {address} netns {}\n\
             link set router master switch\nlink set router up",
            router.name()
        ))?;
        router.sysctl(&format!("net.ipv6.conf.{interface}.keep_addr_on_down"), "1")?;
        router.ip(&format!(
            "link set {interface} up\naddr add {v4} dev {interface}\n\
             addr add {v6} dev {interface} nodad"
        ))
    }

    fn rename(&mut self, _: &mut Gateway<'_>, record: &Record) -> anyhow::Result<()> {
        record.excuse(EXCUSED);
        let interface = [WAN, LAN][self.random.usize(..2)];
        for (old, new) in [(interface, "other"), ("other", interface)] {
            self.lab.router.ip(&format!(
                "link set {old} down\nlink set {old} name {new}\nlink set {new} up"
            ))?;
            self.moment(1500);
        }
        Ok(())
    }

    fn routes(&mut self, _: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        for _ in 0..20 {
            self.lab
                .router
                .ip("route add 192.0.2.0/24 dev wan\nroute del 192.0.2.0/24 dev wan")?;
            self.moment(50);
        }
        Ok(())
    }

    fn neighbours(&mut self, _: &mut Gateway<'_>, _: &Record) -> anyhow::Result<()> {
        self.lab.router.ip("neigh flush all")
    }
}

/// The gateway's own folder: the only one three below the folder of all pins.
fn gateway_folder(state_dir: &Path) -> anyhow::Result<PathBuf> {
    let mut folder = state_dir.to_owned();
    for _ in 0..3 {
        let inside = files(&folder)?;
        folder = inside.into_iter().next().context("an empty folder")?;
    }
    Ok(folder)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}
