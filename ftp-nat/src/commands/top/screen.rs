//! The picture: everything that is known, on whatever size the terminal has.

use ftp_nat_common::counter::Counter;
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table},
};

use super::{
    rates::{Rate, Rates, SMALL_HISTORY},
    sample::Transfer,
    state::{Page, State},
};
use crate::{cli::Sort, output::human};

/// Below this there is nothing to be made out.
const SMALLEST: (u16, u16) = (40, 10);

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);
const INWARD: Style = Style::new().fg(Color::Cyan);
const OUTWARD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red);
const HEADING: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, rates: &Rates, state: &State) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("at least {}x{}, please; q quits", SMALLEST.0, SMALLEST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let graph = if area.height >= 20 { 2 } else { 1 };
    let [head, inward, outward, body, foot] = Layout::vertical([
        Constraint::Length(2),
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

fn headlines(rates: &Rates, state: &State) -> Vec<Line<'static>> {
    let sample = &rates.sample;
    let mut first = vec![Span::styled("ftp-nat top", BOLD)];
    for (name, daemon) in &sample.gateways {
        first.push(Span::raw(format!("  {name}: ")));
        first.push(match daemon {
            Some(pid) => Span::raw(format!("daemon {pid}")),
            None => Span::styled("no daemon", BAD),
        });
    }
    first.push(Span::styled(
        format!("  every {:.1} s", state.interval().as_secs_f64()),
        DIM,
    ));
    if state.is_paused() {
        first.push(Span::styled("  PAUSED", HEADING));
    }
    let sum = |family: &str| {
        let places = Counter::ALL.iter().enumerate();
        let its = places.filter(|(_, counter)| counter.description().family == family);
        let a_second: f64 = its.map(|(place, _)| rates.count(place)).sum();
        (sample.family(family).packets, a_second)
    };
    let (opened, opened_rate) = sum("mappings_opened");
    let (denied, denied_rate) = sum("denied");
    let (used, _) = sum("mappings_used");
    let denials = format!("denied {} ({denied_rate:.1}/s)", human::count(denied));
    let second = vec![
        Span::raw(format!(
            "sessions {}  connections {} of {}  opened {} ({opened_rate:.1}/s)  used {}  ",
            sample.sessions.len(),
            human::count(sample.connections.0),
            human::count(sample.connections.1),
            human::count(opened),
            human::count(used),
        )),
        Span::styled(denials, if denied_rate > 0.0 { BAD } else { Style::new() }),
    ];
    vec![Line::from(first), Line::from(second)]
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

fn traffic(frame: &mut Frame<'_>, area: Rect, rates: &Rates, state: &State) {
    let transfers = chosen_transfers(rates, state);
    let sessions = chosen_sessions(rates, state);
    // Sessions get what transfers leave, and never less than a third.
    let wanted = u16::try_from(transfers.len() + 2).unwrap_or(u16::MAX);
    let most = area.height - (area.height / 3).max(3).min(area.height);
    let [upper, lower] = Layout::vertical([
        Constraint::Length(wanted.clamp(3, most.max(3))),
        Constraint::Min(0),
    ])
    .areas(area);
    let rows = transfers.iter().skip(state.scrolled).map(|it| {
        let rate = rates.of(it);
        Row::new(vec![
            Cell::from(it.kind),
            Cell::from(fitting(&it.outside, 21)),
            Cell::from(fitting(&it.inside, 21)),
            right(rate_text(rate.inward), INWARD),
            right(rate_text(rate.outward), OUTWARD),
            Cell::from(small_graph(rates, it)),
        ])
    });
    let title = titled(
        "TRANSFERS",
        "OUTSIDE",
        transfers.len(),
        rates.sample.transfers.len(),
        state,
    );
    let widths = [7, 21, 21, 9, 9, 8].map(Constraint::Length);
    let headings = [
        title.as_str(),
        "",
        "INSIDE",
        "     IN/S",
        "    OUT/S",
        "GRAPH",
    ];
    table(frame, upper, headings, widths, rows);

    let rows = sessions.iter().skip(state.scrolled).map(|it| {
        Row::new(vec![
            Cell::from(fitting(&it.client, 21)),
            Cell::from(fitting(&it.server, 21)),
            Cell::from(it.state),
            right(it.data.to_string(), Style::new()),
            right(human::duration(it.age), Style::new()),
            right(human::duration(it.idle), Style::new()),
        ])
    });
    let title = titled(
        "SESSIONS",
        "CLIENT",
        sessions.len(),
        rates.sample.sessions.len(),
        state,
    );
    let widths = [21, 21, 11, 5, 8, 8].map(Constraint::Length);
    let headings = [
        title.as_str(),
        "SERVER",
        "STATE",
        " DATA",
        "     AGE",
        "    IDLE",
    ];
    table(frame, lower, headings, widths, rows);
}

fn table<'r, const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    headings: [&str; N],
    widths: [Constraint; N],
    rows: impl Iterator<Item = Row<'r>>,
) {
    // A title may run over into empty headings, which cells do not: so it is drawn for itself.
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let mut line = String::new();
    let mut end = 0;
    for (heading, width) in headings.iter().zip(widths) {
        let Constraint::Length(width) = width else {
            continue;
        };
        while line.chars().count() < end {
            line.push(' ');
        }
        line.push_str(heading);
        end += usize::from(width) + 1;
    }
    let line = format!("{line:<width$}", width = usize::from(head.width));
    frame.render_widget(Paragraph::new(Span::styled(line, HEADING)), head);
    let rows = rows.take(usize::from(body.height));
    frame.render_widget(Table::new(rows, widths).column_spacing(1), body);
}

fn titled(name: &str, heading: &str, shown: usize, all: usize, state: &State) -> String {
    if state.filter.is_empty() {
        format!("{name} {all}  {heading}")
    } else {
        format!("{name} {shown}/{all}  {heading}")
    }
}

fn right(text: String, style: Style) -> Cell<'static> {
    Cell::from(Line::styled(text, style).alignment(Alignment::Right))
}

/// A long IPv6 address loses its middle.
fn fitting(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width {
        return text.to_owned();
    }
    let (front, back) = ((width - 1) / 2, width - 1 - (width - 1) / 2);
    let front: String = letters[..front].iter().collect();
    let back: String = letters[letters.len() - back..].iter().collect();
    format!("{front}…{back}")
}

fn small_graph(rates: &Rates, transfer: &Transfer) -> Span<'static> {
    let history: Vec<f64> = rates.history(transfer).map(Rate::sum).collect();
    let most = history.iter().copied().fold(1.0, f64::max);
    let bars: String = history
        .iter()
        .map(|rate| {
            let height = (rate / most * 7.0).round().clamp(0.0, 7.0) as usize;
            BARS[height]
        })
        .collect();
    Span::styled(format!("{bars:>SMALL_HISTORY$}"), OUTWARD)
}

fn chosen_transfers<'r>(rates: &'r Rates, state: &State) -> Vec<&'r Transfer> {
    let mut chosen: Vec<_> = rates
        .sample
        .transfers
        .iter()
        .filter(|it| state.shows(&[it.kind, it.state, &it.outside, &it.inside]))
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

fn chosen_sessions<'r>(rates: &'r Rates, state: &State) -> Vec<&'r super::sample::Session> {
    let mut chosen: Vec<_> = rates
        .sample
        .sessions
        .iter()
        .filter(|it| {
            let number = crate::output::text::session_name(it.number);
            state.shows(&[&number, it.state, &it.client, &it.server])
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
    let rows = chosen.iter().skip(state.scrolled).map(|it| {
        Row::new(vec![
            Cell::from(it.kind),
            Cell::from(fitting(&it.peer, 21)),
            Cell::from(fitting(&it.public, 21)),
            Cell::from(fitting(&it.inside, 21)),
            right(human::duration(it.left), Style::new()),
        ])
    });
    let title = titled(
        "WAITING",
        "PEER",
        chosen.len(),
        rates.sample.openings.len(),
        state,
    );
    let widths = [8, 21, 21, 21, 5].map(Constraint::Length);
    let headings = [title.as_str(), "", "PUBLIC", "INSIDE", " LEFT"];
    table(frame, upper, headings, widths, rows);
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
    let rows = Counter::ALL
        .iter()
        .zip(&rates.sample.counts)
        .enumerate()
        .filter(|(_, (counter, count))| {
            let it = counter.description();
            count.packets > 0 && wanted(**counter) && state.shows(&[it.family, it.value, it.help])
        })
        .skip(state.scrolled)
        .map(|(place, (counter, count))| {
            let rate = rates.count(place);
            let rate = if rate < 0.05 {
                "-".to_owned()
            } else {
                format!("{rate:.1}")
            };
            Row::new(vec![
                right(human::count(count.packets), Style::new()),
                right(rate, Style::new()),
                Cell::from(counter.description().help),
            ])
        });
    let widths = [11, 9, 500].map(Constraint::Length);
    table(
        frame,
        area,
        ["      COUNT", "       /S", "WHAT"],
        widths,
        rows,
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

const HELP: [(&str, &str); 11] = [
    ("q  Ctrl-C", "quit"),
    ("p  Space", "pause, and go on"),
    ("Tab  1 2 3", "traffic, openings and denials, counters"),
    ("s", "sort by rate, bytes, age, peer"),
    ("r", "turn the order round"),
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
            "opened 2 000 (2000.0/s)",
            "out  2.0 MB/s",
            "TRANSFERS 1",
            "passive 198.51.100.20:40000   10.0.0.5:50000                -  2.0 MB/s        █",
            "SESSIONS 0",
            "q quit",
        ] {
            assert!(picture.contains(words), "{words:?} is not in\n{picture}");
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

    #[test]
    fn a_long_address_loses_its_middle() {
        assert_eq!(fitting("10.0.0.5:21", 21), "10.0.0.5:21");
        let text = fitting("[2001:db8:1234:5678:9abc:def0:1:2]:50000", 21);
        assert_eq!(text, "[2001:db8:…1:2]:50000");
        assert_eq!(text.chars().count(), 21);
    }
}
