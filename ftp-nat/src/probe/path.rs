//! How far packets get: the control port's beside a passive port's, router by router.
//!
//! Each connection starts with a small time to live, so that the router where that ends says so;
//! its answer belongs to this very port, which no other kind of packet could tell. It needs no
//! privileges, see [`super::dial`].

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    dial::{Reach, Way, dial},
    limits::Limits,
};
use crate::model::address::is_inner;

/// So many distances are tried at once.
const AT_ONCE: u8 = 4;
/// No server is farther than this.
const FARTHEST: u8 = 28;
/// How long a router may take to answer: the first packet may get lost.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What became of a packet that may pass so many routers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hop {
    /// It ends at this router.
    pub ttl: u8,
    /// What came back.
    pub reach: Reach,
    /// From whom, where that is known.
    pub by: Option<IpAddr>,
}

/// Both paths.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Path {
    /// The passive port that was tried.
    pub data_port: u16,
    /// The way of packets to the control port, as far as the first that was accepted.
    pub control: Vec<Hop>,
    /// The way of packets to the passive port.
    pub data: Vec<Hop>,
}

/// Where a passive port's packets end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEnd {
    /// They are accepted at this distance.
    Accepted(u8),
    /// They are reset at this distance.
    Refused(u8),
    /// An ICMP error ends them at this distance.
    Rejected(u8, Option<IpAddr>),
    /// They are heard of last at this distance (0: never), and no farther.
    Lost(u8),
}

/// Finds out how far packets get to `data_port` and to the control port.
#[must_use]
pub fn explore(control: SocketAddr, from: SocketAddr, data_port: u16, limits: Limits) -> Path {
    let patience = PATIENCE.min(limits.step);
    let mut data = control;
    data.set_port(data_port);
    let mut path = Path {
        data_port,
        control: Vec::new(),
        data: Vec::new(),
    };
    let mut first = 1;
    while first < FARTHEST && !limits.are_over() && path.server().is_none() {
        let distances = first..first + AT_ONCE;
        thread::scope(|scope| {
            let explorers: Vec<_> = distances
                .flat_map(|ttl| [(control, ttl), (data, ttl)])
                .map(|(to, ttl)| scope.spawn(move || hop(to, from, ttl, patience)))
                .collect();
            for (place, explorer) in explorers.into_iter().enumerate() {
                let Ok(hop) = explorer.join() else { continue };
                if place % 2 == 0 {
                    path.control.push(hop);
                } else {
                    path.data.push(hop);
                }
            }
        });
        first += AT_ONCE;
    }
    path.shorten();
    path
}

fn hop(to: SocketAddr, from: SocketAddr, ttl: u8, patience: Duration) -> Hop {
    let way = Way {
        from: Some(from),
        ttl: Some(ttl),
    };
    let (dialled, _) = dial(to, way, patience);
    Hop {
        ttl,
        reach: dialled.reach,
        by: dialled.by,
    }
}

impl Path {
    /// Farther than the server is nothing.
    fn shorten(&mut self) {
        for hops in [&mut self.control, &mut self.data] {
            let is_end = |hop: &Hop| matches!(hop.reach, Reach::Connected | Reach::Refused);
            if let Some(end) = hops.iter().position(is_end) {
                hops.truncate(end + 1);
            }
        }
    }

    /// The distance of whoever accepts control connections.
    #[must_use]
    pub fn server(&self) -> Option<u8> {
        let accepted = |hop: &&Hop| hop.reach == Reach::Connected;
        self.control.iter().find(accepted).map(|hop| hop.ttl)
    }

    /// Who stands at this distance on the control port's way.
    #[must_use]
    pub fn router(&self, distance: u8) -> Option<IpAddr> {
        let found = self.control.iter().find(|hop| hop.ttl == distance)?;
        (found.reach == Reach::Expired)
            .then_some(found.by)
            .flatten()
    }

    /// The distance of a router on the control port's way.
    #[must_use]
    pub fn distance(&self, router: IpAddr) -> Option<u8> {
        let is_it = |hop: &&Hop| hop.by == Some(router);
        self.control.iter().find(is_it).map(|hop| hop.ttl)
    }

    /// How many routers answer as `address`: one is a NAT that has it, and those behind a NAT are
    /// translated by it.
    #[must_use]
    pub fn routers_as(&self, address: IpAddr) -> usize {
        let expired = self
            .control
            .iter()
            .filter(|hop| hop.reach == Reach::Expired);
        expired.filter(|hop| hop.by == Some(address)).count()
    }

    /// Where the passive port's packets end.
    #[must_use]
    pub fn data_end(&self) -> DataEnd {
        let mut last = 0;
        for hop in &self.data {
            match hop.reach {
                Reach::Connected => return DataEnd::Accepted(hop.ttl),
                Reach::Refused => return DataEnd::Refused(hop.ttl),
                Reach::Unreachable => return DataEnd::Rejected(hop.ttl, hop.by),
                Reach::Expired => last = hop.ttl,
                _ => {}
            }
        }
        DataEnd::Lost(last)
    }

    /// Whether the machine with `address` itself sent a passive port's packet on.
    #[must_use]
    pub fn is_sent_on_by(&self, address: IpAddr) -> bool {
        self.data
            .iter()
            .any(|hop| hop.reach == Reach::Expired && hop.by == Some(address))
    }

    /// Whether a distance is on this machine's own side, as seen from a server at `address`: the
    /// machine itself, its first router, and whatever else has inner addresses.
    #[must_use]
    pub fn is_near(&self, distance: u8, address: IpAddr) -> bool {
        let of_server = (1..=distance).any(|at| self.router(at) == Some(address));
        if distance == 0 {
            return true;
        }
        if of_server || Some(distance) >= self.server() {
            return false;
        }
        let inner = |at| self.router(at).is_some_and(is_inner);
        distance == 1 || (!is_inner(address) && (1..=distance).all(inner))
    }

    /// Hops in words: `1 10.0.0.1, 2 ?, 3 connected`.
    #[must_use]
    pub fn text(hops: &[Hop]) -> String {
        let mut words = Vec::new();
        for hop in hops {
            let what = match (hop.reach, hop.by) {
                (Reach::Expired, Some(by)) => by.to_string(),
                (Reach::Expired, None) => "a router".into(),
                (Reach::TimedOut, _) => "?".into(),
                (Reach::Connected, _) => "accepted".into(),
                (Reach::Refused, _) => "reset".into(),
                (Reach::Unreachable, Some(by)) => format!("unreachable by {by}"),
                (Reach::Unreachable, None) => "unreachable".into(),
                (Reach::NoRoute | Reach::Forbidden | Reach::Failed, _) => "not sent".into(),
            };
            words.push(format!("{} {what}", hop.ttl));
        }
        // Silence behind the last answer needs to be said once only.
        while let [.., before, last] = &words[..] {
            if !(before.ends_with(" ?") && last.ends_with(" ?")) {
                break;
            }
            words.pop();
        }
        words.join(", ")
    }
}
