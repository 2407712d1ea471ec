//! Ending what has lived too long: connections, mappings, sessions, ports.
//!
//! Packets go on while the sweep reads, so nothing is deleted on the strength of what was read:
//! each is looked at again just before, and what turns out to be alive in the very moment that it
//! is taken out is put back.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use ftp_nat_common::abi::{Flow, kind, port, side};

use crate::{
    clock::Clock,
    flow::{self, Key, State},
    lifetime::Lifetimes,
    maps::Maps,
    policy::Policy,
    table::Table,
};

/// What a sweep saw and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections that ended, by state: see [`State::ALL`].
    pub ended: [u64; State::ALL.len()],
    /// Mappings that nobody used in time.
    pub mappings_expired: u64,
    /// Mappings whose session ended.
    pub mappings_dropped: u64,
    /// Sessions whose control connection is gone.
    pub sessions: u64,
    /// Ports that are of no interest any more.
    pub ports: u64,
    /// How long it took.
    pub took: Duration,
}

/// Ports in use.
struct PortSet(Vec<u64>);

impl PortSet {
    fn new() -> Self {
        Self(vec![0; 65536 / 64])
    }

    fn add(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    fn has(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] & 1 << (port % 64) != 0
    }
}

/// What is found alive on the way.
struct Alive {
    ports: PortSet,
    /// Sessions that have a control connection.
    sessions: HashSet<u32>,
}

/// Looks at everything once and ends what is over.
///
/// # Errors
///
/// What the kernel said.
pub fn sweep(
    maps: &Maps,
    policy: &Policy,
    lifetimes: &Lifetimes,
    clock: &Clock,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let mut report = Report::default();
    let mut alive = Alive {
        ports: PortSet::new(),
        sessions: HashSet::new(),
    };
    policy.mark_ports(maps);
    // In this order, for what is made meanwhile: the ports' bytes before what keeps them, mappings
    // before the flows that they become, sessions before the flows that keep them.
    let marked = maps.ports.marked();
    let now = clock.now();
    let sessions = maps.sessions.all().context("cannot read the sessions")?;
    mappings(maps, lifetimes, now, &mut alive, &mut report).context("cannot sweep the mappings")?;
    flows(&maps.flows4, lifetimes, clock, &mut alive, &mut report)
        .and_then(|()| flows(&maps.flows6, lifetimes, clock, &mut alive, &mut report))
        .context("cannot sweep the flows")?;
    let mut gone = HashSet::new();
    for (number, session) in sessions {
        if !alive.sessions.contains(&number) && lifetimes.is_orphan(session.born, now) {
            maps.sessions
                .delete(&number)
                .context("cannot delete a session")?;
            gone.insert(number);
        }
    }
    report.sessions = gone.len() as u64;
    drop_mappings(maps, &gone, &mut report).context("cannot delete a session's mappings")?;
    for (number, byte) in marked {
        if lifetimes.is_old_port(byte, now)
            && !alive.ports.has(number)
            && maps.ports.clear_bits_if(number, byte, port::EPOCH)
        {
            report.ports += 1;
        }
    }
    report.took = started.elapsed();
    Ok(report)
}

fn mappings(
    maps: &Maps,
    lifetimes: &Lifetimes,
    now: u64,
    alive: &mut Alive,
    report: &mut Report,
) -> io::Result<()> {
    let mut forgotten = Vec::new();
    maps.mappings.each(|key, mapping| {
        if lifetimes.is_forgotten(mapping, now) {
            forgotten.push(*key);
        } else {
            alive.ports.add(key.dport.number());
            alive.ports.add(mapping.to.port.number());
        }
    })?;
    for key in forgotten {
        let Some(taken) = maps.mappings.take(&key)? else {
            continue;
        };
        if lifetimes.is_forgotten(&taken, now) {
            report.mappings_expired += 1;
        } else {
            maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

fn drop_mappings(maps: &Maps, gone: &HashSet<u32>, report: &mut Report) -> io::Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut dropped = Vec::new();
    maps.mappings.each(|key, mapping| {
        if gone.contains(&mapping.session) {
            dropped.push(*key);
        }
    })?;
    for key in dropped {
        let Some(taken) = maps.mappings.take(&key)? else {
            continue;
        };
        if gone.contains(&taken.session) {
            report.mappings_dropped += 1;
        } else {
            maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

fn flows<K: Key>(
    table: &Table<K, Flow>,
    lifetimes: &Lifetimes,
    clock: &Clock,
    alive: &mut Alive,
    report: &mut Report,
) -> io::Result<()> {
    let now = clock.now();
    let mut suspects = Vec::new();
    table.each(|key, flow| {
        if lifetimes.suspicious(flow.kind, flow.tcp_flags, flow.last_seen, now) {
            suspects.push(*key);
        } else {
            alive.keep(key, flow);
        }
    })?;
    for key in suspects {
        // The other direction was a suspect too and is gone with this one.
        let Some(flow) = table.get(&key)? else {
            continue;
        };
        let other_key = flow::other_way(&key, &flow);
        let other = table.get(&other_key)?;
        let state = state(&flow, other.as_ref());
        if lifetimes.is_over(flow.kind, state, seen(&flow, other.as_ref()), clock.now())
            && end(table, lifetimes, clock, key, other_key)?
        {
            report.ended[state as usize] += 1;
        } else {
            alive.keep(&key, &flow);
        }
    }
    Ok(())
}

fn state(flow: &Flow, other: Option<&Flow>) -> State {
    State::of(flow.tcp_flags, other.map_or(0, |other| other.tcp_flags))
}

fn seen(flow: &Flow, other: Option<&Flow>) -> u64 {
    flow.last_seen.max(other.map_or(0, |other| other.last_seen))
}

/// Takes both directions out. The outbound one goes first and the inbound one, which is the lock
/// on the public port, last; if either was used meanwhile, both are put back.
fn end<K: Key>(
    table: &Table<K, Flow>,
    lifetimes: &Lifetimes,
    clock: &Clock,
    key: K,
    other: K,
) -> io::Result<bool> {
    let (outbound, inbound) = if key.side() == side::OUTBOUND {
        (key, other)
    } else {
        (other, key)
    };
    let (out_flow, in_flow) = (table.take(&outbound)?, table.take(&inbound)?);
    let Some(flow) = in_flow.as_ref().or(out_flow.as_ref()) else {
        return Ok(false);
    };
    let other = in_flow.as_ref().and(out_flow.as_ref());
    let state = state(flow, other);
    if lifetimes.is_over(flow.kind, state, seen(flow, other), clock.now()) {
        return Ok(true);
    }
    for (key, flow) in [(inbound, in_flow), (outbound, out_flow)] {
        if let Some(flow) = flow {
            table.add(&key, &flow)?;
        }
    }
    Ok(false)
}

impl Alive {
    fn keep<K: Key>(&mut self, key: &K, flow: &Flow) {
        if flow.kind == kind::CONTROL {
            self.sessions.insert(flow.session);
        }
        let (outside, public) = flow::ends(key, flow);
        self.ports.add(public.port.number());
        let inside = if key.side() == side::INBOUND {
            flow.port
        } else {
            key.source().port
        };
        self.ports.add(inside.number());
        // The port that the server dials is the client's: that one was announced.
        if flow.kind == kind::ACTIVE {
            self.ports.add(outside.port.number());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_set_holds_every_port() {
        let mut set = PortSet::new();
        for port in [0, 1, 63, 64, 21, 65535] {
            assert!(!set.has(port));
            set.add(port);
            assert!(set.has(port));
        }
        assert!(!set.has(22));
    }
}
