//! Ending what has lived too long: connections, mappings, sessions, ports.
//!
//! Packets go on while the sweep reads, so nothing is deleted on the strength of what was read:
//! each is looked at again just before, and what turns out to be alive in the very moment that it
//! is taken out is put back.

mod alive;
mod flows;

use std::time::Instant;

use anyhow::Context as _;
use aya::maps::MapError;
use ftp_nat_common::abi::port;

use self::{alive::Alive, lifetime::Lifetimes, pass::Pass};
use crate::{datapath::maps::Maps, kernel::clock::Clock, policy::Policy};

pub(super) mod lifetime;
mod mappings;
mod pass;
mod sessions;
mod shares;

pub use self::pass::{Fill, Publish, Report};

/// Looks at everything once and ends what is over.
///
/// # Errors
///
/// When a table cannot be read or written: see [`crate::kernel::table::Table`].
pub fn sweep<'p>(
    maps: &'p Maps,
    policy: &Policy,
    lifetimes: &'p Lifetimes,
    clock: &'p Clock,
    publish: &'p mut Publish<'p>,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    policy.mark_ports(maps, clock);
    // In this order, for what is made meanwhile: the ports' bytes before what keeps them, mappings
    // before the flows that they become, sessions before the flows that keep them.
    let marked = maps.ports.marked();
    let mut pass = Pass {
        maps,
        lifetimes,
        clock,
        now: clock.now(),
        alive: Alive::default(),
        report: Report::default(),
        publish,
    };
    let before = shares::read(maps).context("cannot read the clients' shares")?;
    let sessions = maps.sessions.all().context("cannot read the sessions")?;
    mappings::end_expired(&mut pass).context("cannot sweep the mappings")?;
    flows::end_old(&mut pass, &maps.flows4)
        .and_then(|()| flows::end_old(&mut pass, &maps.flows6))
        .context("cannot sweep the flows")?;
    pass.alive.let_go_of_ended();
    let ended = sessions::end_orphans(&mut pass, &sessions).context("cannot delete a session")?;
    pass.report.is_share_tight = shares::settle(&pass, &before, &sessions, &ended)
        .context("cannot set the clients' shares right")?;
    mappings::end_of_sessions(&mut pass, &ended).context("cannot delete a session's mappings")?;
    for (number, byte) in marked {
        if lifetimes.is_old_port(byte, pass.now)
            && !pass.alive.ports.has(number)
            && maps.ports.clear_bits_if(number, byte, port::EPOCH)
        {
            pass.report.ports += 1;
        }
    }
    pass.report.fills = fills(&pass, sessions.len()).context("cannot ask for a table's room")?;
    pass.report.took = started.elapsed();
    Ok(pass.report)
}

/// How full the tables are; `sessions`: the entries of theirs that were found.
fn fills(pass: &Pass<'_>, sessions: usize) -> Result<[Fill; 4], MapError> {
    let Pass {
        maps,
        alive: Alive { entries, ended, .. },
        report,
        ..
    } = pass;
    let fill = |left, ended, room: u32| Fill {
        found: left + ended,
        left,
        room: room.into(),
    };
    let mappings_ended = report.mappings_expired + report.mappings_dropped;
    Ok([
        fill(
            (sessions as u64).saturating_sub(report.sessions),
            report.sessions,
            maps.sessions.room()?,
        ),
        fill(entries.mappings, mappings_ended, maps.mappings.room()?),
        fill(entries.flows4, ended.flows4, maps.flows4.room()?),
        fill(entries.flows6, ended.flows6, maps.flows6.room()?),
    ])
}

#[cfg(test)]
mod tests;
