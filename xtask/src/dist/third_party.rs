//! The licences of the crates that the command contains: most ask that their text goes with it.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde_json::Value;

use super::reproducible::files;
use crate::{
    command::{cargo, output},
    workspace::Workspace,
};

/// Each crate with its licence, and each text once, under the names of those it belongs to.
pub(crate) fn licences(workspace: &Workspace) -> anyhow::Result<String> {
    let tree = output(
        cargo()
            .args([
                "tree",
                "--locked",
                "--package",
                "ftp-nat",
                "--package",
                "ftp-nat-ebpf",
            ])
            // What is compiled in: neither build scripts' nor tests' dependencies.
            .args([
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "none",
                "--format",
                "{p}",
            ])
            .current_dir(&workspace.root),
    )?;
    let metadata = output(
        cargo()
            .args(["metadata", "--locked", "--format-version", "1"])
            .current_dir(&workspace.root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().context("no packages")?;

    let mut list = String::from("ftp-nat contains these crates:\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = Vec::new();
    for line in tree.lines() {
        // "anyhow v1.0.102"; those of this workspace have a path behind.
        let mut words = line.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let Some(package) = packages.iter().find(|it| {
            it["name"] == name
                && it["version"] == version.trim_start_matches('v')
                && it["source"].is_string()
        }) else {
            continue;
        };
        let crate_name = format!("{name} {}", version.trim_start_matches('v'));
        if seen.contains(&crate_name) {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or("see its text below");
        writeln!(list, "  {crate_name}: {licence}")?;
        let manifest = package["manifest_path"].as_str().context("no manifest")?;
        let folder = Path::new(manifest).parent().context("in a folder")?;
        for file in files(folder)? {
            let file_name = file.file_name().unwrap_or_default().to_string_lossy();
            let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|prefix| file_name.to_uppercase().starts_with(prefix));
            if is_licence && file.is_file() {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let text = text.replace('\r', "").trim().to_owned();
                texts.entry(text).or_default().push(crate_name.clone());
            }
        }
        seen.push(crate_name);
    }
    for (text, crates) in texts {
        let crates = crates.join(", ");
        write!(list, "\n{}\n{crates}:\n\n{text}\n", "-".repeat(78))?;
    }
    Ok(list)
}
