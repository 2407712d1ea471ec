//! Every test: of the crates, of the datapath, and of the whole in namespaces.

use crate::{
    apt::Installing,
    bench,
    build::OBJECT_VARIABLE,
    command::{cargo, run},
    ebpf, lab,
    progress::step,
    tools,
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
    // Not quiet: the names of the tests say what was shown.
    step("tests", || cargo_test(&[]))?;
    if !arguments.is_empty() {
        return Ok(());
    }
    step("the lab by hand", || lab::smoke(workspace, &tools))?;
    // Not for its figures: so that it still works when somebody needs them.
    step("a smoke run of the benchmark", || {
        bench::smoke(workspace, installing, tools.clone())
    })
}
