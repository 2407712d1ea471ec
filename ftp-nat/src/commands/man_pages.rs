//! `ftp-nat man-pages`: the manual, made from the command line's own definition, so that it says
//! what the program does and not what it once did.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::{
    cli::{Cli, ManPagesArgs},
    config::{DEFAULT_FILE, DEFAULT_STATE_DIR, example},
    output::failure::Failure,
};

/// The manual's part for commands of an administrator.
const ADMINISTRATION: &str = "8";
/// The manual's part for file formats.
const FORMATS: &str = "5";

/// Writes a page for ftp-nat, one for each of its commands, and one for the configuration file.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn run(args: &ManPagesArgs) -> Result<(), Failure> {
    let dir = &args.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, page) in pages(&args.date) {
        write(dir, &name, &page)?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, page: &[u8]) -> anyhow::Result<()> {
    let path = dir.join(name);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Every page and the name of its file.
fn pages(date: &str) -> Vec<(String, Vec<u8>)> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = vec![
        ("ftp-nat.8".to_owned(), of_the_whole(&root, date)),
        ("ftp-nat.toml.5".to_owned(), of_the_file(date)),
    ];
    for command in shown(&root) {
        let name = format!("{}.{ADMINISTRATION}", page_name(command));
        pages.push((name, of_a_command(command, date)));
    }
    pages
}

/// The commands that a manual names.
fn shown(root: &Command) -> impl Iterator<Item = &Command> {
    root.get_subcommands().filter(|it| !it.is_hide_set())
}

fn page_name(command: &Command) -> String {
    format!("ftp-nat-{}", command.get_name())
}

fn man(command: &Command, date: &str) -> Man {
    Man::new(command.clone())
        .section(ADMINISTRATION)
        .date(date)
        .source(concat!("ftp-nat ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration")
}

/// Writing to memory does not fail.
const MEMORY: &str = "a page in memory takes every byte";

fn of_the_whole(root: &Command, date: &str) -> Vec<u8> {
    let mut page = Vec::new();
    man(root, date).render(&mut page).expect(MEMORY);
    let mut more = Roff::new();
    files(&mut more);
    exit_status(&mut more);
    more.control("SH", ["ENVIRONMENT"]);
    entry(
        &mut more,
        "RUST_LOG",
        "What is logged, as Rust's env_logger reads it; it has the last word over --verbose.",
    );
    let others: Vec<_> = shown(root).map(page_name).collect();
    see_also(&mut more, others.iter().map(String::as_str));
    more.to_writer(&mut page).expect(MEMORY);
    page
}

fn of_a_command(command: &Command, date: &str) -> Vec<u8> {
    let mut page = Vec::new();
    man(command, date).render(&mut page).expect(MEMORY);
    let mut more = Roff::new();
    files(&mut more);
    exit_status(&mut more);
    examples(&mut more, command.get_name());
    see_also(&mut more, ["ftp-nat"]);
    more.to_writer(&mut page).expect(MEMORY);
    page
}

fn of_the_file(date: &str) -> Vec<u8> {
    let mut roff = Roff::new();
    let version = concat!("ftp-nat ", env!("CARGO_PKG_VERSION"));
    roff.control(
        "TH",
        ["ftp-nat.toml", FORMATS, date, version, "File Formats"],
    );
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "ftp-nat.toml - what an FTP gateway publishes and serves",
    )]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "TOML. Unknown keys are errors. What the command line of ftp-nat-run(8) names replaces \
         what the file says. ftp-nat-check(8) reads a file without touching anything and names \
         every mistake with its line. All there is, with its default values:",
    )]);
    let mut page = roff.to_roff().into_bytes();
    // Verbatim: a line that begins with a dot or a quote would be a request, a backslash an escape.
    page.extend_from_slice(b".nf\n");
    for line in example::TEXT.lines() {
        page.extend_from_slice(b"\\&");
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        page.extend_from_slice(line.as_bytes());
        page.push(b'\n');
    }
    page.extend_from_slice(b".fi\n");
    let mut more = Roff::new();
    files(&mut more);
    see_also(&mut more, ["ftp-nat", "ftp-nat-check", "ftp-nat-run"]);
    more.to_writer(&mut page).expect(MEMORY);
    page
}

fn entry(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(meaning)]);
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    entry(
        roff,
        DEFAULT_FILE,
        "The configuration, where no other file is named.",
    );
    entry(
        roff,
        DEFAULT_STATE_DIR,
        "Where programs, maps and links are pinned: apart for each network namespace and gateway. \
         They outlive the daemon and end with the machine, or by ftp-nat-unload(8).",
    );
}

/// What is typed, and what for.
const EXAMPLES: [(&str, &str, &str); 17] = [
    (
        "run",
        "ftp-nat run --wan eth0 --publish 203.0.113.10:21=10.0.0.5:21",
        "Publishes a server, without a configuration file.",
    ),
    (
        "check",
        "ftp-nat check",
        "Before a reload: names every mistake.",
    ),
    (
        "reload",
        "ftp-nat check && ftp-nat reload",
        "Puts a changed file into effect.",
    ),
    (
        "status",
        "ftp-nat status --json",
        "What is attached and alive, for a program.",
    ),
    (
        "pool",
        "ftp-nat pool drain 10.0.0.5:21",
        "Before maintenance: new sessions go to the other servers.",
    ),
    (
        "sessions",
        "ftp-nat sessions --peer 198.51.100.0/24",
        "The sessions of one network's clients.",
    ),
    (
        "flows",
        "ftp-nat flows --kind passive --count",
        "How many passive transfers there are.",
    ),
    (
        "mappings",
        "ftp-nat mappings --since 1m",
        "What was announced within the last minute.",
    ),
    (
        "events",
        "ftp-nat events --follow --event denied",
        "What is denied from now on, and why.",
    ),
    (
        "top",
        "ftp-nat top --sort peer",
        "A live screen, by clients.",
    ),
    (
        "trace",
        "ftp-nat trace --peer 198.51.100.20",
        "Each packet of one client, with its verdict and the reasons.",
    ),
    (
        "end",
        "ftp-nat end 0000ab12",
        "Ends a session with all its transfers.",
    ),
    (
        "metrics",
        "ftp-nat metrics | grep denied",
        "What was denied so far.",
    ),
    (
        "doctor",
        "ftp-nat doctor",
        "What keeps FTP from working here, and what to do.",
    ),
    (
        "probe",
        "ftp-nat probe ftp.example.net",
        "What a client meets, from anywhere.",
    ),
    (
        "inspect",
        "ftp-nat inspect capture.pcap",
        "What the gateway would do with a capture.",
    ),
    (
        "unload",
        "ftp-nat unload --gone",
        "Frees what dead network namespaces have left.",
    ),
];

fn examples(roff: &mut Roff, command: &str) {
    let mut of_it = EXAMPLES.iter().filter(|(of, ..)| *of == command).peekable();
    if of_it.peek().is_some() {
        roff.control("SH", ["EXAMPLES"]);
    }
    for (_, typed, meaning) in of_it {
        entry(roff, typed, meaning);
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "It was done."),
        ("1", "It was tried and failed."),
        ("2", "The arguments or the configuration are wrong."),
        ("3", "No gateway is loaded that could be asked."),
    ] {
        entry(roff, code, meaning);
    }
}

fn see_also<'n>(roff: &mut Roff, pages: impl IntoIterator<Item = &'n str>) {
    roff.control("SH", ["SEE ALSO"]);
    let mut inlines = Vec::new();
    for page in pages {
        inlines.push(bold(page));
        inlines.push(roman(format!("({ADMINISTRATION}), ")));
    }
    inlines.push(bold("ftp-nat.toml"));
    inlines.push(roman(format!("({FORMATS})")));
    roff.text(inlines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_option_stands_in_it() {
        let pages = pages(" ");
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        for command in shown(&root) {
            let file = format!("{}.8", page_name(command));
            let (_, page) = pages
                .iter()
                .find(|(name, _)| *name == file)
                .unwrap_or_else(|| panic!("no {file}"));
            let page = String::from_utf8(page.clone()).unwrap();
            for option in command.get_arguments().filter_map(|it| it.get_long()) {
                let written = option.replace('-', "\\-");
                assert!(page.contains(&written), "{file} lacks --{option}");
            }
        }
    }

    #[test]
    fn pages_have_files_exit_status_examples_and_see_also() {
        for (name, page) in pages(" ") {
            let page = String::from_utf8(page).unwrap();
            let has = |section: &str| page.contains(section);
            assert!(has("SEE ALSO") && has("FILES"), "{name}");
            let command = name.trim_start_matches("ftp-nat-").trim_end_matches(".8");
            let is_typed = EXAMPLES.iter().any(|(of, ..)| *of == command);
            assert_eq!(is_typed, has("EXAMPLES"), "{name}");
            assert!(name.ends_with(".5") || has("EXIT STATUS"), "{name}");
        }
        let root = Cli::command();
        for (command, typed, _) in EXAMPLES {
            assert!(root.find_subcommand(command).is_some(), "{typed}");
            assert!(typed.contains(command), "{typed}");
        }
    }

    #[test]
    fn the_file_s_page_has_every_line_of_the_example() {
        let page = String::from_utf8(of_the_file(" ")).unwrap();
        for line in example::TEXT.lines() {
            assert!(page.contains(&line.replace('-', "\\-")), "{line}");
        }
    }
}
