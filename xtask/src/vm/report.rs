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
        let spoilt = |outcomes: &[Outcome]| -> Vec<String> {
            let lines = outcomes.iter().flat_map(|it| it.log.lines());
            lines.filter_map(spoilt).collect()
        };
        if self.kernels.iter().any(|(_, it)| !spoilt(it).is_empty()) {
            println!("| kernel | of the packets in each direction | what came of it |");
            println!("| --- | --- | --- |");
            for (kernel, outcomes) in &self.kernels {
                for line in spoilt(outcomes) {
                    println!("| {kernel} | {line} |");
                }
            }
            println!();
        }
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

/// "test x ... impaired loss 5 %: 12 of 12 files whole in 36 s" as columns.
fn spoilt(line: &str) -> Option<String> {
    let (_, line) = line.split_once("impaired ")?;
    let (network, outcome) = line.split_once(": ")?;
    Some(format!("{network} | {outcome}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(log: &str) -> Outcome {
        Outcome {
            scene: Scene::Load,
            ended: Ended::Passed,
            took: Duration::ZERO,
            log: log.to_owned(),
        }
    }

    #[test]
    fn what_tests_print_becomes_columns() {
        let line =
            "test x ... program icmp: 1028 instructions as loaded, 5908 as verified, in 31.1 ms";
        assert_eq!(cost(line).unwrap(), "icmp | 1028 | 5908 | 31.1");
        assert_eq!(cost("running 2 tests"), None);
        let line = "impaired loss 5 %: 12 of 12 files whole";
        assert_eq!(spoilt(line).unwrap(), "loss 5 % | 12 of 12 files whole");
    }

    #[test]
    fn tests_are_counted_by_the_last_line() {
        let log = "test x ... told\nok\n\ntest result: FAILED. 3 passed; 2 failed; 1 ignored\n";
        assert_eq!(outcome(log).tests(), (3, 5));
        assert_eq!(outcome("test x ... ").tests(), (0, 0));
    }

    #[test]
    fn a_scene_that_ran_no_test_has_not_passed() {
        let mut report = Report::default();
        assert!(report.verdict().is_err());
        report.kernels.push((
            "6.1".to_owned(),
            vec![outcome("test result: ok. 0 passed; 0 failed")],
        ));
        assert!(report.verdict().is_err());
        report.kernels[0].1[0] = outcome("test result: ok. 1 passed; 0 failed");
        assert!(report.verdict().is_ok());
    }
}
