//! `ftp-nat doctor`: what keeps FTP from working here, why, and what to do.
//!
//! One file a group of checks. Each check looks and adds what it finds; none changes anything, and
//! each ends within a limit.

mod addresses;
mod attachment;
mod cluster;
mod ethtool;
pub mod finding;
mod firewall;
mod history;
mod interfaces;
mod kernel_routes;
mod losses;
mod machine;
mod pools;
mod report;
mod routes;

mod servers;
mod sockets;
pub mod subject;
mod tables;

use self::{
    finding::{Findings, Severity},
    report::Report,
    subject::Subject,
};
use crate::{
    cli::DoctorArgs,
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// A group of checks.
type Check = (&'static str, fn(&Subject, &mut Findings));

/// The groups that look at a gateway, in the order of what depends on what.
const CHECKS: [Check; 13] = [
    ("BPF file system", machine::pins),
    ("programs and daemon", attachment::check),
    ("interfaces", interfaces::check),
    ("forwarding", routes::forwarding),
    ("routes and reverse-path filter", routes::routes),
    ("public addresses", addresses::check),
    ("servers", servers::check),
    ("pools", pools::check),
    ("cluster", cluster::check),
    ("ports", sockets::check),
    ("tables", tables::check),
    ("what has happened", history::check),
    ("losses and reloads", losses::check),
];

/// Looks, and says what it found.
///
/// # Errors
///
/// When the arguments or the configuration are wrong, or when something is wrong here: then it has
/// been printed.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut report = Report::default();
    let mut findings = Findings::default();
    machine::kernel(&mut findings);
    // Such a kernel has no gateway, and the other checks ask it for what it lacks.
    let can_run = !findings
        .all()
        .iter()
        .any(|it| it.name == "kernel-feature-missing");
    report.add(None, "kernel and privileges", findings);

    let subjects = if can_run {
        Subject::find(&args.run)?
    } else {
        Vec::new()
    };
    if can_run && subjects.is_empty() {
        let mut findings = Findings::default();
        findings.error(
            "nothing-to-examine",
            None,
            "not configured yet: no gateway is loaded in this network namespace, and no configuration \
             is there",
            "write /etc/ftp-nat/ftp-nat.toml (the package's example has every key; `ftp-nat check` \
             finds mistakes), or name what is to be: --config FILE, or --wan IF --publish \
             PUBLIC=SERVER as for `ftp-nat run`",
        );
        report.add(None, "programs and daemon", findings);
    }
    for subject in &subjects {
        report.begin(subject);
        for (title, check) in CHECKS {
            let mut findings = Findings::default();
            check(subject, &mut findings);
            report.add(Some(subject), title, findings);
        }
        let mut findings = Findings::default();
        let ruleset = firewall::read(&mut findings);
        firewall::helper(subject, &ruleset, &mut findings);
        firewall::nat(subject, &ruleset, &mut findings);
        firewall::mark(subject, &ruleset, &mut findings);
        firewall::drops(subject, &ruleset, &mut findings);
        report.add(Some(subject), "firewall and NAT", findings);
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.text())?;
    }
    match report.count(Severity::Error) + report.count(Severity::Warning) {
        0 => Ok(()),
        _ => Err(Failure::Found),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The names of findings in a source file: each stands in front of its cause, in a line or on
    /// its own.
    fn names(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names(&path, found);
                continue;
            }
            let source = fs::read_to_string(path).unwrap();
            // Tests have findings of their own.
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for (start, _) in source.match_indices('"') {
                let Some((name, behind)) = source[start + 1..].split_once('"') else {
                    continue;
                };
                let is_name = name.contains('-')
                    && name.chars().all(|it| it.is_ascii_lowercase() || it == '-');
                let is_finding = behind
                    .trim_start_matches([',', ' ', '\n'])
                    .starts_with("None")
                    || behind
                        .trim_start_matches([',', ' ', '\n'])
                        .starts_with("Some(Cause");
                if is_name && is_finding {
                    found.insert(name.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_finding_is_explained_in_the_documentation() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        names(&root.join("src/doctor"), &mut found);
        assert!(
            found.contains("no-way-back") && found.len() > 40,
            "{found:?}"
        );
        let text = fs::read_to_string(root.join("../docs/troubleshooting.md")).unwrap();
        let missing: Vec<_> = found
            .iter()
            .filter(|name| !text.contains(&format!("`{name}`")))
            .collect();
        assert!(
            missing.is_empty(),
            "not in docs/troubleshooting.md: {missing:?}"
        );
    }
}
