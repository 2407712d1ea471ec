//! Every test: of the crates, of the datapath, of the whole in namespaces, and of the programs in the
//! oldest kernel that they are for.

use std::num::NonZero;

use anyhow::ensure;
use ftp_nat_tests::tools::Tools;

use crate::{
    apt::Installing,
    bench,
    build::OBJECT_VARIABLE,
    command::{cargo, run},
    ebpf, lab,
    progress::{say, step},
    tools,
    vm::{self, Short},
    workspace::Workspace,
};

/// How many tests of a program the test harness runs at once.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// The default of it, for each CPU: most tests wait for timers and servers most of their time.
const TESTS_PER_CPU: usize = 2;

/// Cargo's word for: go on with the next test program after one that failed.
const NO_FAIL_FAST: &str = "--no-fail-fast";

/// Runs the tests; `arguments` are those of `cargo test`, to choose some of them.
pub(crate) fn run_all(
    workspace: &Workspace,
    installing: Installing,
    arguments: &[String],
) -> anyhow::Result<()> {
    let servers = tools::servers(workspace, installing)?;
    let object = ebpf::build(workspace, installing, ebpf::Crate::Datapath)?;
    let tools = Tools {
        servers,
        binary: workspace.target.join("debug/ftp-nat"),
    };
    let cargo_test = |arguments: &[&str]| {
        let mut cargo = cargo();
        cargo
            .args(["test", "--locked"])
            .args(arguments)
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env(OBJECT_VARIABLE, &object)
            .envs(tools.variables());
        if std::env::var_os(THREADS_VARIABLE).is_none() {
            let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
            cargo.env(THREADS_VARIABLE, (cpus * TESTS_PER_CPU).to_string());
        }
        run(&mut cargo)
    };
    // The eBPF crate has no tests on a host.
    let everything = ["--workspace", "--exclude", "ftp-nat-ebpf"];
    // Everything, whatever is chosen: with other packages cargo would choose other features, and
    // build most dependencies twice. It leaves the binary that the tests run.
    step(
        "compiling the tests, and ftp-nat with debug assertions",
        || cargo_test(&[&everything[..], &["--no-run", "--quiet"]].concat()),
    )?;
    let chosen: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut all = Vec::new();
    let names_packages = |word: &&str| word.starts_with("-p") || word.starts_with("--package");
    if !chosen.iter().any(names_packages) {
        all.extend(everything);
    }
    // Not quiet: the names of the tests say what was shown. A test that fails hides no other.
    if !chosen.contains(&NO_FAIL_FAST) {
        all.push(NO_FAIL_FAST);
    }
    all.extend(chosen);
    let tests = || step("tests", || cargo_test(&all));
    if !arguments.is_empty() {
        return tests();
    }
    let mut not_had = None;
    let parts = [
        tests(),
        step("the lab by hand", || lab::smoke(workspace, &tools)),
        // Not for its figures: so that it still works when somebody needs them.
        step("a smoke run of the benchmark", || {
            bench::smoke(workspace, installing, tools.clone())
        }),
        step("Linux 6.1, booted: it takes every program", || {
            if let Short::NotHad(why) = vm::short(workspace, installing)? {
                not_had = Some(why);
            }
            Ok(())
        }),
    ];
    if let Some(why) = not_had {
        say(&format!(
            "NOT SHOWN: that Linux 6.1, Debian 12's, takes the programs, because it could not be \
             booted here: {why:#}. `cargo xtask vm --kernel 6.1 --scene load` shows it"
        ));
    }
    let failures: Vec<_> = parts
        .into_iter()
        .filter_map(|part| part.err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
