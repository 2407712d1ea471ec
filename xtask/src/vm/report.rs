//! What came of it: a table of kernels and scenes, and what the verifier said of each program.

use std::time::Duration;

use anyhow::bail;

use super::{kernel::Kernel, scene::Scene};

/// How a scene ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All its tests passed.
    Passed,
    /// One did not.
    Failed,
    /// It took longer than it may, or the machine did.
    Hung,
}

/// A scene that was run.
pub(super) struct Outcome {
    pub(super) scene: Scene,
    pub(super) ended: Ended,
    pub(super) took: Duration,
    /// Everything that it printed.
    pub(super) log: String,
}

impl Outcome {
    /// Tests that passed, and all that were run, from the last line of the test program:
    /// "test result: ok. 2 passed; 0 failed; ..". None when it did not come so far.
    fn tests(&self) -> (usize, usize) {
        let count = |what: &str| {
            let line = self
                .log
                .lines()
                .rfind(|it| it.starts_with("test result:"))?;
            let before = line.split_once(what)?.0.trim_end();
            before.rsplit(' ').next()?.parse::<usize>().ok()
        };
        let passed = count(" passed").unwrap_or(0);
        (passed, passed + count(" failed").unwrap_or(0))
    }
}

/// What all kernels made of it.
#[derive(Default)]
pub(super) struct Report {
    kernels: Vec<(String, Vec<Outcome>)>,
}

impl Report {
    /// Adds what happened on a kernel.
    pub(super) fn add(&mut self, kernel: &Kernel, outcomes: Vec<Outcome>) {
        self.kernels.push((kernel.release.clone(), outcomes));
    }

    /// Prints the tables, and all that scenes said which did not pass.
    pub(super) fn print(&self) {
        for (kernel, outcomes) in &self.kernels {
            for outcome in outcomes {
                if outcome.ended != Ended::Passed {
                    println!("--- {kernel}, scene {}:", outcome.scene.name());
                    println!("{}", outcome.log.trim_end());
                }
            }
        }
        println!("| kernel | program | as loaded | as verified | ms |");
        println!("| --- | --- | ---: | ---: | ---: |");
        for (kernel, outcomes) in &self.kernels {
            for cost in outcomes
                .iter()
                .flat_map(|it| it.log.lines())
                .filter_map(cost)
            {
                println!("| {kernel} | {cost} |");
            }
        }
        println!();
        println!("| kernel | scene | tests passed | s |");
        println!("| --- | --- | ---: | ---: |");
        for (kernel, outcomes) in &self.kernels {
            for outcome in outcomes {
                let (passed, all) = outcome.tests();
                let how = match outcome.ended {
                    Ended::Passed => "",
                    Ended::Failed => ", FAILED",
                    Ended::Hung => ", HUNG",
                };
                println!(
                    "| {kernel} | {} | {passed} of {all}{how} | {:.0} |",
                    outcome.scene.name(),
                    outcome.took.as_secs_f32()
                );
            }
        }
    }

    /// The last line.
    ///
    /// # Errors
    ///
    /// When anything did not pass, or nothing was run at all.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let outcomes = || self.kernels.iter().flat_map(|(_, outcomes)| outcomes);
        let bad = outcomes()
            .filter(|it| it.ended != Ended::Passed || it.tests().0 == 0)
            .count();
        let tests: usize = outcomes().map(|it| it.tests().0).sum();
        if bad > 0 || tests == 0 {
            bail!("{bad} scenes did not pass");
        }
        println!(
            "passed: {} scenes, {tests} tests, on Linux {}",
            outcomes().count(),
            self.kernels
                .iter()
                .map(|(kernel, _)| kernel.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
        Ok(())
    }
}

/// "program gateway: 12459 instructions as loaded, 89754 as verified, in 110.2 ms" as columns.
fn cost(line: &str) -> Option<String> {
    let line = &line[line.find("program ")?..];
    let (name, rest) = line.strip_prefix("program ")?.split_once(": ")?;
    let (loaded, rest) = rest.split_once(" instructions as loaded, ")?;
    let (verified, rest) = rest.split_once(" as verified, in ")?;
    let time = rest.strip_suffix(" ms")?;
    Some(format!("{name} | {loaded} | {verified} | {time}"))
}
