//! Every test: of the crates, of the datapath, and of the whole in namespaces.

use anyhow::bail;
use ftp_nat_tests::tools::Tools;

use crate::{
    apt::{self, Installing},
    bench,
    build::{self, OBJECT_VARIABLE},
    command::{cargo, run},
    ebpf,
    progress::step,
    servers,
    workspace::Workspace,
};

/// Installs what the lab lacks, and builds what it runs.
pub(crate) fn prepare_lab(workspace: &Workspace, installing: Installing) -> anyhow::Result<Tools> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the lab makes network namespaces and loads eBPF, which needs root \
             (`cargo test` runs the tests that need none)"
        );
    }
    apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
    Ok(Tools {
        servers: servers::unpack(workspace, installing)?,
        binary: build::release(workspace, installing)?,
    })
}

/// Runs the tests; `arguments` are those of `cargo test`, to choose some of them.
pub(crate) fn run_all(
    workspace: &Workspace,
    installing: Installing,
    arguments: &[String],
) -> anyhow::Result<()> {
    let tools = prepare_lab(workspace, installing)?;
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
    // Not for its figures: so that it still works when somebody needs them.
    step("a smoke run of the benchmark", || {
        bench::smoke(workspace, installing, tools.clone())
    })
}
