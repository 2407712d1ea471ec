//! Ending connections.

use std::{collections::HashMap, io};

use ftp_nat_common::abi::{Event, Flow, event, flow_flag, kind};

use super::{lifetime::Lifetimes, pass::Pass};
use crate::{
    daemon::occurrence::{Detail, End, Ended},
    kernel::{clock::Clock, table::Table},
    model::flow::{self, Key, State, seen_at, signs},
};

/// Ends the connections of one address family that are over, and notes what the others need.
///
/// # Errors
///
/// Those of [`Table`].
pub(super) fn end_old<K: Key>(pass: &mut Pass<'_>, table: &Table<K, Flow>) -> io::Result<()> {
    let (lifetimes, clock) = (pass.lifetimes, pass.clock);
    let now = clock.now();
    let mut suspects = Vec::new();
    let mut ended: HashMap<K, Directions<K>> = HashMap::new();
    table.each(|key, flow| {
        let (signs, seen) = (signs(flow), flow.seen_at(now));
        if !lifetimes.suspicious(flow.kind, signs, seen, now) {
            pass.alive.keep(key, flow);
        } else if flow.kind != kind::CONTROL && signs & State::ENDED != 0 {
            let inbound = flow::inbound(key, flow);
            let place = usize::from(flow.is_outbound());
            let read = Read {
                key: *key,
                signs,
                seen,
            };
            let directions = ended.entry(inbound).or_insert([None; 2]);
            // A second one of the same direction is what an earlier connection has left.
            if let Some(former) = directions[place].replace(read) {
                suspects.push((former.key, flow.kind));
            }
        } else {
            suspects.push((*key, flow.kind));
        }
    })?;
    for directions in ended.into_values() {
        if let [Some(inbound), Some(outbound)] = directions {
            let state = State::of(inbound.signs, outbound.signs);
            let seen = inbound.seen.max(outbound.seen);
            if lifetimes.is_over(kind::PASSIVE, state, seen, now)
                && let Some(over) = end_both(table, lifetimes, clock, inbound.key, outbound.key)?
            {
                note_end(pass, over);
                continue;
            }
        }
        let alive = directions.into_iter().flatten();
        suspects.extend(alive.map(|read| (read.key, kind::PASSIVE)));
    }
    // Data connections first: a control connection that is silent meanwhile lives as long as they do.
    suspects.sort_by_key(|(_, kind_of)| *kind_of == kind::CONTROL);
    for (key, _) in suspects {
        // The other direction was a suspect too and is gone with this one.
        let Some(flow) = table.get(&key)? else {
            continue;
        };
        let other_key = key.other_way(&flow);
        let other = table.get(&other_key)?;
        let (inbound, outbound) = if !flow.is_outbound() {
            (key, other_key)
        } else {
            (other_key, key)
        };
        let state = state(&flow, other.as_ref());
        let now = clock.now();
        let last = seen_at(&flow, other.as_ref(), now);
        let is_kept = flow.kind == kind::CONTROL
            && matches!(state, State::Established | State::HalfClosed)
            && pass.alive.transfers.contains(&flow.session);
        if !is_kept
            && lifetimes.is_over(flow.kind, state, last, now)
            && let Some(over) = end_both(table, lifetimes, clock, inbound, outbound)?
        {
            note_end(pass, over);
        } else {
            pass.alive.keep(&key, &flow);
        }
    }
    Ok(())
}

/// A direction of a data connection, as it was read.
#[derive(Clone, Copy)]
struct Read<K> {
    key: K,
    signs: u8,
    /// When its last packet came, in ticks.
    seen: u64,
}

/// The directions of a data connection that have ended, inbound and outbound: most are both read
/// within one pass, and need no further look before they are taken out.
type Directions<K> = [Option<Read<K>>; 2];

/// Counts and tells the end of a connection.
fn note_end(pass: &mut Pass<'_>, (event, ended): (Event, Ended)) {
    if let End::Swept(state) = ended.end {
        pass.report.ended[state as usize] += 1;
    }
    pass.alive.end(&event);
    (pass.publish)(&event, Detail::Ended(ended));
}

fn state(flow: &Flow, other: Option<&Flow>) -> State {
    State::of(signs(flow), other.map_or(0, signs))
}

/// Takes both directions out. The outbound one goes first and the inbound one, which is the lock
/// on the public port, last; if either was used meanwhile, both are put back. Gives what has ended.
pub(super) fn end_both<K: Key>(
    table: &Table<K, Flow>,
    lifetimes: &Lifetimes,
    clock: &Clock,
    inbound: K,
    outbound: K,
) -> io::Result<Option<(Event, Ended)>> {
    let (out_flow, in_flow) = (table.take(&outbound)?, table.take(&inbound)?);
    let Some(flow) = in_flow.as_ref().or(out_flow.as_ref()) else {
        return Ok(None);
    };
    let other = in_flow.as_ref().and(out_flow.as_ref());
    let state = state(flow, other);
    let now = clock.now();
    let last = seen_at(flow, other, now);
    if lifetimes.is_over(flow.kind, state, last, now) {
        let key = if in_flow.is_some() {
            &inbound
        } else {
            &outbound
        };
        let bytes = |flow: &Option<Flow>| flow.map_or(0, |flow| flow.bytes);
        let ended = Ended {
            end: End::Swept(state),
            by_operator: flow.flags & flow_flag::CUT != 0,
            inbound: bytes(&in_flow),
            outbound: bytes(&out_flow),
            payload: match (&in_flow, &out_flow) {
                (Some(inbound), Some(outbound)) if flow.kind != kind::CONTROL => {
                    flow::payload(inbound, outbound)
                }
                _ => [None; 2],
            },
            seconds: clock.between(flow.born, last).as_secs_f64(),
        };
        return Ok(Some((over(key, flow, last), ended)));
    }
    for (key, flow) in [(inbound, in_flow), (outbound, out_flow)] {
        if let Some(flow) = flow {
            table.add(&key, &flow)?;
        }
    }
    Ok(None)
}

/// The event of a connection that has ended. `time` is that of its last packet, in ticks.
fn over<K: Key>(key: &K, flow: &Flow, time: u64) -> Event {
    let (peer, public) = flow::ends(key, flow);
    let other = key.other_way(flow);
    let inside = if !flow.is_outbound() {
        other.source()
    } else {
        key.source()
    };
    Event {
        time,
        what: event::ENDED,
        kind: flow.kind,
        session: flow.session,
        peer,
        inside,
        public,
        born: flow.born,
        ..Event::default()
    }
}
