//! Ending mappings: those that nobody used in time, and those whose session has ended.

use std::{collections::HashSet, io};

use ftp_nat_common::abi::{Event, Mapping, MappingKey, REVERSED, event};

use super::pass::Pass;
use crate::{daemon::occurrence::Detail, model::mapping};

/// Ends the mappings that have expired, and notes the ports of the others.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub(super) fn end_expired(pass: &mut Pass<'_>) -> io::Result<()> {
    let mut expired_keys = Vec::new();
    pass.maps.mappings.each(|key, mapping| {
        if pass.lifetimes.is_forgotten(mapping, pass.now) {
            expired_keys.push(*key);
        } else {
            pass.alive.entries.mappings += 1;
            pass.alive.ports.add(key.dport.number());
            pass.alive.ports.add(mapping.to.port.number());
            pass.alive.ports.add(mapping.other.port.number());
        }
    })?;
    for key in expired_keys {
        let Some(taken) = pass.maps.mappings.take(&key)? else {
            continue;
        };
        if pass.lifetimes.is_forgotten(&taken, pass.now) {
            // One that was learned is there twice, and told once.
            if key.side & REVERSED == 0 {
                pass.report.mappings_expired += 1;
                (pass.publish)(&expired(&key, &taken, taken.expires), Detail::None);
            }
        } else {
            // A new mapping has taken the key meanwhile.
            pass.maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

/// Ends the mappings of sessions that have ended.
///
/// # Errors
///
/// Those of [`crate::kernel::table::Table`].
pub(super) fn end_of_sessions(pass: &mut Pass<'_>, ended: &HashSet<u32>) -> io::Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let mut keys = Vec::new();
    pass.maps.mappings.each(|key, mapping| {
        if ended.contains(&mapping.session) {
            keys.push(*key);
        }
    })?;
    for key in keys {
        let Some(taken) = pass.maps.mappings.take(&key)? else {
            continue;
        };
        if ended.contains(&taken.session) {
            if key.side & REVERSED == 0 {
                pass.report.mappings_dropped += 1;
                (pass.publish)(&expired(&key, &taken, pass.now), Detail::None);
            }
        } else {
            pass.maps.mappings.add(&key, &taken)?;
        }
    }
    Ok(())
}

/// The event of a mapping that has ended unused. `time` is in ticks.
fn expired(key: &MappingKey, mapping: &Mapping, time: u64) -> Event {
    let [peer, public, inside] = mapping::ends(key, mapping);
    Event {
        time,
        what: event::EXPIRED,
        kind: mapping.kind,
        session: mapping.session,
        peer,
        inside,
        public,
        cause: mapping.cause,
        ..Event::default()
    }
}
