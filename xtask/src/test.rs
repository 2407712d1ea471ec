//! Every test: of the crates, of the datapath, of the whole in namespaces, and of the programs in the
//! oldest kernel that they are for.

use anyhow::ensure;

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

/// Runs the tests; `arguments` are those of `cargo test`, to choose some of them.
pub(crate) fn run_all(
    workspace: &Workspace,
    installing: Installing,
    arguments: &[String],
) -> anyhow::Result<()> {
    let tools = tools::prepare(workspace, installing)?;
    let chooses_packages = arguments
        .iter()
        .any(|word| word.starts_with("-p") || word.starts_with("--package"));
    let packages: &[&str] = if chooses_packages {
        &[]
    } else {
        // The eBPF crate has no tests on a host.
        &["--workspace", "--exclude", "ftp-nat-ebpf"]
    };
    let cargo_test = |quietly: &[&str]| {
        let mut cargo = cargo();
        cargo
            .args(["test", "--locked"])
            .args(quietly)
            .args(packages)
            .args(arguments)
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env(
                OBJECT_VARIABLE,
                ebpf::object(workspace, ebpf::Crate::Datapath),
            )
            .envs(tools.variables());
        run(&mut cargo)
    };
    step("compiling the tests", || {
        cargo_test(&["--no-run", "--quiet"])
    })?;
    // Not quiet: the names of the tests say what was shown. A test that fails hides no other.
    let all = ["--no-fail-fast"];
    let says_so = arguments.iter().any(|word| word == all[0]);
    let tests = || step("tests", || cargo_test(&all[usize::from(says_so)..]));
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
