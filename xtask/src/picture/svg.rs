//! A terminal's screen as SVG: text stays text, and blocks are drawn, so that no font leaves gaps.

use std::fmt::Write as _;

/// A cell, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
/// Around all of it.
const MARGIN: f64 = 12.0;
/// From a line's top to its text's foot.
const BASE: f64 = 13.5;

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";

/// The sixteen colours, as a quiet dark theme has them.
const COLOURS: [&str; 16] = [
    "#16181d", "#e06c75", "#7ec07a", "#d9b46c", "#61afef", "#c678dd", "#56b6c2", "#d7dae0",
    "#7f848e", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff",
];

/// Eighths of a cell that are filled, by character.
const BLOCKS: &str = "▁▂▃▄▅▆▇█";

/// How text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    colour: Option<usize>,
    bold: bool,
    reversed: bool,
}

impl Look {
    /// Takes the numbers of an escape sequence (ECMA-48 SGR).
    fn change(&mut self, numbers: &str) {
        let mut numbers = numbers
            .split([';', ':'])
            .map(|it| it.parse::<usize>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.bold = true,
                7 => self.reversed = true,
                22 => self.bold = false,
                27 => self.reversed = false,
                30..=37 => self.colour = Some(number - 30),
                90..=97 => self.colour = Some(number - 90 + 8),
                38 if numbers.next() == Some(5) => {
                    self.colour = numbers.next().filter(|it| *it < COLOURS.len());
                }
                39 => self.colour = None,
                _ => {}
            }
        }
    }

    fn colour(self) -> &'static str {
        self.colour.map_or(FOREGROUND, |it| COLOURS[it])
    }
}

/// Cells of one look, from a column on.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    column: usize,
    text: String,
    look: Look,
}

/// The runs of a line.
fn runs(line: &str, look: &mut Look) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut column = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            // Colours end in `m`; anything else is left out.
            let sequence: String = letters
                .by_ref()
                .take_while(|it| !it.is_ascii_alphabetic())
                .collect();
            if let Some(numbers) = sequence.strip_prefix('[') {
                look.change(numbers);
            }
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.look == *look => run.text.push(letter),
            _ => runs.push(Run {
                column,
                text: letter.into(),
                look: *look,
            }),
        }
        column += 1;
    }
    runs
}

/// The screen as SVG, with a comment on top.
pub(super) fn draw(screen: &str, columns: usize, note: &str) -> String {
    let lines: Vec<&str> = screen.lines().collect();
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * CELL.1 + 2.0 * MARGIN;
    let mut svg = format!(
        "<!-- {note} -->\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" \
         width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"ftp-nat top in a terminal\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', \
         monospace\" font-size=\"14\" xml:space=\"preserve\">\n"
    );
    let mut look = Look::default();
    for (row, line) in lines.iter().enumerate() {
        let top = MARGIN + row as f64 * CELL.1;
        for run in runs(line, &mut look) {
            draw_run(&mut svg, &run, top);
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn draw_run(svg: &mut String, run: &Run, top: f64) {
    let left = MARGIN + run.column as f64 * CELL.0;
    let length = run.text.chars().count() as f64 * CELL.0;
    let mut fill = run.look.colour();
    if run.look.reversed {
        rectangle(svg, left, top, length, CELL.1, fill);
        fill = BACKGROUND;
    }
    let mut text = String::new();
    for (place, letter) in run.text.chars().enumerate() {
        let Some(eighths) = BLOCKS.chars().position(|block| block == letter) else {
            text.push(letter);
            continue;
        };
        let high = CELL.1 * (eighths + 1) as f64 / 8.0;
        rectangle(
            svg,
            left + place as f64 * CELL.0,
            top + CELL.1 - high,
            CELL.0,
            high,
            fill,
        );
        text.push(' ');
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if run.look.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{:.1}\" fill=\"{fill}\"{weight} textLength=\"{length:.1}\">{escaped}</text>",
        top + BASE,
    );
}

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_and_columns_are_counted_without_them() {
        let mut look = Look::default();
        let runs = runs("a\u{1b}[1;36mbc\u{1b}[0m d\u{1b}[7m!", &mut look);
        let shown: Vec<_> = runs
            .iter()
            .map(|run| (run.column, run.text.as_str()))
            .collect();
        assert_eq!(shown, [(0, "a"), (1, "bc"), (3, " d"), (5, "!")]);
        assert_eq!((runs[1].look.colour, runs[1].look.bold), (Some(6), true));
        assert!(look.reversed);
    }

    #[test]
    fn text_is_escaped_and_blocks_are_drawn() {
        let svg = draw("a<b █", 80, "note");
        assert!(svg.contains(">a&lt;b  </text>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
    }
}
