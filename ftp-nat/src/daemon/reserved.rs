//! Ports that belong to somebody else: programs of this machine that listen, and what the firewall's
//! rules translate. No announcement gets one of them.
//!
//! Both may change at any time and nothing tells of it, so they are looked at every few seconds: the
//! listening sockets always, which is one question to the kernel, and the rules when their number has
//! changed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ftp_nat_common::{
    abi::PublishKey,
    wire::addr::{Addr, Endpoint, Port},
};
use log::{debug, warn};

use crate::{
    datapath::maps::Maps,
    kernel::{nftables, privileges, sockets},
    ruleset::{
        read::{has_legacy_tables, read},
        translations::Translation,
    },
};

/// Rest between two looks.
const REST: Duration = Duration::from_secs(2);
/// And so many times what the last one took: rules by the ten thousand take their time.
const REST_FACTOR: u32 = 25;
/// How often rules of iptables' old kind are read, whose changes have no number.
const LEGACY_REST: Duration = Duration::from_secs(10);
/// How long the daemon's start waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(6);
/// Room for this many: see the RESERVED map.
const MOST: usize = 1 << 15;

/// The ports of others: each with where it leads, if the rule says so; none for a listener's.
type Ports = HashMap<PublishKey, Endpoint>;

/// Who keeps the ports up to date.
#[derive(Clone, Debug)]
pub(super) struct Reserved {
    looks: SyncSender<()>,
}

impl Reserved {
    /// Keeps them up to date from now on; `wans` are the interfaces outside. Has looked once when it
    /// returns.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the limit of threads is reached.
    pub(super) fn start(maps: Arc<Maps>, wans: Vec<String>) -> anyhow::Result<Self> {
        let (looks, asked) = sync_channel(1);
        let (done, is_done) = sync_channel(1);
        thread::Builder::new()
            .name("ports".into())
            .spawn(move || {
                let mut watch = Watch {
                    maps,
                    wans,
                    rules: Rules::default(),
                    complaints: Vec::new(),
                };
                watch.run(&asked, &done);
            })
            .context("cannot start a thread")?;
        if is_done.recv_timeout(FIRST_LOOK).is_err() {
            warn!("the ports that this machine uses are not known yet: it takes long to read them");
        }
        Ok(Self { looks })
    }

    /// Has them looked at now.
    pub(super) fn refresh(&self) {
        // One look serves all who ask before it.
        let is_new = self.looks.try_send(()).is_ok();
        debug!("the ports of others: asked for a look: {is_new}");
    }
}

/// The rules' part, which is read only when they have changed.
#[derive(Debug, Default)]
struct Rules {
    generation: Option<u32>,
    read: Option<Instant>,
    translations: Vec<Translation>,
}

/// What runs on the thread.
struct Watch {
    maps: Arc<Maps>,
    wans: Vec<String>,
    rules: Rules,
    /// What was complained of last, so that it is said once.
    complaints: Vec<String>,
}

impl Watch {
    fn run(&mut self, asked: &Receiver<()>, done: &SyncSender<()>) {
        // nft and iptables-save need it; they are started by this thread alone.
        if let Err(error) = privileges::hand_down_net_admin() {
            debug!("{error:#}");
        }
        loop {
            let started = Instant::now();
            let mut complaints = Vec::new();
            if let Err(error) = self.look(&mut complaints) {
                complaints.push(format!("cannot keep the ports of others: {error:#}"));
            }
            for complaint in &complaints {
                if !self.complaints.contains(complaint) {
                    warn!("{complaint}");
                }
            }
            self.complaints = complaints;
            // Nobody waits but at the start.
            let _is_first = done.try_send(()).is_ok();
            let rest = REST.max(started.elapsed() * REST_FACTOR);
            if asked.recv_timeout(rest) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn look(&mut self, complaints: &mut Vec<String>) -> anyhow::Result<()> {
        self.read_rules(complaints);
        let mut ports = Ports::new();
        match sockets::listening() {
            Ok(listening) => {
                for (ip, port) in listening {
                    ports.insert(key(ip, port), Endpoint::default());
                }
            }
            Err(error) => complaints.push(format!(
                "cannot see which ports this machine listens on, so that announcements may take \
                 them: {error}"
            )),
        }
        for translation in &self.rules.translations {
            reserve(translation, &mut ports);
        }
        if ports.len() > MOST {
            complaints.push(format!(
                "{} ports are listened on or translated, of which only {MOST} can be kept from \
                 announcements",
                ports.len()
            ));
        }
        self.write(&ports)
    }

    /// Reads the rules, if they may have changed.
    fn read_rules(&mut self, complaints: &mut Vec<String>) {
        let generation = nftables::generation().ok();
        let is_legacy = [true, false].into_iter().any(has_legacy_tables);
        let is_old = self.rules.read.is_none_or(|at| at.elapsed() >= LEGACY_REST);
        let has_changed = generation != self.rules.generation;
        if !(has_changed || is_legacy && is_old) {
            // What was said of them is still so.
            let said = self.complaints.iter().filter(|it| it.contains(UNREAD));
            complaints.extend(said.cloned());
            return;
        }
        let reading = read();
        for (what, error) in &reading.problems {
            complaints.push(format!("{what} {UNREAD}: {error:#}"));
        }
        if reading.is_without_programs && generation.is_some_and(|it| it > 1) {
            complaints.push(format!(
                "the firewall's rules {UNREAD}: there is neither nft nor iptables-save here"
            ));
        }
        self.rules = Rules {
            generation,
            read: Some(Instant::now()),
            translations: reading.ruleset.translations(&self.wans),
        };
        debug!("translated by rules: {:?}", self.rules.translations);
    }

    /// Brings the table to what it must hold: first what is new, as far as there is room.
    fn write(&self, wanted: &Ports) -> anyhow::Result<()> {
        let tried = "the table of reserved ports";
        let old: Ports = self
            .maps
            .reserved
            .all()
            .context(tried)?
            .into_iter()
            .collect();
        // A port with an entry has its bit at any time.
        let ports = &self.maps.ports;
        ports.set_reserved(old.keys().chain(wanted.keys()).map(|key| key.port));
        for key in old.keys().filter(|key| !wanted.contains_key(key)) {
            self.maps.reserved.delete(key).context(tried)?;
        }
        for (key, to) in wanted.iter().take(MOST) {
            if old.get(key) != Some(to) {
                self.maps.reserved.set(key, to).context(tried)?;
            }
        }
        ports.set_reserved(wanted.keys().map(|key| key.port));
        Ok(())
    }
}

/// What a complaint about unread rules says.
const UNREAD: &str = "cannot be read, so that announcements may take ports that they translate";

fn key(ip: IpAddr, port: u16) -> PublishKey {
    PublishKey {
        addr: Addr::from(ip),
        port: Port::new(port),
        pad: 0,
    }
}

/// Adds the ports of a translation.
fn reserve(translation: &Translation, ports: &mut Ports) {
    let addresses = match translation.address {
        Some(address) => vec![address],
        None => [
            (translation.v4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            (translation.v6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        ]
        .into_iter()
        .filter_map(|(is_meant, any)| is_meant.then_some(any))
        .collect(),
    };
    for address in addresses {
        for number in translation.ports.clone() {
            let to = translation.to.map_or_else(Endpoint::default, |(ip, port)| {
                Endpoint::new(Addr::from(ip), Port::new(port.unwrap_or(number)))
            });
            ports
                .entry(key(address, number))
                // Two that lead apart, or a listener: whose it is depends on more than the port.
                .and_modify(|other| {
                    if *other != to {
                        *other = Endpoint::default();
                    }
                })
                .or_insert(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(address: Option<&str>, to: Option<(&str, Option<u16>)>) -> Translation {
        Translation {
            address: address.map(|it| it.parse().unwrap()),
            v4: true,
            v6: false,
            ports: 8000..=8001,
            to: to.map(|(ip, port)| (ip.parse().unwrap(), port)),
        }
    }

    fn shown(translations: &[Translation]) -> Vec<String> {
        let mut ports = Ports::new();
        for translation in translations {
            reserve(translation, &mut ports);
        }
        let mut shown: Vec<_> = ports
            .iter()
            .map(|(key, to)| format!("{}:{} to {to}", key.addr, key.port))
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn each_port_of_a_translation_is_kept_with_where_it_leads() {
        assert_eq!(
            shown(&[translation(Some("198.51.100.1"), Some(("10.0.0.6", None)))]),
            [
                "198.51.100.1:8000 to 10.0.0.6:8000",
                "198.51.100.1:8001 to 10.0.0.6:8001"
            ]
        );
        assert_eq!(
            shown(&[translation(None, Some(("10.0.0.6", Some(80))))]),
            ["0.0.0.0:8000 to 10.0.0.6:80", "0.0.0.0:8001 to 10.0.0.6:80"]
        );
    }

    #[test]
    fn a_port_that_leads_to_two_ends_leads_nowhere_for_sure() {
        let one = translation(None, Some(("10.0.0.6", None)));
        let other = translation(None, Some(("10.0.0.7", None)));
        assert_eq!(
            shown(&[one, other]),
            ["0.0.0.0:8000 to [::]:0", "0.0.0.0:8001 to [::]:0"]
        );
    }
}
