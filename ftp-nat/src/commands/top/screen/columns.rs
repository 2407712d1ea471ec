//! Tables whose columns are as many as fit, and as wide as they need.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table},
};

use super::styles::{BOLD, HEADING};

/// A column of a table of `T`.
pub(super) struct Column<'c, T> {
    pub heading: &'static str,
    /// The width that it needs at least, and that it makes use of at most.
    pub width: (u16, u16),
    /// Columns with smaller numbers are there before others, in a narrow table.
    pub rank: u8,
    pub is_number: bool,
    pub style: Style,
    /// What stands there, for a column of this width. What is longer loses its middle.
    pub cell: &'c dyn Fn(&T, usize) -> String,
}

/// The widths of the columns in a table of this width; 0: there is no room for it.
fn widths(columns: &[(u8, (u16, u16))], width: u16) -> Vec<u16> {
    let mut widths = vec![0; columns.len()];
    let mut order: Vec<_> = (0..columns.len()).collect();
    order.sort_by_key(|at| columns[*at].0);
    let mut left = width;
    for at in &order {
        let (_, (least, _)) = columns[*at];
        let gap = u16::from(left != width);
        if least + gap > left {
            break;
        }
        widths[*at] = least;
        left -= least + gap;
    }
    for at in order {
        if widths[at] > 0 {
            let (_, (least, most)) = columns[at];
            let more = left.min(most.saturating_sub(least));
            widths[at] += more;
            left -= more;
        }
    }
    widths
}

/// Draws a table under a title, without the rows that are scrolled away.
pub(super) fn table<T>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    columns: &[Column<'_, T>],
    things: &[T],
    scrolled: usize,
) {
    let [title_area, head, body] = Layout::vertical([
        Constraint::Length(u16::from(!title.is_empty())),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(Span::styled(title, BOLD)), title_area);
    let sizes: Vec<_> = columns.iter().map(|it| (it.rank, it.width)).collect();
    let shown: Vec<_> = columns
        .iter()
        .zip(widths(&sizes, area.width))
        .filter(|(_, width)| *width > 0)
        .collect();
    let heading: Vec<_> = shown
        .iter()
        .map(|(column, width)| {
            let (text, width) = (column.heading, usize::from(*width));
            if column.is_number {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        })
        .collect();
    let heading = format!(
        "{:<width$}",
        heading.join(" "),
        width = usize::from(head.width)
    );
    frame.render_widget(Paragraph::new(Span::styled(heading, HEADING)), head);
    let rows = things.iter().skip(scrolled).take(body.height.into());
    let rows = rows.map(|thing| {
        let cells = shown.iter().map(|(column, width)| {
            let width = usize::from(*width);
            let line = Line::styled(fitting(&(column.cell)(thing, width), width), column.style);
            Cell::from(if column.is_number {
                line.alignment(Alignment::Right)
            } else {
                line
            })
        });
        Row::new(cells.collect::<Vec<_>>())
    });
    let widths = shown.iter().map(|(_, width)| Constraint::Length(*width));
    frame.render_widget(Table::new(rows, widths).column_spacing(1), body);
}

/// A long IPv6 address loses its middle.
fn fitting(text: &str, width: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= width || width < 3 {
        return text.to_owned();
    }
    let (front, back) = ((width - 1) / 2, width - 1 - (width - 1) / 2);
    let front: String = letters[..front].iter().collect();
    let back: String = letters[letters.len() - back..].iter().collect();
    format!("{front}…{back}")
}

/// A text in lines of at most this width, broken at blanks.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn important_columns_come_first_and_the_rest_of_the_room_is_used() {
        let columns = [(1, (10, 20)), (0, (7, 7)), (2, (5, 9))];
        for (width, expected) in [
            (6, [0, 0, 0]),
            (17, [0, 7, 0]),
            (18, [10, 7, 0]),
            (24, [10, 7, 5]),
            (30, [16, 7, 5]),
            (60, [20, 7, 9]),
        ] {
            assert_eq!(widths(&columns, width), expected, "{width}");
        }
    }

    #[test]
    fn a_long_address_loses_its_middle() {
        assert_eq!(fitting("10.0.0.5:21", 21), "10.0.0.5:21");
        let text = fitting("[2001:db8:1234:5678:9abc:def0:1:2]:50000", 21);
        assert_eq!(text, "[2001:db8:…1:2]:50000");
        assert_eq!(text.chars().count(), 21);
    }

    #[test]
    fn a_long_text_goes_on_in_the_next_line() {
        assert_eq!(
            wrapped("passed as they were", 9),
            ["passed as", "they were"]
        );
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
    }
}
