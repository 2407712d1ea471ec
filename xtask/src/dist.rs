//! What users install: a Debian package and a tarball, under target/dist.

mod architecture;
mod check;
mod debian;
mod layout;
mod reproducible;
mod root;
mod third_party;

use std::fs;

use anyhow::{Context as _, ensure};

pub(crate) use self::architecture::Architecture;
use self::{debian::Version, layout::Layout};
use crate::{
    apt::{self, Installing},
    build::{self, Linking},
    command::{output, program, run},
    progress::{say, step},
    workspace::Workspace,
};

/// What packing runs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 6] = [
    ("dh", "debhelper"),
    ("dpkg-buildpackage", "dpkg-dev"),
    ("git", "git"),
    ("gzip", "gzip"),
    ("lintian", "lintian"),
    ("readelf", "binutils"),
];

/// Builds the packages, and with `checks` tries them on a Debian of their own.
pub(crate) fn run_all(
    workspace: &Workspace,
    installing: Installing,
    checks: bool,
    architecture: Architecture,
) -> anyhow::Result<()> {
    ensure!(
        architecture.is_native() || !checks,
        "packages of another architecture cannot be run here; `cargo xtask vm --kernel arm64` runs \
         what is in them"
    );
    apt::require_programs(workspace, installing, &PROGRAMS, "the packages")?;
    let dist = workspace.target.join("dist");
    let native = build::for_distribution(workspace, installing, Linking::Dynamic)?;
    let [binary, portable] = if architecture.is_native() {
        let portable = build::for_distribution(workspace, installing, Linking::Static)?;
        [native.clone(), portable]
    } else {
        [
            architecture.binary(workspace, installing, Linking::Dynamic)?,
            architecture.binary(workspace, installing, Linking::Static)?,
        ]
    };
    let libraries = output(program("readelf").arg("--dynamic").arg(&portable))?;
    ensure!(
        !libraries.contains("(NEEDED)"),
        "the static binary needs libraries:\n{libraries}"
    );
    let work = dist.join(format!("work-{}", architecture.debian()));
    let layout = Layout::make(workspace, &work, architecture, &binary, &native)?;
    let built = step("Debian package", || {
        debian::build(workspace, &layout, &Version::of_this())
    })?;
    lint(&built)?;
    let package = dist.join(built.package.file_name().context("it has a name")?);
    fs::copy(&built.package, &package)?;
    let tarball = step("tarball", || layout.tarball(&dist, &portable))?;
    for result in &[package, tarball] {
        say(&format!(
            "{} ({} KiB)",
            workspace.relative(result),
            fs::metadata(result)?.len() / 1024
        ));
    }
    if checks {
        check::run_all(workspace, installing, &layout, &built)?;
    }
    Ok(())
}

/// Shows what lintian finds; an error of Debian's policy fails.
fn lint(built: &debian::Built) -> anyhow::Result<()> {
    step("lintian", || {
        run(program("lintian")
            .args(["--fail-on", "error", "--info", "--tag-display-limit", "0"])
            .arg(&built.changes))
    })
}
