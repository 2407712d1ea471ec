//! The picture: everything that is known, on whatever size the terminal has.

mod columns;
mod headlines;
mod styles;

use ftp_nat_common::counter::Counter;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Clear, Paragraph, Sparkline},
};

use self::{
    columns::{Column, table, wrapped},
    headlines::headlines,
    styles::{BAD, BOLD, DIM, INWARD, OUTWARD},
};
use super::{
    rates::{Rate, Rates, SMALL_HISTORY},
    sample::{Opening, Session, Transfer},
    state::{Page, State},
};
use crate::{
    cli::Sort,
    output::{human, text::session_name},
};

/// Below this there is nothing to be made out.
const SMALLEST: (u16, u16) = (40, 10);

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, rates: &Rates, state: &State) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("at least {}x{}, please; q quits", SMALLEST.0, SMALLEST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let graph = if area.height >= 30 { 3 } else { 1 };
    let [head, inward, outward, body, foot] = Layout::vertical([
        Constraint::Length(headlines::LINES),
        Constraint::Length(graph),
        Constraint::Length(graph),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(headlines(rates, state)), head);
    let now = rates.now();
    graph_line(frame, inward, "in ", now.inward, INWARD, rates, |rate| {
        rate.inward
    });
    graph_line(frame, outward, "out", now.outward, OUTWARD, rates, |rate| {
        rate.outward
    });
    match state.page {
        Page::Traffic => traffic(frame, body, rates, state),
        Page::Openings => openings(frame, body, rates, state),
        Page::Counters => counters(frame, body, rates, state, |_| true),
    }
    frame.render_widget(Paragraph::new(footer(state)), foot);
    if state.helping {
        help(frame, area);
    }
}

fn rate_text(rate: f64) -> String {
    if rate < 1.0 {
        return "-".into();
    }
    format!("{}/s", human::bytes(rate as u64))
}

fn graph_line(
    frame: &mut Frame<'_>,
    area: Rect,
    label: &str,
    now: f64,
    style: Style,
    rates: &Rates,
    of: impl Fn(&Rate) -> f64,
) {
    let [text, graph] =
        Layout::horizontal([Constraint::Length(15), Constraint::Min(0)]).areas(area);
    let line = Line::from(vec![
        Span::raw(format!("{label} ")),
        Span::styled(
            format!("{:>9}", rate_text(now)),
            style.add_modifier(Modifier::BOLD),
        ),
    ]);
    frame.render_widget(Paragraph::new(line), text);
    let width = usize::from(graph.width);
    let shown = rates.total.len().saturating_sub(width);
    let values: Vec<u64> = rates
        .total
        .iter()
        .skip(shown)
        .map(|rate| of(rate) as u64)
        .collect();
    // The newest at the right edge.
    let padded: Vec<u64> = std::iter::repeat_n(0, width - values.len().min(width))
        .chain(values)
        .collect();
    frame.render_widget(Sparkline::default().data(padded).style(style), graph);
}

/// A state's name in a column; a narrow one has room for seven letters.
fn state_text(state: &str, width: usize) -> String {
    match state {
        "established" if width < 11 => "estab",
        "half_closed" if width < 11 => "closing",
        other => other,
    }
    .to_owned()
}

/// A column of words; the widths are those of an IPv4 and of an IPv6 end.
fn end<'c, T>(
    heading: &'static str,
    rank: u8,
    of: &'c dyn Fn(&T, usize) -> String,
) -> Column<'c, T> {
    Column {
        heading,
        width: (21, 47),
        rank,
        is_number: false,
        style: Style::new(),
        cell: of,
    }
}

fn words<'c, T>(
    heading: &'static str,
    width: (u16, u16),
    rank: u8,
    of: &'c dyn Fn(&T, usize) -> String,
) -> Column<'c, T> {
    Column {
        width,
        ..end(heading, rank, of)
    }
}

fn number<'c, T>(
    heading: &'static str,
    width: u16,
    rank: u8,
    of: &'c dyn Fn(&T, usize) -> String,
) -> Column<'c, T> {
    Column {
        width: (width, width),
        is_number: true,
        ..end(heading, rank, of)
    }
}

fn traffic(frame: &mut Frame<'_>, area: Rect, rates: &Rates, state: &State) {
    let transfers = chosen_transfers(rates, state);
    let sessions = chosen_sessions(rates, state);
    // Sessions get what transfers leave, and never less than a third.
    let wanted = u16::try_from(transfers.len() + 3).unwrap_or(u16::MAX);
    let most = area.height - (area.height / 3).max(4).min(area.height);
    let [upper, lower] = Layout::vertical([
        Constraint::Length(wanted.clamp(4, most.max(4))),
        Constraint::Min(0),
    ])
    .areas(area);
    let all = &rates.sample.transfers;
    let ended = all.iter().filter(|it| !it.is_alive).count();
    let title = titled("TRANSFERS", transfers.len(), all.len(), ended, state);
    table(
        frame,
        upper,
        &title,
        &[
            words("KIND", (7, 7), 0, &|it: &&Transfer, _| it.kind.into()),
            words("STATE", (7, 11), 0, &|it, width| {
                state_text(it.state, width)
            }),
            end("OUTSIDE", 1, &|it, _| it.outside.clone()),
            end("PUBLIC", 5, &|it, _| it.public.clone()),
            end("INSIDE", 2, &|it, _| it.inside.clone()),
            Column {
                style: INWARD,
                ..number("IN/S", 9, 0, &|it, _| rate_text(rates.of(it).inward))
            },
            Column {
                style: OUTWARD,
                ..number("OUT/S", 9, 0, &|it, _| rate_text(rates.of(it).outward))
            },
            number("BYTES", 7, 4, &|it, _| human::bytes(it.inward + it.outward)),
            number("AGE", 6, 4, &|it, _| human::duration(it.age)),
            Column {
                style: OUTWARD,
                ..words("GRAPH", (8, 8), 3, &|it, _| small_graph(rates, it))
            },
            words("SESSION", (8, 8), 6, &|it, _| session_name(it.session)),
        ],
        &transfers,
        state.scrolled,
    );
    let all = &rates.sample.sessions;
    let ended = all.iter().filter(|it| !it.is_alive).count();
    let title = titled("SESSIONS", sessions.len(), all.len(), ended, state);
    table(
        frame,
        lower,
        &title,
        &[
            words("SESSION", (8, 8), 3, &|it: &&Session, _| {
                session_name(it.number)
            }),
            words("STATE", (7, 11), 0, &|it, width| {
                state_text(it.state, width)
            }),
            end("CLIENT", 1, &|it, _| it.client.clone()),
            end("PUBLIC", 5, &|it, _| it.public.clone()),
            end("SERVER", 2, &|it, _| it.server.clone()),
            number("DATA", 4, 0, &|it, _| it.data.to_string()),
            number("BYTES", 7, 4, &|it, _| human::bytes(it.bytes)),
            number("AGE", 6, 0, &|it, _| human::duration(it.age)),
            number("IDLE", 6, 0, &|it, _| human::duration(it.idle)),
        ],
        &sessions,
        state.scrolled,
    );
}

/// A table's title: how many there are, how many of them are shown if a filter leaves some out, and
/// that some are not shown because they have ended.
fn titled(name: &str, shown: usize, all: usize, ended: usize, state: &State) -> String {
    let there = if state.all { all } else { all - ended };
    let mut title = if state.filter.is_empty() {
        format!("{name} {there}")
    } else {
        format!("{name} {shown}/{there}")
    };
    if ended > 0 && !state.all {
        title += &format!(" (and {ended} that ended: a shows them)");
    }
    title
}

fn small_graph(rates: &Rates, transfer: &Transfer) -> String {
    let history: Vec<f64> = rates.history(transfer).map(Rate::sum).collect();
    let most = history.iter().copied().fold(1.0, f64::max);
    let bars: String = history
        .iter()
        .map(|rate| {
            let height = (rate / most * 7.0).round().clamp(0.0, 7.0) as usize;
            BARS[height]
        })
        .collect();
    format!("{bars:>SMALL_HISTORY$}")
}

fn chosen_transfers<'r>(rates: &'r Rates, state: &State) -> Vec<&'r Transfer> {
    let mut chosen: Vec<_> = rates
        .sample
        .transfers
        .iter()
        .filter(|it| state.all || it.is_alive)
        .filter(|it| {
            let number = session_name(it.session);
            state.shows(&[
                &number,
                it.kind,
                it.state,
                &it.outside,
                &it.public,
                &it.inside,
            ])
        })
        .collect();
    chosen.sort_by(|a, b| {
        let order = match state.sort {
            Sort::Rate => rates.of(b).sum().total_cmp(&rates.of(a).sum()),
            Sort::Bytes => (b.inward + b.outward).cmp(&(a.inward + a.outward)),
            Sort::Age => a.age.total_cmp(&b.age),
            Sort::Peer => a.outside.cmp(&b.outside),
        };
        let order = order.then_with(|| a.outside.cmp(&b.outside));
        if state.reversed {
            order.reverse()
        } else {
            order
        }
    });
    chosen
}

fn chosen_sessions<'r>(rates: &'r Rates, state: &State) -> Vec<&'r Session> {
    let mut chosen: Vec<_> = rates
        .sample
        .sessions
        .iter()
        .filter(|it| state.all || it.is_alive)
        .filter(|it| {
            let number = session_name(it.number);
            state.shows(&[&number, it.state, &it.client, &it.public, &it.server])
        })
        .collect();
    chosen.sort_by(|a, b| {
        let order = match state.sort {
            // The busy ones first.
            Sort::Rate | Sort::Bytes => b.data.cmp(&a.data).then(a.idle.total_cmp(&b.idle)),
            Sort::Age => a.age.total_cmp(&b.age),
            Sort::Peer => a.client.cmp(&b.client),
        };
        let order = order.then_with(|| a.client.cmp(&b.client));
        if state.reversed {
            order.reverse()
        } else {
            order
        }
    });
    chosen
}

fn openings(frame: &mut Frame<'_>, area: Rect, rates: &Rates, state: &State) {
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let mut chosen: Vec<_> = rates
        .sample
        .openings
        .iter()
        .filter(|it| state.shows(&[it.kind, &it.peer, &it.public, &it.inside]))
        .collect();
    chosen.sort_by(|a, b| a.left.total_cmp(&b.left));
    if state.reversed {
        chosen.reverse();
    }
    let all = rates.sample.openings.len();
    let title = titled("WAITING", chosen.len(), all, 0, state);
    table(
        frame,
        upper,
        &title,
        &[
            words("KIND", (7, 7), 0, &|it: &&Opening, _| it.kind.into()),
            end("PEER", 1, &|it, _| it.peer.clone()),
            end("PUBLIC", 2, &|it, _| it.public.clone()),
            end("INSIDE", 3, &|it, _| it.inside.clone()),
            number("LEFT", 6, 0, &|it, _| human::duration(it.left)),
        ],
        &chosen,
        state.scrolled,
    );
    counters(frame, lower, rates, state, |counter| {
        matches!(
            counter.description().family,
            "denied" | "mappings_opened" | "mappings_used"
        )
    });
}

fn counters(
    frame: &mut Frame<'_>,
    area: Rect,
    rates: &Rates,
    state: &State,
    wanted: impl Fn(Counter) -> bool,
) {
    let chosen: Vec<_> = Counter::ALL
        .iter()
        .zip(&rates.sample.counts)
        .enumerate()
        .filter(|(_, (counter, count))| {
            let it = counter.description();
            count.packets > 0 && wanted(**counter) && state.shows(&[it.family, it.value, it.help])
        })
        .collect();
    // In full, however large: a number that is cut is another number.
    let widest = chosen
        .iter()
        .map(|(_, (_, count))| human::count(count.packets).len())
        .fold(7, usize::max);
    let room = usize::from(area.width).saturating_sub(widest + 1 + 10 + 1);
    let mut lines = Vec::new();
    for (place, (counter, count)) in chosen {
        let rate = rates.count(place);
        let rate = if rate < 0.05 {
            "-".to_owned()
        } else {
            format!("{rate:.1}")
        };
        let numbers = [human::count(count.packets), rate];
        for (at, text) in wrapped(counter.description().help, room)
            .into_iter()
            .enumerate()
        {
            let [count, rate] = if at == 0 {
                numbers.clone()
            } else {
                Default::default()
            };
            lines.push([count, rate, text]);
        }
    }
    table(
        frame,
        area,
        "",
        &[
            number("COUNT", widest as u16, 0, &|it: &[String; 3], _| {
                it[0].clone()
            }),
            number("/S", 10, 0, &|it, _| it[1].clone()),
            words("WHAT", (20, 500), 0, &|it, _| it[2].clone()),
        ],
        &lines,
        state.scrolled,
    );
}

fn footer(state: &State) -> Line<'static> {
    if state.typing {
        return Line::from(vec![
            Span::styled("filter: ", BOLD),
            Span::raw(format!("{}▏", state.filter)),
            Span::styled("  Enter keeps it, Esc clears it", DIM),
        ]);
    }
    if let Some(trouble) = &state.trouble {
        return Line::styled(trouble.clone(), BAD);
    }
    let mut spans = vec![
        Span::styled("q", BOLD),
        Span::raw(" quit  "),
        Span::styled("p", BOLD),
        Span::raw(" pause  "),
        Span::styled("s", BOLD),
        Span::raw(format!(
            " sort: {}{}  ",
            state.sort.name(),
            if state.reversed { " (reversed)" } else { "" }
        )),
        Span::styled("Tab", BOLD),
        Span::raw(format!(" {}  ", state.page.name())),
        Span::styled("/", BOLD),
    ];
    spans.push(if state.filter.is_empty() {
        Span::raw(" filter  ")
    } else {
        Span::styled(format!(" filter: {}  ", state.filter), OUTWARD)
    });
    spans.push(Span::styled("?", BOLD));
    spans.push(Span::raw(" help"));
    Line::from(spans)
}

const HELP: [(&str, &str); 12] = [
    ("q  Ctrl-C", "quit"),
    ("p  Space", "pause, and go on"),
    ("Tab  1 2 3", "traffic, openings and denials, counters"),
    ("s", "sort by rate, bytes, age, peer"),
    ("r", "turn the order round"),
    ("a", "show those too that have ended, or not"),
    ("/", "show only what contains a text"),
    ("Esc", "clear the filter"),
    ("+  -", "look less often, or more often"),
    ("arrows  PgUp PgDn", "scroll"),
    ("", ""),
    ("IN, OUT", "from the WAN inwards, from the inside out"),
];

fn help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (64.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<_> = HELP
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![
                Span::styled(format!(" {keys:<18} "), BOLD),
                Span::raw(*what),
            ])
        })
        .collect();
    frame.render_widget(Clear, place);
    let block = Block::new()
        .borders(Borders::ALL)
        .title(" keys: any of them closes this ");
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::rates::tests::sample;
    use ratatui::{Terminal, backend::TestBackend};
    use std::time::{Duration, Instant};

    fn picture(width: u16, height: u16, state: &State) -> String {
        let start = Instant::now();
        let mut rates = Rates::new(sample(start, 0));
        rates.add(sample(start + Duration::from_secs(1), 2_000_000));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &rates, state)).unwrap();
        terminal.backend().to_string()
    }

    fn state() -> State {
        State::new(Duration::from_secs(1), Sort::Rate, String::new())
    }

    #[test]
    fn a_transfer_and_its_rate_fit_the_smallest_usual_terminal() {
        let picture = picture(80, 24, &state());
        for words in [
            "ftp-nat top  wan: daemon 7",
            "denied 0 (0.0/s)  no room 0  lost 0  fullest 81 %: sessions",
            "opened 2 000 (2000.0/s)",
            "out  2.0 MB/s",
            "TRANSFERS 1",
            "passive estab    198.51.100.20:40000   10.0.0.5:50000                -  2.0 MB/s",
            "SESSIONS 0",
            "q quit",
        ] {
            assert!(picture.contains(words), "{words:?} is not in\n{picture}");
        }
    }

    #[test]
    fn a_wide_terminal_is_made_use_of() {
        let picture = picture(160, 50, &state());
        let row = "passive established 198.51.100.20:40000";
        let row = picture.lines().find(|line| line.contains(row)).unwrap();
        for words in [
            "198.51.100.1:50000",
            "2.0 MB/s",
            "2.0 MB",
            "3.0s",
            "█",
            "000000ab",
        ] {
            assert!(row.contains(words), "{words:?} is not in\n{picture}");
        }
    }

    #[test]
    fn what_goes_wrong_is_never_cut() {
        let mut rates = Rates::new(sample(Instant::now(), 0));
        for (counter, count) in [
            (Counter::DeniedUnannounced, 123_456_789),
            (Counter::DeniedNoRoom, 98_765_432),
            (Counter::EventsLost, 1_234_567),
        ] {
            rates.sample.counts[counter as usize].packets = count;
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut state = state();
        let mut draw = |state: &State| {
            terminal.draw(|frame| draw(frame, &rates, state)).unwrap();
            terminal.backend().to_string()
        };
        let picture = draw(&state);
        let words =
            "denied 222 222 221 (0.0/s)  no room 98 765 432  lost 1 234 567  fullest 81 %: se";
        assert!(picture.contains(words), "{words:?} is not in\n{picture}");
        // Counters in full, and all that they mean.
        state.page = Page::Counters;
        let picture = draw(&state);
        for words in [
            "123 456 789          - Not translated",
            "announced to that peer",
        ] {
            assert!(picture.contains(words), "{words:?} is not in\n{picture}");
        }
    }

    #[test]
    fn what_has_ended_is_shown_when_it_is_asked_for() {
        let mut ended = sample(Instant::now(), 0);
        ended.transfers[0].is_alive = false;
        let rates = Rates::new(ended);
        let mut state = state();
        for (all, title) in [
            (false, "TRANSFERS 0 (and 1 that ended: a shows them)"),
            (true, "TRANSFERS 1 "),
        ] {
            state.all = all;
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &rates, &state)).unwrap();
            let picture = terminal.backend().to_string();
            assert!(picture.contains(title), "{title:?} is not in\n{picture}");
            assert_eq!(picture.contains("198.51.100.20:40000"), all, "{picture}");
        }
    }

    #[test]
    fn every_page_is_drawn_on_every_size() {
        for page in Page::ALL {
            for helping in [false, true] {
                let mut state = state();
                (state.page, state.helping, state.scrolled) = (page, helping, 3);
                for (width, height) in [(1, 1), (40, 10), (41, 11), (80, 24), (200, 60)] {
                    picture(width, height, &state);
                }
            }
        }
        assert!(picture(30, 9, &state()).contains("at least 40x10"));
    }

    #[test]
    fn what_the_filter_does_not_contain_is_left_out() {
        let mut filtered = state();
        filtered.filter = "192.0.2.".into();
        let picture = picture(80, 24, &filtered);
        assert!(picture.contains("TRANSFERS 0/1") && !picture.contains("198.51.100.20"));
    }
}
