//! How much of ftp-nat-common its own tests run, on the host: all of it also runs in the kernel,
//! where no tool counts lines.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::{
    apt::{self, Installing},
    command::{cargo, output, program, run},
    progress::{say, step},
    workspace::Workspace,
};

const CRATE: &str = "ftp-nat-common";

/// Of a hundred lines, how many must be run.
const LEAST: f64 = 95.0;

/// Runs the tests with counters in them, prints each file's share and fails below [`LEAST`].
///
/// # Errors
///
/// When LLVM's tools are missing, when a test fails, or when too few lines are run.
pub(crate) fn run_all(workspace: &Workspace, installing: Installing) -> anyhow::Result<()> {
    let tools = llvm_tools(workspace, installing)?;
    let target = workspace.target.join("coverage");
    let profiles = target.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles)
            .with_context(|| format!("cannot empty {}", profiles.display()))?;
    }
    let tests = |arguments: &[&str]| {
        let mut cargo = cargo();
        cargo
            .args(["test", "--quiet", "--locked", "--package", CRATE])
            .args(["--lib", "--tests"])
            .args(arguments)
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-Cinstrument-coverage")
            .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        cargo
    };
    let built = step("compiling the tests with counters", || {
        output(&mut tests(&["--no-run", "--message-format", "json"]))
    })?;
    step("tests with counters", || run(&mut tests(&[])))?;

    let merged = target.join("all.profdata");
    let mut merge = program(tools.join("llvm-profdata"));
    merge.args(["merge", "-sparse", "-o"]).arg(&merged);
    for profile in fs::read_dir(&profiles)? {
        merge.arg(profile?.path());
    }
    run(&mut merge)?;

    let mut export = program(tools.join("llvm-cov"));
    export.args(["export", "--summary-only", "--instr-profile"]);
    export.arg(&merged);
    for binary in built.lines().filter_map(executable) {
        export.arg("--object").arg(binary);
    }
    export
        .arg("--sources")
        .arg(workspace.root.join(CRATE).join("src"));
    let report: Value = serde_json::from_str(&output(&mut export)?).context("llvm-cov's report")?;
    judge(workspace, &report)
}

/// Prints the report and fails if it is not good enough.
fn judge(workspace: &Workspace, report: &Value) -> anyhow::Result<()> {
    let report = &report["data"][0];
    let files = report["files"].as_array().context("no files")?;
    ensure!(!files.is_empty(), "llvm-cov knows no file of {CRATE}");
    for file in files {
        let name = PathBuf::from(file["filename"].as_str().unwrap_or_default());
        println!(
            "{:6.2} %  {}",
            percent(&file["summary"])?,
            workspace.relative(&name)
        );
    }
    let all = percent(&report["totals"])?;
    if all < LEAST {
        bail!("tests run {all:.2} % of {CRATE}'s lines; {LEAST} % are wanted");
    }
    say(&format!("tests run {all:.2} % of {CRATE}'s lines"));
    Ok(())
}

fn percent(summary: &Value) -> anyhow::Result<f64> {
    let percent = summary["lines"]["percent"].as_f64();
    percent.context("llvm-cov tells no share of lines")
}

/// The test program that a line of cargo's messages is about, if it is.
fn executable(message: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    Some(message["executable"].as_str()?.to_owned())
}

/// The folder of llvm-cov and llvm-profdata of the compiler's own LLVM: they read no other's files.
fn llvm_tools(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let version = output(program("rustc").arg("-vV").current_dir(&workspace.root))?;
    let major = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next())
        .context("`rustc -vV` does not say its LLVM")?;
    let tools = PathBuf::from(format!("/usr/lib/llvm-{major}/bin"));
    if !tools.join("llvm-cov").exists() {
        let package = format!("llvm-{major}");
        apt::require(workspace, installing, &[&package], "counting lines")?;
    }
    Ok(tools)
}
