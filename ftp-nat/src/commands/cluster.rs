//! `ftp-nat cluster`: the gateways that share their sessions with this one.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use crate::{
    cli::{ClusterCommand, ShowArgs},
    client::call,
    cluster::status::{Peer, Status},
    ipc::message::Request,
    output::{
        columns::{Columns, Side},
        failure::Failure,
        print::{print, print_json},
    },
};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// One gateway's view, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    #[serde(flatten)]
    status: Status,
}

/// Asks the daemons, and shows what they know.
///
/// # Errors
///
/// When there is no daemon or no cluster; for `ready`, when a gateway is not.
pub fn run(command: &ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status(args) => {
            let rows = ask(args)?;
            if args.json {
                print_json(&rows)?;
            } else {
                for row in &rows {
                    print(&text(row))?;
                }
            }
            Ok(())
        }
        ClusterCommand::Ready(args) => {
            let rows = ask(args)?;
            if args.json {
                print_json(&rows)?;
            }
            match rows.iter().find(|row| !row.status.is_ready) {
                Some(row) => Err(anyhow!("not ready: {}", why_not(&row.status)).into()),
                None if args.json => Ok(()),
                None => Ok(print("ready\n")?),
            }
        }
    }
}

fn ask(args: &ShowArgs) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for mut daemon in call::daemons(&args.selection)? {
        daemon.send(Request::Cluster, Some(PATIENCE))?;
        let status = daemon.answer()?.context("the daemon has gone away")?;
        rows.push(Row {
            gateway: daemon.hello.gateway.clone(),
            status,
        });
    }
    Ok(rows)
}

fn why_not(status: &Status) -> String {
    if let Some(error) = &status.engine_error {
        return format!("the engine cannot be reached: {error}");
    }
    if status.is_doubled {
        return format!("another gateway has number {} too", status.node);
    }
    let late: Vec<_> = status
        .peers
        .iter()
        .filter(|peer| peer.is_alive && !peer.is_caught_up)
        .map(|peer| peer.node.to_string())
        .collect();
    if late.is_empty() {
        "nobody has been heard of yet".to_owned()
    } else {
        format!("not all is here yet that node {} has", late.join(", "))
    }
}

fn text(row: &Row) -> String {
    let status = &row.status;
    let mut text = String::new();
    let engine = match (&status.engine_error, status.is_connected) {
        (_, true) => "connected".to_owned(),
        (Some(error), false) => error.clone(),
        (None, false) => "not connected yet".to_owned(),
    };
    let ready = if status.is_ready {
        "ready"
    } else {
        "not ready"
    };
    let _ = writeln!(
        text,
        "{}: node {} of cluster {}, {ready}; engine: {engine}",
        row.gateway, status.node, status.name
    );
    let _ = writeln!(
        text,
        "records: {} told, {} installed, {} older than what is here, {} refused, {} without room, \
         {} not understood; {} batches lost, {} events too many",
        status.told,
        status.installed,
        status.stale,
        status.refused,
        status.no_room,
        status.unknown,
        status.lost,
        status.overflowed
    );
    if status.delays > 0 {
        let _ = writeln!(
            text,
            "delay: {:.2} ms at the median, {:.2} ms of all but one in a hundred, from an event there to its \
             record here",
            status.delay_median * 1000.0,
            status.delay_p99 * 1000.0
        );
    }
    if status.is_doubled {
        let _ = writeln!(text, "another gateway has number {} too", status.node);
    }
    if status.peers.is_empty() {
        text.push_str("no other gateway has been heard of\n");
        return text;
    }
    let mut columns = Columns::new(&[
        ("NODE", Side::Right),
        ("STATE", Side::Left),
        ("HEARD", Side::Right),
        ("LAG", Side::Right),
        ("ALL HERE", Side::Left),
        ("CONFIGURATION", Side::Left),
    ]);
    for other in &status.peers {
        columns.row(peer(other));
    }
    text.push_str(&columns.text());
    text
}

fn peer(peer: &Peer) -> Vec<String> {
    let state = match (peer.is_doubled, peer.is_alive) {
        (true, _) => "two of this number",
        (false, true) => "alive",
        (false, false) => "gone",
    };
    let word = |is: bool| if is { "yes" } else { "no" }.to_owned();
    vec![
        peer.node.to_string(),
        state.to_owned(),
        format!("{:.1} s ago", peer.silent),
        format!("{:.1} ms", peer.lag * 1000.0),
        word(peer.is_caught_up),
        if peer.has_same_config {
            "the same".to_owned()
        } else {
            "differs".to_owned()
        },
    ]
}
