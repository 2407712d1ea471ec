//! `ftp-nat pool`: takes a server out of its pools for new sessions, and back.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use crate::{
    cli::{DrainArgs, PoolCommand},
    client::call,
    ipc::message::{Drained, Request},
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one gateway did, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    #[serde(flatten)]
    drained: Drained,
}

/// Asks the daemons, and says what they did.
///
/// # Errors
///
/// When there is no daemon, or no pool has the server.
pub fn run(command: &PoolCommand) -> Result<(), Failure> {
    let (args, draining) = match command {
        PoolCommand::Drain(args) => (args, true),
        PoolCommand::Undrain(args) => (args, false),
    };
    let rows = ask(args, draining)?;
    if rows.iter().all(|row| row.drained.servers.is_empty()) {
        return Err(anyhow!(
            "no pool has a server {} (`ftp-nat status` shows them)",
            args.server
        )
        .into());
    }
    if args.json {
        print_json(&rows)?;
    } else {
        print(&text(&rows, draining))?;
    }
    Ok(())
}

fn ask(args: &DrainArgs, draining: bool) -> Result<Vec<Row>, Failure> {
    let request = Request::Drain {
        address: args.server.address,
        port: args.server.port,
        draining,
    };
    let mut rows = Vec::new();
    for mut daemon in call::daemons(&args.selection)? {
        daemon.send(request.clone(), Some(PATIENCE))?;
        rows.push(Row {
            gateway: daemon.hello.gateway.clone(),
            drained: daemon.answer()?.context("the daemon has gone away")?,
        });
    }
    Ok(rows)
}

fn text(rows: &[Row], draining: bool) -> String {
    let mut text = String::new();
    for it in rows.iter().flat_map(|row| &row.drained.servers) {
        let so = match (draining, it.changed) {
            (true, true) => "drained: new sessions go elsewhere, its own go on",
            (true, false) => "drained already",
            (false, true) => "gets new sessions again",
            (false, false) => "was not drained",
        };
        let _ = writeln!(text, "{} of {}: {so}", it.server, it.public);
    }
    text
}
