//! What the kernel has of a gateway, seen without asking ftp-nat.

use std::{collections::BTreeSet, fs, path::Path};

use aya::{
    maps::{MapInfo, loaded_maps},
    programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs},
};
use ftp_nat_tests::{
    lab::{LAN, Lab, WAN},
    process,
};

use crate::{PATIENCE, wait_for};

/// Every program at an interface of the router, and the qdiscs that could hold some.
pub(crate) fn attached(lab: &Lab) -> Vec<String> {
    let mut found = Vec::new();
    for interface in [WAN, LAN] {
        for (direction, name) in [
            (TcAttachType::Ingress, "ingress"),
            (TcAttachType::Egress, "egress"),
        ] {
            let programs = lab.router.run(|| {
                let (_, programs) = SchedClassifier::query_tcx(interface, direction)?;
                Ok(programs)
            });
            for program in programs.unwrap() {
                let program = program.name_as_str().unwrap_or_default();
                found.push(format!("{interface} {name} tcx {program}"));
            }
            for line in tc(lab, &["filter", "show", "dev", interface, name]) {
                found.push(format!("{interface} {name} {line}"));
            }
        }
        for line in tc(lab, &["qdisc", "show", "dev", interface]) {
            if line.contains("clsact") {
                found.push(format!("{interface} {line}"));
            }
        }
    }
    found
}

fn tc(lab: &Lab, words: &[&str]) -> Vec<String> {
    let outcome = process::run(lab.router.command("tc").unwrap().args(words), PATIENCE).unwrap();
    // An interface without clsact has no filters to be listed, which tc calls an error.
    outcome.text().lines().map(str::to_owned).collect()
}

/// The numbers of a gateway's programs and maps.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) programs: BTreeSet<u32>,
    pub(crate) maps: BTreeSet<u32>,
}

impl Objects {
    /// Those that are pinned below a folder.
    pub(crate) fn pinned_below(folder: &Path) -> Self {
        let mut objects = Self::default();
        objects.collect(folder);
        objects
    }

    fn collect(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.collect(&path);
            } else if folder.ends_with("maps") {
                self.maps.insert(MapInfo::from_pin(&path).unwrap().id());
            } else if folder.ends_with("programs") {
                self.programs
                    .insert(ProgramInfo::from_pin(&path).unwrap().id());
            }
        }
    }

    /// Waits until the kernel has none of them any more: it frees them when nobody can be using
    /// them.
    pub(crate) fn wait_until_gone(&self) {
        wait_for("the kernel to free programs and maps", || {
            let programs = loaded_programs()
                .flatten()
                .any(|it| self.programs.contains(&it.id()));
            let maps = loaded_maps()
                .flatten()
                .any(|it| self.maps.contains(&it.id()));
            (!programs && !maps).then_some(())
        });
    }
}
