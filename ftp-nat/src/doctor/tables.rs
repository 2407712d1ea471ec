//! How full the tables are, and who fills them.

use std::collections::HashMap;

use ftp_nat_common::{counter::Counter, wire::addr::Addr};

use super::{finding::Findings, subject::Subject};
use crate::{
    client::{connections, sessions, view::Loaded},
    model::mapping,
    output::human,
};

/// From this share on a table is called nearly full, in percent.
const NEARLY: u64 = 80;

/// Clients that are named.
const NAMED: usize = 3;

pub(super) fn check(subject: &Subject, findings: &mut Findings) {
    let Some(loaded) = &subject.loaded else {
        return;
    };
    if let Err(error) = look(loaded, findings) {
        findings.unread("the tables", &error);
    }
}

fn look(loaded: &Loaded, findings: &mut Findings) -> anyhow::Result<()> {
    let maps = &loaded.maps;
    let (v4, v6) = ("connections (IPv4)", "connections (IPv6)");
    let tables = [
        (
            "sessions",
            "sessions",
            maps.sessions.count()?,
            maps.sessions.room()?,
        ),
        (
            "mappings",
            "mappings",
            maps.mappings.count()?,
            maps.mappings.room()?,
        ),
        (v4, "connections", maps.flows4.count()?, maps.flows4.room()?),
        (v6, "connections", maps.flows6.count()?, maps.flows6.room()?),
    ];
    for (what, option, count, room) in tables {
        let (count, room) = (count as u64, u64::from(room));
        if count * 100 < room * NEARLY {
            continue;
        }
        let whose = match what {
            "sessions" => of_sessions(loaded)?,
            "mappings" => of_mappings(loaded)?,
            _ => of_connections(loaded, what == v4)?,
        };
        findings.warning(
            "table-nearly-full",
            None,
            format!(
                "the table of {what} is {} % full ({} of {}); most are of {}",
                count * 100 / room.max(1),
                human::count(count),
                human::count(room),
                most(whose)
            ),
            format!(
                "give it more room: --max-{option}, or [limits] {option}; or, if these are not \
                 clients that you know, keep them out"
            ),
        );
    }
    let counts = maps.counters()?;
    let full: u64 = [Counter::PassedMapFull, Counter::DeniedNoRoom]
        .iter()
        .filter_map(|counter| counts.get(*counter as usize))
        .map(|it| it.packets)
        .sum();
    if full > 0 {
        findings.warning(
            "table-was-full",
            None,
            format!("{full} times there was no room for another session, connection or mapping"),
            "give the tables more room: --max-sessions, --max-connections, --max-mappings",
        );
    }
    Ok(())
}

/// How many entries each client has.
type Whose = HashMap<Addr, u64>;

fn of_sessions(loaded: &Loaded) -> anyhow::Result<Whose> {
    let mut whose = Whose::new();
    for it in sessions::with(loaded, &[], 0)? {
        *whose.entry(it.client().addr).or_default() += 1;
    }
    Ok(whose)
}

fn of_mappings(loaded: &Loaded) -> anyhow::Result<Whose> {
    let mut whose = Whose::new();
    loaded.maps.mappings.each(|key, mapping| {
        let [peer, _, _] = mapping::ends(key, mapping);
        *whose.entry(peer.addr).or_default() += 1;
    })?;
    Ok(whose)
}

fn of_connections(loaded: &Loaded, v4: bool) -> anyhow::Result<Whose> {
    let mut whose = Whose::new();
    for it in connections::of(&loaded.maps)? {
        if it.outside.addr.is_v4() == v4 {
            *whose.entry(it.outside.addr).or_default() += 1;
        }
    }
    Ok(whose)
}

/// Those that have most, with how many.
fn most(whose: Whose) -> String {
    let mut whose: Vec<_> = whose.into_iter().collect();
    whose.sort_by_key(|(addr, count)| (std::cmp::Reverse(*count), addr.0));
    let named: Vec<_> = whose
        .iter()
        .take(NAMED)
        .map(|(addr, count)| {
            let who = if addr.is_none() {
                "anybody".to_owned()
            } else {
                addr.to_string()
            };
            format!("{who} ({})", human::count(*count))
        })
        .collect();
    named.join(", ")
}
