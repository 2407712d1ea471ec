//! What the maps tell, daemon or not.

use anyhow::Context as _;
use ftp_nat_common::{
    abi::{Flow, LAYOUT, kind},
    counter::Counter,
};

use super::{
    family::{Family, Kind},
    pools,
};
use crate::{
    datapath::{maps::Maps, shares::most_refused},
    kernel::table::Table,
    model::flow::{Key, State, kind_name, signs},
};

/// What those families of [`Counter`] mean as a whole that have several members; the others mean
/// what their one member does.
const FAMILIES: [(&str, &str); 11] = [
    ("inbound", "Translated on the way in, by how they went on"),
    ("outbound", "Translated on the way out, by how they went on"),
    (
        "mappings_opened",
        "Data connections announced and let through, by who opens them",
    ),
    (
        "mappings_used",
        "Announced data connections that came, by who opened them",
    ),
    (
        "rewritten",
        "Announcements in control connections, by what they were in",
    ),
    (
        "edits",
        "Rewritten texts, by whether they kept their length",
    ),
    (
        "lines",
        "Unfinished lines and missing segments of control connections, by what was done",
    ),
    (
        "icmp_errors",
        "ICMP errors about connections translated, by which way they went",
    ),
    ("passed", "Passed as they were, by why"),
    ("dropped", "Dropped, by why"),
    ("denied", "Not let through or not translated, by why"),
];

/// All that can be told from the pins, daemon or not.
///
/// # Errors
///
/// When a table cannot be read: see [`Table::each`].
pub fn families(maps: &Maps) -> anyhow::Result<Vec<Family>> {
    let mut families = vec![
        Family::new(
            "build_info",
            Kind::Gauge,
            "The version that tells this; always 1",
        )
        .with(
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("layout", &LAYOUT.to_string()),
            ],
            1.0,
        ),
    ];
    families.extend(counters(maps)?);
    families.extend(alive(maps)?);
    families.extend(refusals(maps)?);
    families.extend(pools::families(maps)?);
    Ok(families)
}

fn counters(maps: &Maps) -> anyhow::Result<Vec<Family>> {
    let counts = maps.counters()?;
    let mut families: Vec<Family> = Vec::new();
    for name in family_names() {
        let members: Vec<_> = Counter::ALL
            .iter()
            .map(|counter| (counter.description(), counts.get(*counter as usize)))
            .filter(|(description, _)| description.family == name)
            .collect();
        let help = family_help(name);
        // Where some members count bytes, the others' number is still one of packets.
        let has_bytes = members.iter().any(|(description, _)| description.bytes);
        let suffix = if has_bytes { "_packets" } else { "" };
        let mut packets = Family::new(&format!("{name}{suffix}_total"), Kind::Counter, help);
        let mut bytes = Family::new(
            &format!("{name}_bytes_total"),
            Kind::Counter,
            &format!("{help}, in bytes from the IP header on"),
        );
        for (description, count) in members {
            let count = count.copied().unwrap_or_default();
            let labels = [(description.label, description.value)];
            packets.add(&labels, count.packets as f64);
            if description.bytes {
                bytes.add(&labels, count.bytes as f64);
            }
        }
        families.extend(
            [packets, bytes]
                .into_iter()
                .filter(|family| !family.samples.is_empty()),
        );
    }
    Ok(families)
}

/// The families of counters, in the order of their first members.
fn family_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for counter in Counter::ALL {
        let family = counter.description().family;
        if !names.contains(&family) {
            names.push(family);
        }
    }
    names
}

fn family_help(name: &str) -> &'static str {
    let whole = FAMILIES.iter().find(|(family, _)| *family == name);
    whole.map_or_else(|| member_help(name), |(_, help)| help)
}

fn member_help(family: &str) -> &'static str {
    Counter::ALL
        .iter()
        .map(|counter| counter.description())
        .find(|description| description.family == family)
        .map_or("", |description| description.help)
}

/// How many connections are alive, by [`kind`] and [`State`].
type Living = [[u64; State::ALL.len()]; 4];

/// Counts them. A direction that has seen SYN and ACK and nothing else knows by itself that the
/// connection is established, or that the other one knows better; only the others are looked up.
fn connections<K: Key>(table: &Table<K, Flow>) -> anyhow::Result<Living> {
    let mut living = Living::default();
    let mut peculiar = Vec::new();
    table
        .each(|key, flow| {
            if !flow.is_outbound() {
                living[usize::from(flow.kind) % 4][State::Established as usize] += 1;
            }
            if !State::looks_established(signs(flow)) {
                peculiar.push((*key, *flow));
            }
        })
        .context("cannot count the connections")?;
    for (key, flow) in peculiar {
        let other = table
            .get(&key.other_way(&flow))
            .context("cannot count the connections")?;
        // Where both are peculiar, the one that comes in counts.
        let is_counted = other.is_some_and(|other| !State::looks_established(signs(&other)));
        if flow.is_outbound() && is_counted {
            continue;
        }
        let state = State::of(signs(&flow), other.map_or(0, |other| signs(&other)));
        let of_kind = &mut living[usize::from(flow.kind) % 4];
        let established = &mut of_kind[State::Established as usize];
        if *established > 0 {
            *established -= 1;
            of_kind[state as usize] += 1;
        }
    }
    Ok(living)
}

/// How many sessions there are, by the names of their control connections' states.
pub type SessionStates = [(&'static str, u64); State::ALL.len() + 1];

/// Counts the sessions by the states of their control connections; those without one are `gone`.
///
/// # Errors
///
/// When a table cannot be read: see [`Table::each`].
pub fn session_states(maps: &Maps) -> anyhow::Result<SessionStates> {
    let control = [connections(&maps.flows4)?, connections(&maps.flows6)?]
        .map(|counts| counts[usize::from(kind::CONTROL)]);
    let sessions = maps.sessions.count().context("cannot count the sessions")?;
    Ok(by_state_of_control(control, sessions as u64))
}

/// From the control connections over IPv4 and IPv6, by [`State`], and the number of sessions.
fn by_state_of_control(control: [[u64; State::ALL.len()]; 2], sessions: u64) -> SessionStates {
    let mut states = [("gone", 0); State::ALL.len() + 1];
    let mut all = 0;
    for (at, state) in State::ALL.iter().enumerate() {
        let count = control[0][at] + control[1][at];
        states[at] = (state.name(), count);
        all += count;
    }
    states[State::ALL.len()].1 = sessions.saturating_sub(all);
    states
}

fn alive(maps: &Maps) -> anyhow::Result<Vec<Family>> {
    let mut live = Family::new(
        "connections",
        Kind::Gauge,
        "Connections that are known, by address family, kind and state",
    );
    let mut entries = Family::new(
        "map_entries",
        Kind::Gauge,
        "Entries in the datapath's tables",
    );
    let mut room = Family::new(
        "map_max_entries",
        Kind::Gauge,
        "Entries that there is room for in the datapath's tables",
    );
    let flows = [
        (
            "ipv4",
            "flows4",
            connections(&maps.flows4)?,
            maps.flows4.room()?,
        ),
        (
            "ipv6",
            "flows6",
            connections(&maps.flows6)?,
            maps.flows6.room()?,
        ),
    ];
    for &(family, map, counts, most) in &flows {
        for kind in [kind::CONTROL, kind::PASSIVE, kind::ACTIVE] {
            for (state, count) in State::ALL.iter().zip(counts[usize::from(kind)]) {
                let labels = [
                    ("family", family),
                    ("kind", kind_name(kind)),
                    ("state", state.name()),
                ];
                live.add(&labels, count as f64);
            }
        }
        // A connection has two entries, one a direction.
        entries.add(
            &[("map", map)],
            2.0 * counts.iter().flatten().sum::<u64>() as f64,
        );
        room.add(&[("map", map)], most.into());
    }
    let control = flows
        .each_ref()
        .map(|(_, _, counts, _)| counts[usize::from(kind::CONTROL)]);
    let mappings = maps.mappings.count().context("cannot count the mappings")?;
    let sessions = maps.sessions.count().context("cannot count the sessions")?;
    for (map, count, most) in [
        ("mappings", mappings, maps.mappings.room()?),
        ("sessions", sessions, maps.sessions.room()?),
    ] {
        entries.add(&[("map", map)], count as f64);
        room.add(&[("map", map)], most.into());
    }
    let mut by_state = Family::new(
        "sessions",
        Kind::Gauge,
        "Sessions that are known, by the state of their control connections",
    );
    for (state, count) in by_state_of_control(control, sessions as u64) {
        by_state.add(&[("state", state)], count as f64);
    }
    Ok(vec![
        by_state,
        Family::new(
            "mappings",
            Kind::Gauge,
            "Announced data connections that have not come yet",
        )
        .with(&[], mappings as f64),
        live,
        entries,
        room,
    ])
}

/// Clients that are named: a label for every one would be as many as there are addresses.
const NAMED: usize = 10;

/// None while nobody was refused anything: a family has at least one number.
fn refusals(maps: &Maps) -> anyhow::Result<Option<Family>> {
    let mut refused = Family::new(
        "client_refusals",
        Kind::Gauge,
        "SYNs and announcements refused to a client that had its share, of the clients refused most",
    );
    for client in most_refused(maps, NAMED).context("cannot read the clients' shares")? {
        refused.add(&[("client", &client.name())], client.share.refused as f64);
    }
    Ok((!refused.samples.is_empty()).then_some(refused))
}

#[cfg(test)]
mod tests {
    use super::{super::text::text, *};

    #[test]
    fn families_of_several_counters_are_explained_as_a_whole() {
        for name in family_names() {
            let members = Counter::ALL
                .iter()
                .filter(|counter| counter.description().family == name);
            let explained = FAMILIES.iter().any(|(family, _)| *family == name);
            assert_eq!(members.count() > 1, explained, "{name}");
        }
    }

    #[test]
    fn families_become_text_with_help_and_type() {
        let family = Family::new("denied_total", Kind::Counter, "What was denied")
            .with(&[("reason", "bounce")], 3.0)
            .with(&[("", "")], 18_446_744_073_709.0);
        assert_eq!(
            text(&[family]).unwrap(),
            "# HELP ftp_nat_denied_total What was denied\n\
             # TYPE ftp_nat_denied_total counter\n\
             ftp_nat_denied_total{reason=\"bounce\"} 3\n\
             ftp_nat_denied_total 18446744073709\n"
        );
    }
}
