//! The results for people: on the terminal, and as docs/benchmarks.md.

use std::fmt::Write as _;

use super::{
    figure::{Figure, round},
    floor::floors,
    results::{Line, Results},
    scene::Router,
};

/// The chart's file, beside the document.
pub(crate) const CHART: &str = "benchmarks.svg";

/// The whole document.
pub(crate) fn document(results: &Results) -> String {
    let mut text = format!(
        "# How fast it is\n\
         \n\
         What `cargo xtask bench` measured last, which writes this file: as root, on Debian, in\n\
         some minutes. It installs what it lacks. `--json FILE` has every single run, and `--only`\n\
         and `--runs` choose; numbers of one run can be compared with each other, those of two\n\
         machines cannot.\n\
         \n\
         {}\n\
         \n\
         ![Packets, new connections and bulk throughput, beside plain forwarding]({CHART})\n",
        wrapped(&results.machine.sentence())
    );
    text.push_str(&tables(results));
    text
}

/// All tables.
pub(crate) fn tables(results: &Results) -> String {
    let mut text = String::new();
    aims(
        &mut text,
        "Ratios",
        "Each is the median of the ratios of all turns; contestants take turns.",
        &results.ratios,
        "times",
    );
    aims(
        &mut text,
        "What a packet costs",
        "Nanoseconds in the daemon's programs by BPF_PROG_TEST_RUN, above an empty program, with a\n\
         thousand live connections. Every turn is a fresh packet: a small program writes it and\n\
         goes on into the one that is measured.",
        &results.nanoseconds,
        "ns",
    );
    limits(&mut text, results);
    for section in SECTIONS {
        let rows: Vec<_> = section
            .rows()
            .into_iter()
            .filter(|(_, key)| {
                let is_there = |column: &Column| results.find(&column.key(key)).is_some();
                section.columns.iter().any(is_there)
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {}\n{}\n\n|", section.title, section.note);
        text.push_str(section.corner);
        for column in section.columns {
            let _ = write!(text, " | {}", column.title);
        }
        text.push_str(" |\n| ---");
        text.push_str(&" | ---".repeat(section.columns.len()));
        text.push_str(" |\n");
        for (name, key) in rows {
            let _ = write!(text, "| {name}");
            for column in section.columns {
                let _ = write!(text, " | {}", cell(results.find(&column.key(key))));
            }
            text.push_str(" |\n");
        }
    }
    text
}

/// A table of what was aimed at.
fn aims(text: &mut String, title: &str, note: &str, lines: &[Line], unit: &str) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\n## {title}\n{note}\n\n\
         | what | {unit} | least to most | aim | reached | runs |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for line in lines {
        let (aim, reached) = line.reach.judge(line.figure.median());
        let _ = writeln!(
            text,
            "| {} | {} | {} to {} | {aim} | {reached} | {} |",
            line.what,
            number(line.figure.median()),
            number(line.figure.least()),
            number(line.figure.most()),
            line.figure.runs.len()
        );
    }
}

/// A table of how far figures could go.
fn limits(text: &mut String, results: &Results) {
    let floors = floors(results);
    if floors.is_empty() {
        return;
    }
    text.push_str(
        "\n## How far it can go\n\
         What the ratios would be if all that ftp-nat does itself cost nothing but for its calls into\n\
         the kernel's hash tables, as these were measured in the same run (below). Where the aim is\n\
         beyond that, no program reaches it that keeps its connections in such tables.\n\n\
         | what | measured | at best | of what |\n\
         | --- | --- | --- | --- |\n",
    );
    for floor in floors {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            floor.line.what,
            number(floor.line.figure.median()),
            number(floor.best),
            floor.why
        );
    }
}

/// A table of figures.
struct Section {
    title: &'static str,
    note: &'static str,
    /// The heading of the rows' names.
    corner: &'static str,
    /// The rows' names and keys; none: the contestants.
    rows: &'static [(&'static str, &'static str)],
    columns: &'static [Column],
}

/// A column: its heading, and what stands before and behind the row's key in that of the figure.
struct Column {
    title: &'static str,
    before: &'static str,
    behind: &'static str,
}

const fn column(title: &'static str, before: &'static str, behind: &'static str) -> Column {
    Column {
        title,
        before,
        behind,
    }
}

impl Column {
    fn key(&self, row: &str) -> String {
        format!("{}{row}{}", self.before, self.behind)
    }
}

impl Section {
    fn rows(&self) -> Vec<(&'static str, &'static str)> {
        if self.rows.is_empty() {
            return Router::ALL
                .iter()
                .map(|router| (router.name(), router.key()))
                .collect();
        }
        self.rows.to_vec()
    }
}

const SECTIONS: &[Section] = &[
    Section {
        title: "Small packets",
        note: "64-byte packets of a real data connection, all on one CPU. Generator and sink would be\n\
               other machines; what the router takes of a packet's time is the difference to\n\
               the median of generator and sink alone, and packets/s is what one CPU carries by that.",
        corner: " router",
        rows: &[],
        columns: &[
            column("packets/s", "packets.", ""),
            column("ns a packet (least)", "packets.", ".router_ns"),
            column("packets/s with generator and sink", "packets.", ".counted"),
            column("lost", "packets.", ".lost"),
        ],
    },
    Section {
        title: "New data connections",
        note: "PASV, 227, connect, a segment of data, close, over and over in 128 control sessions\n\
               at once, all on one CPU. Setup is from PASV to SYN+ACK. Client and server are XDP\n\
               programs: the router is what is measured.",
        corner: " router",
        rows: &[],
        columns: &[
            column("connections/s", "openings.", ""),
            column("setup, p50", "openings.", ".setup_p50"),
            column("setup, p99", "openings.", ".setup_p99"),
            column("one session: setup, p50", "openings.", ".single_setup_p50"),
            column("p99", "openings.", ".single_setup_p99"),
        ],
    },
    Section {
        title: "Small files",
        note: "One session fetches 2,000 files of a kilobyte by PASV: vsftpd and Python's ftplib, both on\n\
               one CPU, with everything between them. Most of the time is theirs.",
        corner: " router",
        rows: &[],
        columns: &[column("files/s", "transfers.", "")],
    },
    Section {
        title: "Bulk transfers",
        note: "Gigabits a second over announced and translated data connections, and what the router's\n\
               CPU takes for a gigabyte. Nothing is copied at either end. Bundled: with TSO, GSO and\n\
               GRO, and the CPU is the whole machine's, both ends included; else every packet of 1500\n\
               bytes is handled by itself, and the CPU is the router's.",
        corner: " router",
        rows: &[],
        columns: &[
            column("1 stream, bundled", "bulk.", ".1.offload"),
            column("all CPU", "bulk.", ".1.offload.cpu_of_all"),
            column("16 streams, bundled", "bulk.", ".16.offload"),
            column("all CPU", "bulk.", ".16.offload.cpu_of_all"),
            column("1 stream, single", "bulk.", ".1.segments"),
            column("router's CPU", "bulk.", ".1.segments.cpu"),
            column("16 streams, single", "bulk.", ".16.segments"),
            column("router's CPU", "bulk.", ".16.segments.cpu"),
        ],
    },
    Section {
        title: "Nanoseconds a packet",
        note: "As above, with a thousand and with a million live connections (two entries each):\n\
               median and, in parentheses, minimum. At random: each packet is of another connection,\n\
               so that with a million of them none is in any cache.",
        corner: " packet",
        rows: &[
            ("an empty program, and what measuring costs", "empty"),
            ("not IP", "not_ip"),
            ("UDP", "udp"),
            ("TCP that is not ours", "tcp_not_ours"),
            ("control segment without news", "control_no_news"),
            ("RETR that is not told", "control_untold"),
            ("RETR that is told (`transfers`)", "control_told"),
            ("227 rewritten, mapping opened", "rewrite_227"),
            ("data, inbound", "data_hit"),
            ("data, outbound", "data_hit_outbound"),
            ("data, inbound, connections at random", "data_hit_random"),
            ("XDP: UDP", "xdp_udp"),
            ("XDP: TCP that is not ours", "xdp_tcp_not_ours"),
            ("XDP: data, inbound", "xdp_data_hit"),
            (
                "XDP: data, inbound, connections at random",
                "xdp_data_hit_random",
            ),
        ],
        columns: &[
            column("1k connections", "ns.", ".1k"),
            column("1M connections", "ns.", ".1m"),
        ],
    },
    Section {
        title: "The kernel's hash tables",
        note: "Nanoseconds of one call and nothing else, with keys and values as large as an IPv4 flow's.\n\
               Lookups are at random, entries are put in and taken out again while they are in the\n\
               caches. The datapath's tables are preallocated: their room is there from the start.",
        corner: " table",
        rows: &[("preallocated", "preallocated"), ("allocated", "allocated")],
        columns: &[
            column("lookup, 1k connections", "table.", ".lookup.1k"),
            column("1M connections", "table.", ".lookup.1m"),
            column("insert", "table.", ".insert"),
            column("delete", "table.", ".delete"),
        ],
    },
    Section {
        title: "Memory",
        note: "What the table accounts for each, its share of the table's own included where that is\n\
               preallocated; and else what the kernel's slabs grow by. A connection is two entries, one\n\
               a direction. Beside it an entry of connection tracking, without what NAT, helper and\n\
               sequence adjustment add to it.",
        corner: " what",
        rows: &[
            ("connection", "connection"),
            ("mapping", "mapping"),
            ("session", "session"),
            ("nf_conntrack's own object", "conntrack"),
        ],
        columns: &[
            column("as accounted", "memory.", ".map"),
            column("in slabs", "memory.", ".slab"),
        ],
    },
    Section {
        title: "Sweep",
        note: "The daemon's sweep through a million live connections, and single bytes that go there\n\
               and back over a translated connection meanwhile, beside as long without a sweep.",
        corner: " what",
        rows: &[
            ("sweep", "sweep.time"),
            ("byte there and back, p99", "sweep.delay_p99"),
            ("the same, without a sweep", "sweep.quiet_delay_p99"),
            ("byte there and back, worst", "sweep.delay_worst"),
            ("the same, without a sweep", "sweep.quiet_delay_worst"),
            (
                "memory of all tables before anything is in them",
                "memory.empty_tables",
            ),
        ],
        columns: &[column("", "", "")],
    },
];

/// The median with its unit, and the spread, or for nanoseconds the least.
fn cell(figure: Option<&Figure>) -> String {
    let Some(figure) = figure else {
        return "–".to_owned();
    };
    let unit = match figure.unit {
        "packets/s" | "openings/s" | "files/s" => String::new(),
        unit => format!(" {unit}"),
    };
    let median = number(figure.median());
    if figure.unit == "ns" && figure.runs.len() > 1 {
        return format!("{median} ({})", number(figure.least()));
    }
    if figure.runs.len() < 2 || figure.most() == 0.0 {
        return format!("{median}{unit}");
    }
    format!("{median}{unit} ±{:.0} %", figure.spread())
}

/// A number with as many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 999_500.0 {
        format!("{:.2} M", value / 1e6)
    } else if magnitude >= 10_000.0 {
        format!("{:.0}k", value / 1e3)
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{}", round((value * 100.0).round() / 100.0))
    }
}

/// Lines of at most a hundred characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + word.len() >= 100 {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        for (value, text) in [
            (1_851_927.8, "1.85 M"),
            (149_635.0, "150k"),
            (5547.4, "5547"),
            (540.04, "540"),
            (12.34, "12.3"),
            (1.056, "1.06"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
