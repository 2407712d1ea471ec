//! The first lines: whose gateway, what goes wrong, how much is alive.

use ftp_nat_common::counter::Counter;
use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::styles::{BAD, BOLD, DIM, HEADING};
use crate::{
    cluster::status::Status,
    commands::top::{rates::Rates, state::State},
    output::human,
};

/// A table that is as full as this, in parts of a hundred, is in danger.
const NEARLY_FULL: u64 = 80;

/// How many there are.
pub(super) const LINES: u16 = 3;

/// What goes wrong stands in front of what only counts: on a narrow terminal the latter is cut.
pub(super) fn headlines(rates: &Rates, state: &State) -> Vec<Line<'static>> {
    vec![gateways(rates, state), troubles(rates), amounts(rates)]
}

fn gateways(rates: &Rates, state: &State) -> Line<'static> {
    let mut line = vec![Span::styled("ftp-nat top", BOLD)];
    for (name, daemon) in &rates.sample.gateways {
        line.push(Span::raw(format!("  {name}: ")));
        line.push(match daemon {
            Some(pid) => Span::raw(format!("daemon {pid}")),
            None => Span::styled("no daemon", BAD),
        });
    }
    line.extend(rates.sample.clusters.iter().map(fleet));
    line.push(Span::styled(
        format!("  every {:.1} s", state.interval().as_secs_f64()),
        DIM,
    ));
    if state.is_paused() {
        line.push(Span::styled("  PAUSED", HEADING));
    }
    Line::from(line)
}

/// A gateway's cluster: whether it could take over now, and from whom.
fn fleet(status: &Status) -> Span<'static> {
    let alive = status.peers.iter().filter(|it| it.is_alive).count();
    let others = status.peers.len();
    let (state, is_well) = match (status.is_connected, status.is_ready) {
        (false, _) => ("no engine", false),
        (true, false) => ("not ready", false),
        (true, true) => ("ready", alive > 0),
    };
    let delay = if status.delays > 0 {
        format!(", {:.1} ms", status.delay_median * 1000.0)
    } else {
        String::new()
    };
    Span::styled(
        format!(
            "  cluster {}: {state}, {alive} of {others} others{delay}",
            status.name
        ),
        if is_well { Style::new() } else { BAD },
    )
}

/// A family's sum, and how much comes a second.
fn sum(rates: &Rates, family: &str) -> (u64, f64) {
    let places = Counter::ALL.iter().enumerate();
    let its = places.filter(|(_, counter)| counter.description().family == family);
    let a_second = its.map(|(place, _)| rates.count(place)).sum();
    (rates.sample.family(family).packets, a_second)
}

fn troubles(rates: &Rates) -> Line<'static> {
    let sample = &rates.sample;
    let bad_if = |is_bad| if is_bad { BAD } else { Style::new() };
    let (denied, denied_rate) = sum(rates, "denied");
    let count = |counter: Counter| {
        sample
            .counts
            .get(counter as usize)
            .map_or(0, |it| it.packets)
    };
    let no_room = count(Counter::DeniedNoRoom) + count(Counter::PassedMapFull);
    let lost = count(Counter::EventsLost);
    let fullest = sample.fullest();
    let mut line = vec![
        Span::styled(
            format!("denied {} ({denied_rate:.1}/s)", human::count(denied)),
            bad_if(denied_rate > 0.0),
        ),
        Span::styled(
            format!("  no room {}", human::count(no_room)),
            bad_if(no_room > 0),
        ),
        Span::styled(format!("  lost {}", human::count(lost)), bad_if(lost > 0)),
    ];
    if let Some(table) = fullest {
        let percent = table.count * 100 / table.room.max(1);
        line.push(Span::styled(
            format!("  fullest {percent} %: {}", table.name),
            bad_if(percent >= NEARLY_FULL),
        ));
    }
    Line::from(line)
}

fn amounts(rates: &Rates) -> Line<'static> {
    let sample = &rates.sample;
    let (opened, opened_rate) = sum(rates, "mappings_opened");
    let (used, _) = sum(rates, "mappings_used");
    Line::raw(format!(
        "sessions {}  connections {} of {}  opened {} ({opened_rate:.1}/s)  used {}",
        sample.sessions.iter().filter(|it| it.is_alive).count(),
        human::count(sample.connections.0),
        human::count(sample.connections.1),
        human::count(opened),
        human::count(used),
    ))
}
