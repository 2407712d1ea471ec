//! Debian packages: which are missing, and installing them.

use std::{
    collections::BTreeSet,
    env,
    fs::File,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, bail};

use crate::{
    command::{output, program, run},
    progress::{say, step},
    workspace::Workspace,
};

/// Whether xtask may install what it lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installing {
    /// It may.
    Allowed,
    /// `--no-install`: it names what is missing and stops.
    Forbidden,
}

/// A package that would push another one out is the owner's decision, not ours.
const INSTALL: [&str; 4] = ["install", "--yes", "--no-install-recommends", "--no-remove"];

/// Whether this machine has apt at all.
pub(crate) fn available() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Makes sure that `packages` are installed. `why` ends the sentence "needed for ...".
///
/// # Errors
///
/// When a package is missing and may not or cannot be installed; the message has the command.
pub(crate) fn require(
    workspace: &Workspace,
    installing: Installing,
    packages: &[&str],
    why: &str,
) -> anyhow::Result<()> {
    if !available() {
        bail!(
            "this machine has no apt; {why} needs what Debian calls {}",
            packages.join(", ")
        );
    }
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if installing == Installing::Forbidden {
        bail!("{why} needs packages that are missing: apt-get install {list}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("{why} needs packages that only root can install: sudo apt-get install {list}");
    }
    update_once(workspace);
    step(&format!("installing with apt for {why}: {list}"), || {
        apt_get(workspace, &[&INSTALL, &missing[..]].concat())
    })
}

/// Makes sure that programs are there, each named with the package that has it. Wherever they come
/// from: a machine without apt may have them too.
///
/// # Errors
///
/// As [`require`].
pub(crate) fn require_programs(
    workspace: &Workspace,
    installing: Installing,
    programs: &[(&str, &str)],
    why: &str,
) -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    require(workspace, installing, &packages, why)
}

/// Those of `packages` that dpkg does not have.
fn missing<'a>(packages: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    // dpkg-query fails when it does not know one of the names, and still prints the others.
    let known = program("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .args(packages)
        .output()
        .context("cannot start dpkg-query")?;
    let known = String::from_utf8_lossy(&known.stdout);
    let installed: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .collect();
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect())
}

/// Whether apt's lists name a version of `package` that could be installed.
pub(crate) fn offers(package: &str) -> bool {
    has_candidate(&mut program("apt-cache"), package)
}

/// The same, asked of this `apt-cache`.
pub(crate) fn has_candidate(apt_cache: &mut Command, package: &str) -> bool {
    output(apt_cache.args(["policy", package]))
        .is_ok_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
}

/// Fetches the package lists, once a run. A list that cannot be fetched is no reason to stop: the
/// packages may be in those that were.
pub(crate) fn update_once(workspace: &Workspace) {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if UPDATED.swap(true, Ordering::Relaxed) {
        return;
    }
    let updated = step("apt-get update", || apt_get(workspace, &["update"]));
    if let Err(error) = updated {
        say(&format!("going on with the lists there are: {error:#}"));
    }
}

/// Runs apt-get without questions; its output goes to a file that a failure names.
fn apt_get(workspace: &Workspace, arguments: &[&str]) -> anyhow::Result<()> {
    let path = workspace.target.join("apt.log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    run(program("apt-get")
        // Another apt on this machine is waited for.
        .args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(log.try_clone()?)
        .stderr(log))
    .with_context(|| format!("apt-get failed, see {}", workspace.relative(&path)))
}
