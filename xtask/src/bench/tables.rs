//! What a call into the kernel's hash tables takes, with keys and values as large as an IPv4 flow's:
//! so much any program takes that keeps its connections there.
//!
//! The datapath's tables have their room from the start; beside them one whose entries get theirs
//! when they are inserted.

use std::{panic::resume_unwind, thread};

use anyhow::{Context as _, ensure};
use aya::{Ebpf, EbpfLoader};

use super::{
    figure::Figure,
    options::Options,
    programs::{self, Cell, classifier, last_cpu, layout::Plan, run_tc, stay_on_cpu},
};
use crate::progress::say;

/// The tables, as they are named in figures and in the object.
const TABLES: [(&str, &str); 2] = [("preallocated", "PREALLOCATED"), ("allocated", "ALLOCATED")];
/// The loopback interface, which each namespace has.
const LOOPBACK: u32 = 1;

/// The programs, and how many entries are in each table.
struct Tables {
    ebpf: Ebpf,
    plan: Cell<Plan>,
    /// A power of two, the same in each.
    entries: u32,
    /// How many keys were looked up: those of the next turns were not just looked up.
    next: u32,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    // A thread of its own: it alone stays on one CPU.
    let measured = thread::scope(|scope| scope.spawn(|| measure(options)).join());
    measured.unwrap_or_else(|panic| resume_unwind(panic))
}

fn measure(options: &Options) -> anyhow::Result<Vec<Figure>> {
    // Two entries a connection.
    let sizes: [(&str, u32); 2] = if options.smoke {
        [("1k", 1 << 7), ("1m", 1 << 11)]
    } else {
        [("1k", 1 << 11), ("1m", 1 << 21)]
    };
    stay_on_cpu(last_cpu()?)?;
    let mut tables = Tables::load(options, sizes[1].1)?;
    let runs = options.runs(9);
    let mut figures = Vec::new();
    for (size, entries) in sizes {
        say(&format!("tables: {entries} entries"));
        tables.fill_up_to(entries)?;
        let turns = options.turns(200_000);
        for (key, _) in TABLES {
            let mut lookup = Figure::new(format!("table.{key}.lookup.{size}"), "ns");
            for _ in 0..runs {
                let cost = tables.cost(&format!("{key}_lookup"), tables.next, turns)?;
                lookup.runs.push(cost);
                tables.next = tables.next.wrapping_add(turns);
            }
            figures.push(lookup);
        }
    }
    // What was just taken away is put in again: hot in the caches, as a connection's entry is when it
    // is made from the one before it.
    for (key, _) in TABLES {
        let mut insert = Figure::new(format!("table.{key}.insert"), "ns");
        let mut delete = Figure::new(format!("table.{key}.delete"), "ns");
        let entries = sizes[0].1;
        for run in 0..=runs {
            let taken = tables.cost(&format!("{key}_delete"), 0, entries)?;
            let put = tables.cost(&format!("{key}_insert"), 0, entries)?;
            // The first one warms up.
            if run > 0 {
                delete.runs.push(taken);
                insert.runs.push(put);
            }
        }
        figures.extend([insert, delete]);
    }
    Ok(figures)
}

impl Tables {
    fn load(options: &Options, room: u32) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        for (_, table) in TABLES {
            loader.map_max_entries(table, room);
        }
        let mut ebpf = programs::load_by(&mut loader, &options.object)?;
        Ok(Self {
            plan: Cell::take(&mut ebpf, "PLAN")?,
            ebpf,
            entries: 0,
            next: 0,
        })
    }

    /// Inserts what is missing.
    fn fill_up_to(&mut self, entries: u32) -> anyhow::Result<()> {
        self.entries = entries;
        for (key, _) in TABLES {
            // Those that are there are written anew.
            self.run(&format!("{key}_insert"), 0, entries)?;
        }
        Ok(())
    }

    /// Nanoseconds of a call, without what measuring takes.
    fn cost(&mut self, program: &str, next: u32, turns: u32) -> anyhow::Result<f64> {
        let nothing = self.run("table_nothing", next, turns)?;
        Ok(self.run(program, next, turns)? - nothing)
    }

    /// Nanoseconds of a turn; the first turn's key is that of number `next`.
    fn run(&mut self, program: &str, next: u32, turns: u32) -> anyhow::Result<f64> {
        self.plan.set(Plan {
            next,
            frames: 0,
            flows: self.entries - 1,
            pad: 0,
        })?;
        let ran = run_tc(classifier(&self.ebpf, program)?, LOOPBACK, &[0; 64], turns)
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(ran.verdict == 1, "{program} did not find what it should");
        Ok(ran.took.as_nanos() as f64 / f64::from(turns))
    }
}
