//! A scene as docs/topologies.md has it: its blocks and its table.

use std::collections::BTreeMap;

use ftp_nat_tests::client::Mode;

/// The document whose scenes are played.
const GUIDE: &str = include_str!("../../../docs/topologies.md");

/// One scene of the document.
#[derive(Debug)]
pub struct Scene {
    /// Its heading.
    pub title: String,
    /// What stands in its blocks, by what they are marked with.
    blocks: BTreeMap<String, String>,
    /// Its table, without the head.
    pub rows: Vec<Row>,
}

/// A row of a scene's table.
#[derive(Debug)]
pub struct Row {
    /// The first cell: modes with commas between, and perhaps ` by ` and the way that is meant.
    pub modes: Vec<Mode>,
    /// The words behind `by`.
    pub by: Option<String>,
    /// Whether it works, without ftp-nat, with the kernel's helper, with ftp-nat; none for a dash.
    pub works: [Option<bool>; 3],
}

impl Scene {
    /// All of the document, in its order.
    pub fn all() -> Vec<Self> {
        GUIDE
            .split("\n## ")
            .skip(1)
            .map(Self::parse)
            .filter(|scene| !scene.rows.is_empty())
            .collect()
    }

    /// The one under this heading.
    #[track_caller]
    pub fn named(title: &str) -> Self {
        let found = Self::all().into_iter().find(|scene| scene.title == title);
        found.unwrap_or_else(|| panic!("docs/topologies.md has no scene {title:?}"))
    }

    fn parse(text: &str) -> Self {
        let (title, body) = text.split_once('\n').unwrap();
        let mut blocks = BTreeMap::<String, String>::new();
        let mut rows = Vec::new();
        let mut lines = body.lines();
        while let Some(line) = lines.next() {
            if let Some(mark) = line.strip_prefix("```") {
                let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
                *blocks.entry(mark.to_owned()).or_default() += &(block.join("\n") + "\n");
            } else if line.starts_with('|') {
                rows.extend(Row::parse(line));
            }
        }
        Self {
            title: title.to_owned(),
            blocks,
            rows,
        }
    }

    /// The same with another configuration.
    pub fn with_toml(scene: &Self, change: impl FnOnce(&str) -> String) -> Self {
        let mut blocks = scene.blocks.clone();
        blocks.insert("toml".to_owned(), change(&scene.blocks["toml"]));
        Self {
            title: scene.title.clone(),
            blocks,
            rows: Vec::new(),
        }
    }

    /// What stands in the block of this mark.
    pub fn block(&self, mark: &str) -> Option<&str> {
        self.blocks.get(mark).map(String::as_str)
    }
}

impl Row {
    /// None: the table's head.
    fn parse(line: &str) -> Option<Self> {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, without, helper, ours] = cells[..] else {
            panic!("a row has four cells: {line}");
        };
        if what.is_empty() || what.starts_with("---") {
            return None;
        }
        let (modes, by) = match what.split_once(" by ") {
            Some((modes, by)) => (modes, Some(by.to_owned())),
            None => (what, None),
        };
        let modes = modes.split(", ").map(|word| match word {
            "PASV" => Mode::Pasv,
            "EPSV" => Mode::Epsv,
            "PORT" => Mode::Port,
            "EPRT" => Mode::Eprt,
            other => panic!("no mode of FTP: {other:?} in {line}"),
        });
        let works = [without, helper, ours].map(|cell| match cell {
            "–" => None,
            cell if cell.starts_with("works") => Some(true),
            cell if cell.starts_with("fails") => Some(false),
            cell => panic!("neither works nor fails nor a dash: {cell:?}"),
        });
        Some(Self {
            modes: modes.collect(),
            by,
            works,
        })
    }
}
