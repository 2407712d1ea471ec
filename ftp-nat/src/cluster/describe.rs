//! From the tables to records: what there is to tell of an event, and of everything.

use std::io;

use ftp_nat_common::{
    abi::{
        Direction, Event, Flow, FlowKey as _, FlowKey4, FlowKey6, Mapping, MappingKey, REVERSED,
        Session, event, flow_flag, kind, session_flag, side,
    },
    edit::{edits::REMEMBERED, text::TEXT_MAX},
    wire::addr::{Addr, Endpoint},
};

use super::record::{
    ConnectionRecord, DirectionRecord, EditRecord, End, MappingRecord, Record, SessionRecord,
};
use crate::{
    datapath::maps::Maps,
    kernel::{clock::Clock, table::Table},
    model::flow::Key,
};

/// Whether others must know of an event. What was written anew when it was opened is told with that.
pub fn is_told_of(event: &Event) -> bool {
    match event.what {
        event::SESSION
        | event::OPENED
        | event::USED
        | event::ENCRYPTED
        | event::CLEARED
        | event::EXPIRED
        | event::ENDED => true,
        event::REWRITTEN => event.also == 0,
        _ => false,
    }
}

/// What others must know of an event: what it is about, as the tables have it now.
///
/// # Errors
///
/// Those of [`Table::get`].
pub fn event(maps: &Maps, clock: &Clock, event: &Event) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    match event.what {
        event::SESSION => {
            records.extend(session(maps, clock, event.session)?);
            records.extend(connection(maps, clock, event)?);
        }
        event::OPENED => {
            records.extend(mapping(maps, clock, event)?);
            records.extend(session(maps, clock, event.session)?);
        }
        event::USED => records.extend(connection(maps, clock, event)?),
        event::REWRITTEN | event::ENCRYPTED | event::CLEARED => {
            records.extend(session(maps, clock, event.session)?);
        }
        event::EXPIRED => records.push(Record::MappingEnded(expired(event))),
        event::ENDED => {
            records.push(Record::ConnectionEnded(ended(clock, event)));
            if event.kind == kind::CONTROL {
                records.push(Record::SessionEnded {
                    session: event.session,
                });
            }
        }
        _ => {}
    }
    Ok(records)
}

/// Shows everything that there is to tell, sessions before what belongs to them.
///
/// # Errors
///
/// Those of [`Table::each`].
pub fn everything(maps: &Maps, clock: &Clock, show: &mut dyn FnMut(Record)) -> io::Result<()> {
    let now = clock.now();
    maps.sessions.each(|number, session| {
        if is_told(session) {
            show(describe_session(clock, now, *number, session));
        }
    })?;
    maps.mappings.each(|key, mapping| {
        if key.side & REVERSED == 0 {
            show(describe_mapping(clock, now, key, mapping));
        }
    })?;
    connections(&maps.flows4, clock, now, show)?;
    connections(&maps.flows6, clock, now, show)
}

fn connections<K: Key>(
    table: &Table<K, Flow>,
    clock: &Clock,
    now: u64,
    show: &mut dyn FnMut(Record),
) -> io::Result<()> {
    table.each(|key, flow| {
        // One entry of the two has all of it.
        if flow.side() == side::INBOUND && flow.flags & flow_flag::CUT == 0 {
            show(Record::Connection(describe_connection(
                clock, now, key, flow,
            )));
        }
    })
}

fn session(maps: &Maps, clock: &Clock, number: u32) -> io::Result<Option<Record>> {
    let session = maps.sessions.get(&number)?.filter(is_told);
    Ok(session.map(|session| describe_session(clock, clock.now(), number, &session)))
}

/// Whether others could go on with a session: where its client is not hidden from the server, nor behind
/// this gateway too.
fn is_told(session: &Session) -> bool {
    session.alias == session.outside && session.flags & session_flag::HAIRPIN == 0
}

fn describe_session(clock: &Clock, now: u64, number: u32, session: &Session) -> Record {
    Record::Session(Box::new(SessionRecord {
        session: number,
        role: session.role,
        inside: session.inside.into(),
        outside: session.outside.into(),
        public: session.public.into(),
        age: millis(clock, session.born, now),
        encrypted: session.answered.encrypted,
        commands: direction(&session.commands),
        replies: direction(&session.replies),
    }))
}

fn direction(direction: &Direction) -> DirectionRecord {
    let edits = &direction.edits;
    let latest = (0..REMEMBERED as u32).filter_map(|age| edits.recent(age));
    let mut edits_told: Vec<_> = latest
        .map(|edit| {
            let from = edit.from as usize & (TEXT_MAX - 1);
            let to = (from + usize::from(edit.new_len)).min(TEXT_MAX);
            EditRecord {
                start: edit.start,
                before: edit.before,
                old_len: edit.old_len,
                text: edit.text[from..to].to_vec(),
            }
        })
        .collect();
    edits_told.reverse();
    DirectionRecord {
        isn: direction.isn,
        seen: direction.seen,
        acked: direction.acked,
        end: direction.end,
        window: direction.window,
        scale: direction.scale,
        cleared: direction.cleared,
        count: edits.count,
        adjusted: edits.adjusted,
        growth: edits.growth,
        edits: edits_told,
    }
}

/// The connection that an event names by its outside and public ends.
fn connection(maps: &Maps, clock: &Clock, event: &Event) -> io::Result<Option<Record>> {
    let now = clock.now();
    let (outside, public) = (&event.peer, &event.public);
    let record = if public.addr.is_v4() {
        let key = FlowKey4::new(outside, public);
        let flow = maps.flows4.get(&key)?;
        flow.map(|flow| describe_connection(clock, now, &key, &flow))
    } else {
        let key = FlowKey6::new(outside, public);
        let flow = maps.flows6.get(&key)?;
        flow.map(|flow| describe_connection(clock, now, &key, &flow))
    };
    Ok(record.map(Record::Connection))
}

/// `flow` is the inbound one.
fn describe_connection<K: Key>(clock: &Clock, now: u64, key: &K, flow: &Flow) -> ConnectionRecord {
    let (outside, seen) = (key.source(), flow.source());
    ConnectionRecord {
        session: flow.session,
        kind: flow.kind,
        is_untranslated: flow.flags & flow_flag::NO_NAT != 0,
        outside: outside.into(),
        public: key.destination().into(),
        seen: (seen != outside).then(|| seen.into()),
        inside: flow.destination().into(),
        age: millis(clock, flow.born, now),
        silent: millis(clock, flow.seen_at(now), now),
    }
}

fn ended(clock: &Clock, event: &Event) -> ConnectionRecord {
    ConnectionRecord {
        session: event.session,
        kind: event.kind,
        is_untranslated: false,
        outside: event.peer.into(),
        public: event.public.into(),
        seen: None,
        inside: event.inside.into(),
        age: if event.born == 0 {
            0
        } else {
            millis(clock, event.born, clock.now())
        },
        silent: 0,
    }
}

/// The mapping that an event tells of.
fn mapping(maps: &Maps, clock: &Clock, event: &Event) -> io::Result<Option<Record>> {
    for key in mapping_keys(event) {
        if let Some(mapping) = maps.mappings.get(&key)? {
            let now = clock.now();
            return Ok(Some(describe_mapping(clock, now, &key, &mapping)));
        }
    }
    Ok(None)
}

/// The keys that the mapping of an event may have.
fn mapping_keys(event: &Event) -> Vec<MappingKey> {
    let is_outward = event.kind == kind::ACTIVE && event.inside.port.number() == 0;
    if is_outward {
        return vec![key(&event.inside.addr, &event.peer, side::OUTBOUND)];
    }
    vec![
        key(&event.peer.addr, &event.public, side::INBOUND),
        key(&Addr::default(), &event.public, side::INBOUND),
    ]
}

/// A mapping's key.
pub fn key(src: &Addr, to: &Endpoint, side: u32) -> MappingKey {
    MappingKey {
        src: *src,
        dst: to.addr,
        dport: to.port,
        pad: 0,
        side,
    }
}

fn describe_mapping(clock: &Clock, now: u64, key: &MappingKey, mapping: &Mapping) -> Record {
    let end = |addr: Addr, port| End {
        ip: addr.to_ip(),
        port,
    };
    let is_outward = key.side & !REVERSED == side::OUTBOUND;
    let destination: End = Endpoint::new(key.dst, key.dport).into();
    let (outside, public, inside) = if is_outward {
        (Some(destination), mapping.to.into(), end(key.src, 0))
    } else {
        let anybody = key.src == Addr::default();
        let outside = (!anybody).then(|| end(key.src, 0));
        (outside, destination, mapping.to.into())
    };
    Record::Mapping(MappingRecord {
        session: mapping.session,
        kind: mapping.kind,
        cause: mapping.cause,
        is_outward,
        outside,
        public,
        inside,
        left: millis(clock, now, mapping.expires),
    })
}

fn expired(event: &Event) -> MappingRecord {
    let is_outward = event.kind == kind::ACTIVE && event.inside.port.number() == 0;
    let anybody = event.peer.addr == Addr::default();
    MappingRecord {
        session: event.session,
        kind: event.kind,
        cause: event.cause,
        is_outward,
        outside: (!anybody).then(|| event.peer.into()),
        public: event.public.into(),
        inside: event.inside.into(),
        left: 0,
    }
}

fn millis(clock: &Clock, then: u64, now: u64) -> u64 {
    u64::try_from(clock.between(then, now).as_millis()).unwrap_or(u64::MAX)
}
