//! Whatever the documents name is there: files that links lead to, headings behind a `#`, and paths
//! of the source in backquotes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;

/// Folders whose files are written with their path from the workspace's root.
const FOLDERS: [&str; 8] = [
    ".ci/",
    "docs/",
    "ftp-nat-common/",
    "ftp-nat-ebpf/",
    "ftp-nat/",
    "packaging/",
    "tests/",
    "xtask/",
];

/// Checks the documents at the top and under docs/, and prints what leads nowhere.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for folder in ["", "docs"] {
        let path = workspace.root.join(folder);
        let entries =
            fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut documents: Vec<PathBuf> = entries
            .map(|entry| Ok(Path::new(folder).join(entry?.file_name())))
            .collect::<anyhow::Result<_>>()?;
        documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
        documents.sort();
        let read = |path: &Path| fs::read_to_string(workspace.root.join(path)).ok();
        let exists = |path: &Path| workspace.root.join(path).exists();
        for document in documents {
            faults.extend(faults_of(&document, &read, &exists));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} links or paths lead nowhere", faults.len());
}

/// What one document names and is not there, each with its line.
fn faults_of(
    document: &Path,
    read: &dyn Fn(&Path) -> Option<String>,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    let mut faults = Vec::new();
    let text = read(document).unwrap_or_default();
    let folder = document.parent().unwrap_or(Path::new(""));
    let mut is_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if is_code {
            continue;
        }
        let place = format!("{}:{}", document.display(), number + 1);
        for target in links(line) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                document.to_owned()
            } else {
                folder.join(file)
            };
            if !exists(&path) {
                faults.push(format!("{place}: there is no {}", path.display()));
            } else if !heading.is_empty()
                && !headings(&read(&path).unwrap_or_default()).contains(heading)
            {
                faults.push(format!(
                    "{place}: {} has no heading #{heading}",
                    path.display()
                ));
            }
        }
        for path in source_paths(line) {
            if !exists(Path::new(path)) {
                faults.push(format!("{place}: there is no {path}"));
            }
        }
    }
    faults
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// Paths of the source: words in backquotes that begin with one of its folders.
fn source_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            && !word.contains([' ', '*', '{', '<'])
    })
}

/// The headings of a document as links name them.
fn headings(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_that_lead_nowhere_are_told_with_their_line() {
        let files = [
            (
                "docs/a.md",
                "# A\n[b](b.md) [gone](gone.md) [top](../README.md#two-words)\n\
                 [none](b.md#none) [web](https://example.net/x) [here](#a) ![chart](gone.svg)\n\
                 `xtask/src/main.rs` `xtask/gone.rs` `cargo xtask lint` `tests/*`\n\
                 ```\n[in code](gone.md)\n```\n",
            ),
            ("docs/b.md", ""),
            ("README.md", "## Two, words!\n"),
            ("docs/../README.md", "## Two, words!\n"),
            ("xtask/src/main.rs", ""),
        ];
        let read = |path: &Path| {
            let (_, text) = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some((*text).to_owned())
        };
        let exists = |path: &Path| read(path).is_some();
        assert_eq!(
            faults_of(Path::new("docs/a.md"), &read, &exists),
            [
                "docs/a.md:2: there is no docs/gone.md",
                "docs/a.md:3: docs/b.md has no heading #none",
                "docs/a.md:3: there is no docs/gone.svg",
                "docs/a.md:4: there is no xtask/gone.rs",
            ]
        );
    }
}
