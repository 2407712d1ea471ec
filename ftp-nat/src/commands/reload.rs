//! `ftp-nat reload`: has a running daemon read its configuration anew.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use crate::{
    cli::ShowArgs,
    client::call::{self, Line},
    ipc::message::{Reloaded, Request},
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// How long a reload may take: it waits for a look at the network that is under way, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of one gateway's reload, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    #[serde(flatten)]
    reloaded: Reloaded,
}

/// Asks the daemons, and says what has changed.
///
/// # Errors
///
/// Every mistake in the configuration; then the old one stays in effect.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for daemon in call::daemons(&args.selection)? {
        let gateway = daemon.hello.gateway.clone();
        let reloaded = ask(daemon).with_context(|| format!("cannot reload gateway {gateway}"))?;
        rows.push(Row { gateway, reloaded });
    }
    if args.json {
        print_json(&rows)?;
    } else {
        for row in rows.iter().filter(|row| row.reloaded.applied) {
            print(&text(row))?;
        }
    }
    let mistakes: Vec<_> = rows
        .iter()
        .flat_map(|row| &row.reloaded.mistakes)
        .map(|mistake| mistake.text.clone())
        .collect();
    if !mistakes.is_empty() {
        let last = "the old configuration stays in effect".to_owned();
        return Err(Failure::Usage([mistakes, vec![last]].concat()));
    }
    let failed = rows.iter().find_map(|row| row.reloaded.failed.as_ref());
    failed.map_or(Ok(()), |why| Err(anyhow!("{why}").into()))
}

fn ask(mut daemon: Line) -> anyhow::Result<Reloaded> {
    daemon.send(Request::Reload, Some(PATIENCE))?;
    daemon.answer()?.context("the daemon has gone away")
}

fn text(row: &Row) -> String {
    let Reloaded {
        changed,
        needs_restart,
        warnings,
        took_ms,
        ..
    } = &row.reloaded;
    let count = match changed.len() {
        0 => "nothing has changed".to_owned(),
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    };
    let mut text = format!("reloaded {} in {took_ms} ms: {count}\n", row.gateway);
    for (label, lines) in [
        ("", changed),
        ("not changed yet: ", needs_restart),
        ("warning: ", warnings),
    ] {
        for line in lines {
            let _ = writeln!(text, "  {label}{line}");
        }
    }
    text
}
