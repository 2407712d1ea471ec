//! How fast it is: beside plain forwarding and the kernel's own helper, in one run.

mod bulk;
mod chart;
pub(crate) mod crowd;
mod document;
mod figure;
mod floor;
mod frame;
mod machine;
mod many;
mod memory;
mod ns;
pub(crate) mod openings;
pub(crate) mod options;
mod packets;
pub(crate) mod programs;
mod results;
pub(crate) mod scene;
pub(crate) mod session;
mod tables;
mod transfers;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use ftp_nat_tests::tools::Tools;

use self::{figure::Figure, options::Options, results::Results};
use crate::{
    apt::{self, Installing},
    ebpf,
    progress::{say, step},
    workspace::Workspace,
};

/// Where the tables of the last run are, under docs/.
const DOCUMENT: &str = "benchmarks.md";

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Group {
    /// Small packets a second through the router
    Packets,
    /// New data connections a second
    Openings,
    /// A million connections at random, and floods of SYNs
    Many,
    /// Small files a second in one session of a real client with a real server
    Transfers,
    /// Bulk throughput, and the router's CPU for it
    Bulk,
    /// Nanoseconds a packet in each program
    Ns,
    /// Nanoseconds a call of the kernel's hash tables
    Tables,
    /// Memory of what is kept, and the sweep through it
    Memory,
}

/// What to measure.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Write all figures there too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this group only; may be given several times
    #[arg(long, value_name = "GROUP")]
    only: Vec<Group>,
    /// How often each figure is measured [default: what suits it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Only see that everything can be measured, in seconds; the figures mean nothing
    #[arg(long)]
    smoke: bool,
}

/// Measures a group.
type Measure = fn(&Options) -> anyhow::Result<Vec<Figure>>;

/// All of them, in the order in which they are run.
const GROUPS: [(Group, &str, Measure); 8] = [
    (Group::Packets, "packets a second", packets::run),
    (Group::Openings, "data connections a second", openings::run),
    (Group::Many, "a million connections, and floods", many::run),
    (Group::Transfers, "small files", transfers::run),
    (Group::Bulk, "bulk transfers", bulk::run),
    (Group::Ns, "nanoseconds a packet", ns::run),
    (Group::Tables, "the kernel's hash tables", tables::run),
    (Group::Memory, "memory and sweeps", memory::run),
];

/// Measures, prints, writes.
///
/// # Errors
///
/// When something cannot be measured, or written.
pub(crate) fn run(
    workspace: &Workspace,
    installing: Installing,
    tools: Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    tools.use_here();
    apt::require_programs(
        workspace,
        installing,
        &[("ethtool", "ethtool")],
        "the benchmark",
    )?;
    let object = ebpf::build(workspace, installing, ebpf::Crate::Bench)?;
    let options = Options {
        runs: arguments.runs,
        smoke: arguments.smoke,
        object: fs::read(object)?,
    };
    let mut figures: Vec<Figure> = Vec::new();
    for (group, what, measure) in GROUPS {
        if arguments.only.is_empty() || arguments.only.contains(&group) {
            figures.extend(step(what, || measure(&options))?);
        }
    }
    let results = Results::new(figures, arguments.smoke);
    if arguments.smoke {
        results.check()?;
        say(&format!(
            "a smoke run: all of {} figures can be measured",
            results.figures.len()
        ));
    } else {
        println!("{}", document::tables(&results));
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&results.json())?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.smoke || !arguments.only.is_empty() {
        return Ok(());
    }
    let docs = workspace.root.join("docs");
    for (name, text) in [
        (DOCUMENT, document::document(&results)),
        (document::CHART, chart::svg(&results)),
    ] {
        fs::write(docs.join(name), text).with_context(|| format!("cannot write docs/{name}"))?;
        say(&format!("wrote docs/{name}"));
    }
    Ok(())
}

/// Sees that everything can still be measured, in seconds.
///
/// # Errors
///
/// When something cannot.
pub(crate) fn smoke(
    workspace: &Workspace,
    installing: Installing,
    tools: Tools,
) -> anyhow::Result<()> {
    let arguments = Arguments {
        json: None,
        only: Vec::new(),
        runs: None,
        smoke: true,
    };
    run(workspace, installing, tools, &arguments)
}
