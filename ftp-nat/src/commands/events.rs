//! `ftp-nat events`: who was let in to what port, when, because of which words.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

use crate::{
    cli::EventsArgs, client::call, ipc::message::Request, model::event::Record,
    output::failure::Failure,
};

/// Prints what has happened of late, and with `--follow` what happens from now on.
///
/// # Errors
///
/// When not exactly one daemon is meant, or it stops answering.
pub fn run(args: &EventsArgs) -> Result<(), Failure> {
    let mut daemons = call::daemons(&args.selection)?;
    if daemons.len() > 1 {
        let names: Vec<_> = daemons.iter().map(|it| it.hello.gateway.as_str()).collect();
        return Err(Failure::usage(format!(
            "there are several gateways ({}): choose one with --wan",
            names.join(", ")
        )));
    }
    let Some(mut daemon) = daemons.pop() else {
        return Ok(());
    };
    let follow = args.follow;
    daemon.send(Request::Events { follow }, None)?;
    let stdout = io::stdout();
    // Line by line for who watches, in one go for who does not.
    let is_watched = follow || stdout.is_terminal();
    let mut out = io::BufWriter::new(stdout.lock());
    let mut count = 0_u64;
    while let Some(record) = daemon.answer::<Record>()? {
        if !admits(args, &record) {
            continue;
        }
        count += 1;
        if args.form.count {
            continue;
        }
        let printed = if args.form.json {
            out.write_all(record.line().as_bytes())
        } else {
            writeln!(out, "{}  {record}", record.time)
        };
        let printed = printed.and_then(|()| if is_watched { out.flush() } else { Ok(()) });
        if let Err(error) = printed {
            return ended(error);
        }
    }
    if args.form.count
        && let Err(error) = writeln!(out, "{count}")
    {
        return ended(error);
    }
    if let Err(error) = out.flush() {
        return ended(error);
    }
    if follow {
        return Err(Failure::NotRunning("the daemon has ended".into()));
    }
    Ok(())
}

/// Whether an event is one of those that are asked for. That some are missing is always told.
fn admits(args: &EventsArgs, record: &Record) -> bool {
    let is_one_of = |wanted: &[String], word: Option<&str>| {
        wanted.is_empty() || wanted.iter().any(|it| word == Some(it))
    };
    let ip = |text: &Option<String>| text.as_ref()?.parse().ok();
    let (peer, inside) = (ip(&record.peer), ip(&record.inside));
    if record.event == "lost" {
        return !args.form.count;
    }
    // A sum counts as what it is a sum of.
    let event = record.of.as_deref().unwrap_or(&record.event);
    is_one_of(&args.event, Some(event))
        && is_one_of(&args.reason, record.reason.as_deref())
        && args.ends.admits(peer, &[inside, peer])
        && args.kind.admits(record.kind.as_deref().unwrap_or_default())
        && args.session.admits(record.session.as_deref())
        && args.since.admits_time(&record.time)
}

/// A reader that has seen enough (`| head`) is no error.
fn ended(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(error).context("cannot print").map_err(Failure::from)
}
