//! What the kernel has of a gateway, seen without asking ftp-nat.

use std::{collections::BTreeSet, fs, path::Path};

use aya::{
    maps::MapInfo,
    programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType, loaded_programs},
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
                match SchedClassifier::query_tcx(interface, direction) {
                    Ok((_, programs)) => Ok(programs),
                    // Before Linux 6.6 there is no TCX to ask for.
                    Err(ProgramError::SyscallError(error))
                        if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
                    {
                        Ok(Vec::new())
                    }
                    Err(error) => Err(error.into()),
                }
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
            let maps = map_numbers().any(|number| self.maps.contains(&number));
            (!programs && !maps).then_some(())
        });
    }
}

/// The numbers of all maps, none of which is opened for it: a program array that loses its last user
/// is emptied a moment later, and who opens and closes it within that moment makes the kernel keep it
/// for ever (`prog_array_map_clear` of kernel/bpf/arraymap.c counts one user too many; seen with
/// Linux 6.18).
fn map_numbers() -> impl Iterator<Item = u32> {
    // linux/bpf.h
    const BPF_MAP_GET_NEXT_ID: i32 = 12;
    let mut last = 0;
    std::iter::from_fn(move || {
        // Where to start, what was found, flags.
        let mut attr = [last, 0_u32, 0];
        // SAFETY: the kernel reads and writes within the size given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_GET_NEXT_ID,
                attr.as_mut_ptr(),
                size_of_val(&attr),
            )
        };
        last = attr[1];
        (result == 0).then_some(last)
    })
}
