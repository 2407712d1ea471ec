//! The fuzzer over all of its targets (`ftp-nat-common/fuzz`), for as long as is wanted.

use std::{fs, process::Stdio};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    cargo_tools::CargoTool,
    command::program,
    progress::{say, step},
    workspace::Workspace,
};

/// Builds the targets with libFuzzer's counters in them.
const CARGO_FUZZ: CargoTool<'static> = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.1",
    variant: "",
};

/// The targets of `ftp-nat-common/fuzz/Cargo.toml`.
const TARGETS: [&str; 5] = ["segments", "commands", "replies", "splits", "finders"];

/// For how long.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How long all targets together run, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    minutes: u64,
}

/// Runs each target for its part of the time and prints how often it ran and what it covered.
///
/// # Errors
///
/// When a target does not build, or when it found something: then libFuzzer's own words say what, and
/// where the input lies.
pub(crate) fn run_all(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    let tool = CARGO_FUZZ.find_or_build(workspace, |_| Ok(()))?;
    let seconds = (arguments.minutes * 60 / TARGETS.len() as u64).max(1);
    let mut figures = Vec::new();
    for target in TARGETS {
        let corpus = workspace.target.join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut fuzz = program(&tool);
        // The code is safe Rust: a sanitizer finds little that debug assertions do not, and needs a
        // nightly compiler.
        fuzz.args(["fuzz", "run", "-s", "none", target])
            .arg(&corpus)
            .arg(format!("fuzz/seeds/{target}"))
            .args(["--", "-dict=fuzz/ftp.dict", "-max_len=400"])
            .args(["-print_final_stats=1", "-verbosity=1"])
            .arg(format!("-max_total_time={seconds}"))
            .current_dir(workspace.root.join("ftp-nat-common"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", workspace.target.join("fuzz"))
            .stdout(Stdio::inherit());
        let what = format!("fuzzing {target} for {seconds} s");
        let output = step(&what, || fuzz.output().context("cannot start cargo-fuzz"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{target} found something, or does not build:\n{said}");
        }
        figures.push(format!("{target}: {}", figure(&said)?));
    }
    for figure in figures {
        say(&figure);
    }
    Ok(())
}

/// The figures that libFuzzer tells last: executions, and edges covered.
fn figure(said: &str) -> anyhow::Result<String> {
    let number = |before: &str| {
        let (_, after) = said.rsplit_once(before)?;
        after.split_whitespace().next()?.parse::<u64>().ok()
    };
    let executions = number("stat::number_of_executed_units:")
        .context("the fuzzer does not say how often it ran")?;
    let coverage = number(" cov: ").context("the fuzzer does not say what it covered")?;
    Ok(format!("{executions} executions, coverage {coverage}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_told_last() {
        let said = "#2\tINITED cov: 10 ft: 11\n#9\tDONE   cov: 1188 ft: 2 corp: 3/4b\n\
                    Done 4846997 runs in 331 second(s)\nstat::number_of_executed_units: 4846997\n";
        assert_eq!(figure(said).unwrap(), "4846997 executions, coverage 1188");
        assert!(figure("nothing").is_err());
    }
}
