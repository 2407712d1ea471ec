//! Debian packages: which are missing, and installing them.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
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
    let packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| *package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    require(workspace, installing, &packages, why)
}

/// Whether this machine has a program, wherever it comes from.
pub(crate) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(name).is_file())
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

/// This machine's release and where its packages come from, as lines for sources.list.
///
/// # Errors
///
/// When apt knows no source of it.
pub(crate) fn sources() -> anyhow::Result<(String, String)> {
    let targets = output(program("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(CODENAME) $(REPO_URI) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    let os = fs::read_to_string("/etc/os-release")?;
    let of_os = |key: &str| {
        os.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .with_context(|| format!("/etc/os-release has no {key}"))
    };
    let (system, release) = (of_os("ID")?, of_os("VERSION_CODENAME")?);
    let keyring = format!("/usr/share/keyrings/{system}-archive-keyring.gpg");
    let mut lines = String::new();
    for target in targets.lines() {
        let words: Vec<_> = target.split(' ').collect();
        // Not what others publish for this release.
        if let [origin, codename, uri, component] = words[..]
            && origin.eq_ignore_ascii_case(&system)
            && codename.starts_with(&release)
        {
            lines += &format!("deb [signed-by={keyring}] {uri} {codename} {component}\n");
        }
    }
    if lines.is_empty() {
        bail!("apt knows no source of {system} {release}");
    }
    Ok((release, lines))
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
