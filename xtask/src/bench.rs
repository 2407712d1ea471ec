//! How fast it is: beside plain forwarding and the kernel's own helper, in one run.

mod figure;
mod frame;
mod ns;
mod openings;
mod packets;
mod programs;
mod scene;
mod session;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ftp_nat_tests::tools::Tools;

use self::figure::Figure;
use crate::{
    apt::{self, Installing},
    ebpf,
    progress::step,
    workspace::Workspace,
};

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Group {
    /// Small packets a second through the router
    Packets,
    /// New data connections a second
    Openings,
    /// Nanoseconds a packet in each program
    Ns,
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

/// What all groups know.
pub(crate) struct Options {
    runs: Option<u32>,
    /// Small numbers of everything.
    pub(crate) smoke: bool,
    /// The benchmark's programs for the kernel.
    pub(crate) object: Vec<u8>,
}

impl Options {
    /// How often to measure, when so often suits the figure.
    pub(crate) fn runs(&self, suits: u32) -> u32 {
        self.runs.unwrap_or(if self.smoke { 1 } else { suits })
    }

    /// How many times something is repeated within a measurement.
    pub(crate) fn turns(&self, suits: u32) -> u32 {
        if self.smoke {
            suits.div_ceil(100)
        } else {
            suits
        }
    }
}

/// Measures a group.
type Measure = fn(&Options) -> anyhow::Result<Vec<Figure>>;

/// Measures, prints, writes.
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
        object: std::fs::read(object)?,
    };
    let mut figures: Vec<Figure> = Vec::new();
    let groups: [(Group, &str, Measure); 3] = [
        (Group::Packets, "packets a second", packets::run),
        (Group::Openings, "data connections a second", openings::run),
        (Group::Ns, "nanoseconds a packet", ns::run),
    ];
    for (group, what, measure) in groups {
        if arguments.only.is_empty() || arguments.only.contains(&group) {
            figures.extend(step(what, || measure(&options))?);
        }
    }
    for figure in &figures {
        println!(
            "{:<40} median {:>10.1}  min {:>10.1} max {:>10.1} {}",
            figure.key,
            figure.median(),
            figure.least(),
            figure.most(),
            figure.unit
        );
    }
    Ok(())
}
