//! `ftp-nat events`: who was let in to what port, when, because of which words.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;

use crate::{
    cli::{EventsArgs, Form, RecordFilter, Selection, TransfersArgs},
    client::call,
    ipc::message::Request,
    model::{event::Record, transfer::Outcome},
    output::failure::Failure,
};

/// Prints what has happened of late, and with `--follow` what happens from now on.
///
/// # Errors
///
/// When not exactly one daemon is meant, or it stops answering.
pub fn run(args: &EventsArgs) -> Result<(), Failure> {
    show(&args.selection, &args.form, args.follow, |record| {
        admits(args, record)
    })
}

/// Prints which transfers and changes there were of late, and with `--follow` those to come.
///
/// # Errors
///
/// As [`run`].
pub fn transfers(args: &TransfersArgs) -> Result<(), Failure> {
    show(&args.selection, &args.form, args.follow, |record| {
        admits_transfer(args, record)
    })
}

/// Prints the events that are wanted.
fn show(
    selection: &Selection,
    form: &Form,
    follow: bool,
    admits: impl Fn(&Record) -> bool,
) -> Result<(), Failure> {
    let mut daemons = call::daemons(selection)?;
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
    daemon.send(Request::Events { follow }, None)?;
    let stdout = io::stdout();
    // Line by line for who watches, in one go for who does not.
    let is_watched = follow || stdout.is_terminal();
    let mut out = io::BufWriter::new(stdout.lock());
    let mut count = 0_u64;
    while let Some(record) = daemon.answer::<Record>()? {
        // That some are missing is always told.
        let is_loss = record.event == "lost" && !form.count;
        if !is_loss && !admits(&record) {
            continue;
        }
        count += 1;
        if form.count {
            continue;
        }
        let printed = if form.json {
            out.write_all(record.line().as_bytes())
        } else {
            writeln!(out, "{}  {record}", record.time)
        };
        let printed = printed.and_then(|()| if is_watched { out.flush() } else { Ok(()) });
        if let Err(error) = printed {
            return ended(error);
        }
    }
    if form.count
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

/// Whether an event is one of those that are asked for.
fn admits(args: &EventsArgs, record: &Record) -> bool {
    let is_one_of = |wanted: &[String], word: Option<&str>| {
        wanted.is_empty() || wanted.iter().any(|it| word == Some(it))
    };
    // A sum counts as what it is a sum of.
    let event = record.of.as_deref().unwrap_or(&record.event);
    is_one_of(&args.event, Some(event))
        && is_one_of(&args.reason, record.reason.as_deref())
        && is_about(&args.about, record)
}

/// Whether an event is about what is asked for.
fn is_about(about: &RecordFilter, record: &Record) -> bool {
    let ip = |text: &Option<String>| text.as_ref()?.parse().ok();
    let (peer, inside) = (ip(&record.peer), ip(&record.inside));
    about.ends.admits(peer, &[inside, peer])
        && about
            .kind
            .admits(record.kind.as_deref().unwrap_or_default())
        && about.session.admits(record.session.as_deref())
        && about.since.admits_time(&record.time)
}

/// Whether an event is a transfer or a change that is asked for.
fn admits_transfer(args: &TransfersArgs, record: &Record) -> bool {
    let Some(told) = &record.transfer else {
        return false;
    };
    let is_user = |wanted: &String| told.user.as_ref() == Some(wanted);
    let is_command = |wanted: &String| {
        told.command
            .as_ref()
            .is_some_and(|it| it.eq_ignore_ascii_case(wanted))
    };
    (args.user.is_empty() || args.user.iter().any(is_user))
        && (args.command.is_empty() || args.command.iter().any(is_command))
        && !(args.failed && told.outcome == Outcome::Completed)
        && is_about(&args.about, record)
}

/// A reader that has seen enough (`| head`) is no error.
fn ended(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(error).context("cannot print").map_err(Failure::from)
}
