//! The attacks of the tests over the kernel's own helper and over ftp-nat, side by side: the table in
//! docs/security.md.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context as _, bail};
use ftp_nat_tests::tools::Tools;

use crate::{
    command::cargo,
    progress::{say, step},
    workspace::Workspace,
};

/// Where the table is.
const DOCUMENT: &str = "docs/security.md";
/// The lines around it.
const MARKS: [&str; 2] = ["<!-- attacks: begin -->", "<!-- attacks: end -->"];

/// Names who is attacked; read by `tests/tests/attacks/main.rs`.
const VARIABLE: &str = "FTP_NAT_LAB_ATTACKED";

/// Who is attacked: the variable's value, and a column's title.
const COLUMNS: [(&str, &str); 2] = [("kernel", "the kernel's helper"), ("ftp-nat", "ftp-nat")];

/// The kinds of attacks in the table's order: the tests' modules, each with its title.
const KINDS: [(&str, &str); 17] = [
    ("handshakes", "Handshakes that nobody finishes"),
    (
        "floods",
        "Floods of 50,000 packets a second beside 200 clients",
    ),
    ("second_syns", "A SYN for a connection that lives"),
    ("windows", "Numbers outside the window"),
    ("endings", "Forged endings"),
    ("errors", "Forged ICMP errors"),
    ("openings", "One client opens what it can"),
    ("storms", "Announcements without end"),
    ("sources", "Sources that cannot be outside"),
    ("guests", "Somebody else's address"),
    ("browsers", "Connections that were not meant as FTP"),
    ("printed", "Replies with text of an attacker"),
    ("own_ports", "Ports that belong to somebody else"),
    ("ranges", "The range of passive ports of a server with TLS"),
    ("bounces", "Addresses that are nobody's"),
    ("smuggling", "A PORT that the gateway does not see"),
    ("hops", "Text that dies behind the gateway"),
];

/// What a test that means nothing over one of the two says when it ends.
const NOT_APPLICABLE: &str = "not applicable";

/// What came of a test: nothing is wrong, or what is.
type Result = std::result::Result<(), String>;

/// What came of each test over each of [`COLUMNS`].
type Rows = BTreeMap<String, Vec<Option<Result>>>;

/// Runs the attacks over both, those of the kinds whose titles have these words or all, and writes the
/// table; the other kinds stay in the document as they are.
pub(super) fn run(workspace: &Workspace, tools: &Tools, words: Option<&str>) -> anyhow::Result<()> {
    let wanted: Vec<_> = KINDS
        .iter()
        .filter(|(_, title)| words.is_none_or(|words| title.contains(words)))
        .map(|(module, _)| *module)
        .collect();
    if wanted.is_empty() {
        bail!("no kind of attack has {words:?} in its title");
    }
    let mut rows = Rows::new();
    for (column, (value, title)) in COLUMNS.into_iter().enumerate() {
        let said = step(&format!("attacks on {title}"), || {
            attack(workspace, tools, value, &wanted)
        })?;
        for (name, result) in results(&said) {
            let row = rows
                .entry(name)
                .or_insert_with(|| vec![None; COLUMNS.len()]);
            row[column] = Some(result);
        }
    }
    if rows.is_empty() {
        bail!("no attack was run");
    }
    let path = workspace.root.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let table = table(&rows, &wanted, &text)?;
    println!("{table}");
    fs::write(&path, put_between_marks(&text, &table)?)
        .with_context(|| format!("cannot write {DOCUMENT}"))?;
    say(&format!("wrote the table in {DOCUMENT}"));
    Ok(())
}

/// Runs the tests of these modules, of which any may fail, and gives what they said.
fn attack(
    workspace: &Workspace,
    tools: &Tools,
    attacked: &str,
    modules: &[&str],
) -> anyhow::Result<String> {
    let output = cargo()
        .args(["test", "--locked", "--package", "ftp-nat-tests"])
        .args(["--test", "attacks", "--"])
        .args(["--include-ignored", "--test-threads", "3"])
        .args(modules.iter().map(|module| format!("{module}::")))
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("RUST_BACKTRACE", "0")
        .env(VARIABLE, attacked)
        .envs(tools.variables())
        .output()
        .context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains("\ntest result:") {
        bail!(
            "the attacks were not run:\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(said)
}

/// Each test's name and what came of it, from what the test program prints.
fn results(said: &str) -> Vec<(String, Result)> {
    let outcomes = said.lines().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        matches!(outcome, "ok" | "FAILED").then_some((name, outcome))
    });
    outcomes
        .map(|(name, outcome)| {
            let result = match outcome {
                "ok" => Ok(()),
                _ => Err(reason(said, name)),
            };
            (name.to_owned(), result)
        })
        .collect()
}

/// What the test said when it failed: its first line, and how many cases of a table there are.
fn reason(said: &str, name: &str) -> String {
    let Some((_, after)) = said.split_once(&format!("---- {name} stdout ----")) else {
        return String::new();
    };
    let mut lines = after
        .lines()
        .skip_while(|line| !line.contains(" panicked at "))
        .skip(1)
        .take_while(|line| !line.is_empty() && !line.starts_with("note: "));
    let first = lines.next().unwrap_or_default();
    let first = first
        .strip_prefix("called `Result::unwrap()` on an `Err` value: ")
        .unwrap_or(first);
    match lines.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

/// The table, kind by kind: those that were run, and the others as the document has them.
fn table(rows: &Rows, run: &[&str], document: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    for (module, title) in KINDS {
        if !run.contains(&module) {
            text.push_str(&section(document, title));
            continue;
        }
        writeln!(text, "\n### {title}\n")?;
        write!(text, "| attack |")?;
        for (_, title) in COLUMNS {
            write!(text, " {title} |")?;
        }
        writeln!(text, "\n| --- |{}", " --- |".repeat(COLUMNS.len()))?;
        for (name, row) in rows {
            let Some(test) = name.strip_prefix(&format!("{module}::")) else {
                continue;
            };
            write!(text, "| {} |", test.replace('_', " "))?;
            for result in row {
                write!(text, " {} |", cell(result.as_ref()))?;
            }
            writeln!(text)?;
        }
    }
    let unknown: Vec<_> = rows
        .keys()
        .filter(|name| !KINDS.iter().any(|(module, _)| name.starts_with(module)))
        .collect();
    if !unknown.is_empty() {
        bail!("attacks of no known kind, add it to KINDS: {unknown:?}");
    }
    Ok(text)
}

/// What the document has of a kind: its title and its rows; nothing when it was never run.
fn section(document: &str, title: &str) -> String {
    let [begin, end] = MARKS;
    let between = document
        .split_once(begin)
        .and_then(|(_, rest)| rest.split_once(end))
        .map_or("", |(between, _)| between);
    between
        .split("\n### ")
        .find(|part| part.lines().next() == Some(title))
        .map_or_else(String::new, |part| format!("\n### {}\n", part.trim_end()))
}

/// What a column says.
fn cell(result: Option<&Result>) -> String {
    match result {
        None => "not run".to_owned(),
        Some(Ok(())) => "holds".to_owned(),
        Some(Err(why)) if why.starts_with(NOT_APPLICABLE) => "–".to_owned(),
        Some(Err(why)) => {
            let why: String = why.chars().take(160).collect();
            format!("**fails**: {}", why.replace('|', "\\|"))
        }
    }
}

/// The document with this table in the old one's place.
fn put_between_marks(text: &str, table: &str) -> anyhow::Result<String> {
    let [begin, end] = MARKS;
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("{DOCUMENT} has no line {begin}"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("{DOCUMENT} has no line {end} behind {begin}"))?;
    Ok(format!("{before}{begin}\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SAID: &str = "\
running 3 tests
test guests::one ... ok
test guests::two ... FAILED
test guests::three - should not be run ... ignored

failures:

---- guests::two stdout ----
so far so good

thread 'guests::two' (1) panicked at tests/guests.rs:1:1:
the first case: wrong
the second case: wrong too
note: run with `RUST_BACKTRACE=1`

failures:
    guests::two

test result: FAILED. 1 passed; 1 failed
";

    #[test]
    fn results_are_read_with_their_reasons() {
        let why = "the first case: wrong (and 1 more)".to_owned();
        assert_eq!(
            results(SAID),
            [
                ("guests::one".to_owned(), Ok(())),
                ("guests::two".to_owned(), Err(why)),
            ]
        );
    }

    #[test]
    fn kinds_that_were_not_run_stay_as_they_were() {
        let [begin, end] = MARKS;
        let kept = "\n### Forged endings\n\n| attack |\n| --- |\n| a reset | holds | holds |\n";
        let old = format!("{begin}\n{kept}\n### A kind that is no more\n\n| attack |\n{end}");
        let rows = Rows::from([("guests::one".to_owned(), vec![Some(Ok(())), None])]);
        let new = table(&rows, &["guests"], &old).unwrap();
        assert_eq!(
            new,
            format!(
                "{kept}\n### Somebody else's address\n\n| attack | the kernel's helper | ftp-nat |\n\
                 | --- | --- | --- |\n| one | holds | not run |\n"
            )
        );
    }

    /// A test file's attacks: the names of its tests.
    fn attacks(source: &str) -> Vec<String> {
        let tests = source.split("#[test]\n").skip(1);
        let names = tests.filter_map(|test| test.split_once("fn ")?.1.split_once('('));
        names.map(|(name, _)| name.replace('_', " ")).collect()
    }

    #[test]
    fn every_attack_has_its_row() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let document = fs::read_to_string(root.join(DOCUMENT)).unwrap();
        let mut missing = Vec::new();
        for file in fs::read_dir(root.join("tests/tests/attacks")).unwrap() {
            let path = file.unwrap().path();
            let module = path.file_stem().unwrap().to_str().unwrap();
            let attacks = attacks(&fs::read_to_string(&path).unwrap());
            let kind = KINDS.iter().find(|(name, _)| *name == module);
            let rows = kind.map_or_else(String::new, |(_, title)| section(&document, title));
            missing.extend(
                attacks
                    .into_iter()
                    .filter(|name| !rows.contains(&format!("\n| {name} |")))
                    .map(|name| format!("{module}: {name}")),
            );
        }
        assert!(
            missing.is_empty(),
            "not in {DOCUMENT}, `cargo xtask compare --attacks --section WORDS` runs the kinds whose titles \
             have WORDS: {missing:#?}"
        );
    }

    #[test]
    fn the_table_takes_the_old_ones_place() {
        let [begin, end] = MARKS;
        let old = format!("above\n{begin}\nold\n{end}\nbelow\n");
        let new = put_between_marks(&old, "new").unwrap();
        assert_eq!(new, format!("above\n{begin}\nnew\n{end}\nbelow\n"));
        assert!(put_between_marks("nothing", "new").is_err());
    }
}
