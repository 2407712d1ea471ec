//! `ftp-nat deny` and `ftp-nat allow`: the lists of networks outside.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde::Serialize;

use super::end;
use crate::{
    cli::{AddNetworksArgs, NetworksArgs, NetworksCommand, RemoveNetworksArgs, Selection, Time},
    client::{call, view::View},
    ipc::message::{Listing, NetworkChange, Request},
    model::{
        list::{List, Shown},
        prefix::Prefix,
    },
    output::{
        columns::{Columns, Side},
        failure::Failure,
        human,
        print::{print, print_json},
        text::session_name,
    },
};

/// How long a change may take: it waits for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a change has done, as JSON has it.
#[derive(Debug, Serialize)]
struct Changed {
    gateway: String,
    list: List,
    network: Prefix,
    publish: Option<String>,
    changed: bool,
    /// Sessions that were ended.
    ended: Vec<String>,
}

/// A network of a list, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    gateway: String,
    #[serde(flatten)]
    shown: Shown,
    /// Seconds until it ends; none: it is there until it is removed.
    expires_in: Option<f64>,
}

/// Does what is asked for.
///
/// # Errors
///
/// When no daemon runs, or it refuses.
pub fn run(list: List, args: &NetworksArgs) -> Result<(), Failure> {
    match &args.what {
        NetworksCommand::Add(args) => add(list, args),
        NetworksCommand::Remove(args) => remove(list, args),
        NetworksCommand::List(args) => show(list, &args.selection, args.json),
    }
}

fn add(list: List, args: &AddNetworksArgs) -> Result<(), Failure> {
    let seconds = match args.time {
        Some(Time::For(time)) => Some(time.as_secs()),
        Some(Time::ForEver) | None => None,
    };
    let changes = args.networks.iter().map(|network| NetworkChange {
        list,
        network: *network,
        removes: false,
        publish: args.servers.publish.clone(),
        seconds,
        why: args.why.clone(),
    });
    let done = change(&args.selection, changes)?;
    if !args.silently {
        reset(&args.selection, &done)?;
    }
    show_changes(&done, "added to", args.json)
}

fn remove(list: List, args: &RemoveNetworksArgs) -> Result<(), Failure> {
    let changes = args.networks.iter().map(|network| NetworkChange {
        list,
        network: *network,
        removes: true,
        publish: args.servers.publish.clone(),
        seconds: None,
        why: None,
    });
    let done = change(&args.selection, changes)?;
    show_changes(&done, "removed from", args.json)
}

/// Asks each daemon for each change.
fn change(
    selection: &Selection,
    changes: impl Iterator<Item = NetworkChange>,
) -> Result<Vec<(NetworkChange, String, Listing)>, Failure> {
    let mut done = Vec::new();
    for change in changes {
        // A conversation has one request.
        for mut daemon in call::daemons(selection)? {
            let gateway = daemon.hello.gateway.clone();
            daemon.send(Request::ChangeList(change.clone()), Some(PATIENCE))?;
            let listing = daemon
                .answer::<Listing>()
                .with_context(|| format!("{} list of gateway {gateway}", change.list))?
                .context("the daemon has gone away")?;
            done.push((change.clone(), gateway, listing));
        }
    }
    Ok(done)
}

/// Tells the ends of the sessions that were ended.
fn reset(selection: &Selection, done: &[(NetworkChange, String, Listing)]) -> Result<(), Failure> {
    if done.iter().all(|(.., listing)| listing.ended.is_empty()) {
        return Ok(());
    }
    for loaded in &View::of(selection)?.loaded {
        let its = done
            .iter()
            .filter(|(_, gateway, _)| gateway == loaded.gateway.name());
        let ended: Vec<_> = its
            .flat_map(|(.., listing)| listing.ended.clone())
            .collect();
        if let Err(error) = end::reset_sessions(&loaded.maps, &ended) {
            log::warn!("sessions are ended, but their ends were not told: {error:#}");
        }
    }
    Ok(())
}

fn show_changes(
    done: &[(NetworkChange, String, Listing)],
    verb: &str,
    json: bool,
) -> Result<(), Failure> {
    let rows: Vec<_> = done
        .iter()
        .map(|(change, gateway, listing)| Changed {
            gateway: gateway.clone(),
            list: change.list,
            network: change.network,
            publish: change.publish.clone(),
            changed: listing.changed,
            ended: listing.ended.iter().map(|it| session_name(*it)).collect(),
        })
        .collect();
    if json {
        print_json(&rows)?;
        return Ok(());
    }
    let mut text = String::new();
    for row in &rows {
        let what = if row.changed { verb } else { "was not in" };
        let servers = row.publish.as_deref().unwrap_or("all servers");
        let _ = write!(
            text,
            "{} {what} the {} list of {} for {servers}",
            row.network, row.list, row.gateway
        );
        if !row.ended.is_empty() {
            let _ = write!(text, "; ended sessions: {}", row.ended.join(", "));
        }
        text.push('\n');
    }
    print(&text)?;
    Ok(())
}

fn show(list: List, selection: &Selection, json: bool) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for mut daemon in call::daemons(selection)? {
        let gateway = daemon.hello.gateway.clone();
        daemon.send(Request::ShowList { list }, Some(PATIENCE))?;
        while let Some(shown) = daemon
            .answer::<Shown>()
            .map_err(|error| anyhow!("gateway {gateway}: {error:#}"))?
        {
            rows.push(Row {
                gateway: gateway.clone(),
                expires_in: shown.entry.left(now).map(|left| left.as_secs_f64()),
                shown,
            });
        }
    }
    if json {
        print_json(&rows)?;
        return Ok(());
    }
    if rows.is_empty() {
        print(match list {
            List::Deny => "nobody is denied\n",
            List::Allow => "the allow list is empty: everybody may begin sessions\n",
        })?;
        return Ok(());
    }
    let mut table = Columns::new(&[
        ("NETWORK", Side::Left),
        ("SERVERS", Side::Left),
        ("LEFT", Side::Right),
        ("REFUSED", Side::Right),
        ("SINCE", Side::Left),
        ("BY", Side::Left),
        ("WHY", Side::Left),
    ]);
    for row in rows {
        let entry = row.shown.entry;
        table.row(vec![
            entry.network.to_string(),
            entry.publish.unwrap_or_else(|| "all".into()),
            row.expires_in.map_or_else(|| "-".into(), human::duration),
            row.shown.hits.to_string(),
            entry
                .since
                .map_or_else(|| "configuration".into(), |it| format!("{it:.0}")),
            entry
                .node
                .map_or_else(|| "-".into(), |it| format!("node {it}")),
            entry.why.unwrap_or_default(),
        ]);
    }
    print(&table.text())?;
    Ok(())
}
