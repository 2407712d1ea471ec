//! A room uses only the rooms below it, and no two files use each other.
//!
//! The rooms of a crate are its top-level modules; xtask/rooms.toml lists them from top to bottom,
//! a file of its own for each crate of the workspace. The crate's root (main.rs or lib.rs) stands
//! above all of them. Two rules:
//!
//! - A file uses its own room and the rooms below it, none above.
//! - There is no circle: no file uses a file that uses the first one, by however many steps. A
//!   parent module is a file like any other: either it uses its children or they use it.
//!
//! What counts as a use is said in [`imports`].

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use self::imports::{Crate, Import, read_crate};
use crate::workspace::Workspace;

/// The list of rooms, from the workspace's root.
const LIST: &str = "xtask/rooms.toml";

/// xtask/rooms.toml: by the folder of the crate, as Cargo.toml names it.
type Lists = BTreeMap<String, List>;

/// The rooms of one crate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// From top to bottom.
    rooms: Vec<String>,
}

/// As much of the workspace's Cargo.toml as tells its crates.
#[derive(Deserialize)]
struct Manifest {
    workspace: Members,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<String>,
}

/// Checks every crate of the workspace and prints what is wrong; fails if anything is.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let text = |path: &str| {
        fs::read_to_string(workspace.root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    let manifest: Manifest = toml::from_str(&text("Cargo.toml")?).context("Cargo.toml")?;
    let lists: Lists = toml::from_str(&text(LIST)?).context(LIST)?;

    let mut faults = Vec::new();
    for folder in lists.keys() {
        if !manifest.workspace.members.contains(folder) {
            faults.push(format!("{LIST}: there is no crate {folder}: remove it"));
        }
    }
    for folder in &manifest.workspace.members {
        let Some(list) = lists.get(folder) else {
            faults.push(format!(
                "{LIST}: the rooms of the crate {folder} are missing: list them"
            ));
            continue;
        };
        // Beside a library, main.rs is a crate of its own above it.
        let root = ["lib.rs", "main.rs"]
            .map(|name| Path::new(folder).join("src").join(name))
            .into_iter()
            .find(|root| workspace.root.join(root).exists())
            .with_context(|| format!("{folder}/src has neither lib.rs nor main.rs"))?;
        let read = |path: &Path| fs::read_to_string(workspace.root.join(path)).ok();
        faults.extend(faults_of(folder, &list.rooms, &read_crate(&root, &read)?));
    }
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!(
        "{} uses go up or round: move what both files need into a file below them, or hand it down \
         as an argument (the rules are in xtask/src/lint/rooms.rs)",
        faults.len()
    );
}

/// Everything that is wrong in one crate, each with its place and what to do.
fn faults_of(folder: &str, rooms: &[String], found: &Crate) -> Vec<String> {
    let mut faults = list_faults(folder, rooms, found);
    faults.extend(found.imports.iter().filter_map(|import| {
        let (from, to) = (room_of(&import.from, found)?, room_of(&import.to, found));
        let place = |room: &str| rooms.iter().position(|listed| listed == room);
        match to {
            Some(to) if place(from) <= place(to) => None,
            Some(to) => Some(format!(
                "{}: {} stands above {from} in {LIST}: what {from} needs of it belongs below both",
                shown(import),
                to
            )),
            None => Some(format!(
                "{}: the root uses all rooms and no room uses it: move the item into a room",
                shown(import)
            )),
        }
    }));
    faults.extend(circles(&found.imports).iter().map(|circle| {
        let steps: Vec<String> = circle.iter().map(shown).collect();
        format!("a circle:\n    {}", steps.join("\n    "))
    }));
    faults
}

/// Rooms that are listed and not there, listed twice, or there and not listed.
fn list_faults(folder: &str, rooms: &[String], found: &Crate) -> Vec<String> {
    let there: BTreeSet<&str> = found
        .files
        .values()
        .filter_map(|module| Some(module.first()?.as_str()))
        .collect();
    let mut listed = BTreeSet::new();
    let mut faults = Vec::new();
    for room in rooms {
        if !listed.insert(room.as_str()) {
            faults.push(format!("{LIST}: {folder} has {room} twice"));
        } else if !there.contains(room.as_str()) {
            faults.push(format!("{LIST}: {folder} has no room {room}: remove it"));
        }
    }
    faults.extend(
        there.difference(&listed).map(|room| {
            format!("{LIST}: {folder} has a room {room}: list it above all that it uses")
        }),
    );
    faults
}

/// The room that a file belongs to: none for the crate's root.
fn room_of<'a>(file: &Path, found: &'a Crate) -> Option<&'a str> {
    Some(found.files.get(file)?.first()?.as_str())
}

fn shown(import: &Import) -> String {
    format!(
        "{}:{}: `{}` uses {}",
        import.from.display(),
        import.line,
        import.path,
        import.to.display()
    )
}

/// A shortest circle through each use that is part of one, each set of files once.
fn circles(imports: &[Import]) -> Vec<Vec<Import>> {
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for import in imports {
        let Some(back) = way(imports, &import.to, &import.from) else {
            continue;
        };
        let mut circle = vec![import.clone()];
        circle.extend(back);
        let files: BTreeSet<_> = circle.iter().map(|step| step.from.clone()).collect();
        if seen.insert(files) {
            circles.push(circle);
        }
    }
    circles
}

/// The shortest row of uses that leads from one file to another.
fn way(imports: &[Import], from: &Path, to: &Path) -> Option<Vec<Import>> {
    let mut came_by: BTreeMap<&Path, &Import> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        if file == to {
            let mut steps = Vec::new();
            let mut at = to;
            while at != from {
                let step = came_by.get(at)?;
                steps.push((*step).clone());
                at = &step.from;
            }
            steps.reverse();
            return Some(steps);
        }
        for import in imports.iter().filter(|import| import.from == file) {
            if import.to != from && !came_by.contains_key(import.to.as_path()) {
                came_by.insert(&import.to, import);
                next.push_back(&import.to);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rooms: &[&str], files: &[(&str, &str)]) -> Vec<String> {
        let read = |path: &Path| {
            let (_, text) = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some((*text).to_owned())
        };
        let found = read_crate(Path::new("main.rs"), &read).expect("a crate that parses");
        let rooms: Vec<String> = rooms.iter().map(|room| (*room).to_owned()).collect();
        faults_of("some-crate", &rooms, &found)
    }

    #[test]
    fn uses_that_go_down_are_no_fault() {
        let found = faults(
            &["top", "bottom"],
            &[
                (
                    "main.rs",
                    "mod bottom; mod top; use crate::{bottom::B, top::T};",
                ),
                (
                    "top.rs",
                    "mod part; use crate::bottom::B; use self::part::P;",
                ),
                ("top/part.rs", "use crate::bottom::B;"),
                (
                    "bottom.rs",
                    "pub struct B; #[cfg(test)] mod tests { use crate::top::T; }",
                ),
            ],
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn an_upward_use_is_told_with_its_place() {
        let found = faults(
            &["top", "bottom"],
            &[
                ("main.rs", "mod bottom; mod top;"),
                ("top.rs", ""),
                ("bottom.rs", "mod part;"),
                ("bottom/part.rs", "\nuse super::super::top::T;"),
            ],
        );
        assert_eq!(
            found,
            [
                "bottom/part.rs:2: `super::super::top::T` uses top.rs: top stands above bottom in \
                 xtask/rooms.toml: what bottom needs of it belongs below both"
            ]
        );
    }

    #[test]
    fn a_use_of_the_root_is_a_fault_even_for_what_it_re_exports() {
        let found = faults(
            &["a", "b"],
            &[
                ("main.rs", "mod a; mod b; pub use b::B;"),
                ("a.rs", "use crate::B;"),
                ("b.rs", ""),
            ],
        );
        assert_eq!(
            found,
            [
                "a.rs:1: `crate::B` uses main.rs: the root uses all rooms and no room uses it: \
                 move the item into a room"
            ]
        );
    }

    #[test]
    fn a_circle_is_told_once_with_each_of_its_steps() {
        let found = faults(
            &["a"],
            &[
                ("main.rs", "mod a;"),
                ("a.rs", "mod x; mod y; mod z; mod out;"),
                ("a/x.rs", "use super::y::Y;"),
                ("a/y.rs", "use super::{out::O, z::Z};"),
                ("a/z.rs", "\nfn f() { super::x::g() }"),
                ("a/out.rs", ""),
            ],
        );
        assert_eq!(
            found,
            ["a circle:\n    \
              a/x.rs:1: `super::y::Y` uses a/y.rs\n    \
              a/y.rs:1: `super::z::Z` uses a/z.rs\n    \
              a/z.rs:2: `super::x::g` uses a/x.rs"]
        );
    }

    #[test]
    fn a_parent_and_a_child_may_not_use_each_other() {
        let parent_uses = ("a.rs", "mod b; fn f() { b::g() } pub const SIZE: u8 = 1;");
        let parent_does_not = ("a.rs", "mod b; pub const SIZE: u8 = 1;");
        let child = ("a/b.rs", "use super::SIZE;");
        let root = ("main.rs", "mod a;");
        assert_eq!(faults(&["a"], &[root, parent_uses, child]).len(), 1);
        assert_eq!(faults(&["a"], &[root, parent_does_not, child]), [""; 0]);
    }

    #[test]
    fn the_list_names_the_rooms_that_are_there() {
        let found = faults(
            &["gone", "a", "a"],
            &[("main.rs", "mod a; mod b;"), ("a.rs", ""), ("b.rs", "")],
        );
        assert_eq!(
            found,
            [
                "xtask/rooms.toml: some-crate has no room gone: remove it",
                "xtask/rooms.toml: some-crate has a twice",
                "xtask/rooms.toml: some-crate has a room b: list it above all that it uses",
            ]
        );
    }
}
