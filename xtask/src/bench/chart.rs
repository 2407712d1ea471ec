//! The results as a picture that is read at a glance.

use std::fmt::Write as _;

use super::{document::number, results::Results, scene::Router};

/// A panel: its title, and what stands before and behind a contestant's key in that of the figure.
const PANELS: [(&str, &str, &str); 3] = [
    (
        "64-byte packets a second, by one CPU of the router",
        "packets.",
        "",
    ),
    ("new data connections a second, by one CPU", "openings.", ""),
    (
        "bulk throughput of one stream, Gbit/s",
        "bulk.",
        ".1.offload",
    ),
];

const WIDTH: u32 = 820;
/// Where bars begin, and how long the longest is.
const LEFT: u32 = 200;
const LONGEST: f64 = 430.0;
const BAR: u32 = 22;
const GAP: u32 = 8;
const HEADING: u32 = 44;

/// The picture as SVG.
pub(crate) fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 16;
    for (title, before, behind) in PANELS {
        let bars: Vec<_> = Router::ALL
            .iter()
            .filter_map(|router| {
                let key = format!("{before}{}{behind}", router.key());
                Some((*router, results.find(&key)?.median()))
            })
            .collect();
        if bars.is_empty() {
            continue;
        }
        let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let plain = bars
            .iter()
            .find(|(router, _)| *router == Router::Plain)
            .map(|(_, value)| *value);
        let _ = writeln!(
            body,
            r#"<text x="16" y="{}" class="title">{title}</text>"#,
            y + 18
        );
        y += HEADING - 12;
        for (router, value) in bars {
            let length = value / most * LONGEST;
            let text = match plain {
                Some(plain) if router != Router::Plain => {
                    format!("{} ({:.2} of plain)", number(value), value / plain)
                }
                _ => number(value),
            };
            let class = match router {
                Router::Plain | Router::KernelHelper => "other",
                _ => "own",
            };
            let _ = writeln!(
                body,
                r#"<text x="{}" y="{}" class="name">{}</text><rect x="{LEFT}" y="{y}" width="{length:.0}" height="{BAR}" class="{class}"/><text x="{:.0}" y="{}">{text}</text>"#,
                LEFT - 8,
                y + 16,
                router.name(),
                f64::from(LEFT) + length + 6.0,
                y + 16,
            );
            y += BAR + GAP;
        }
        y += 12;
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="13">
<style>.title{{font-weight:bold;font-size:15px}}.name{{text-anchor:end}}.own{{fill:#2b7a4b}}.other{{fill:#9aa5b1}}text{{fill:#1f2933}}</style>
<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>
{body}</svg>
"##
    )
}
