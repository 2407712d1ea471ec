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
    while let Some(record) = daemon.answer::<Record>()? {
        let is_wanted = args.session.as_ref().is_none_or(|wanted| {
            record.event == "lost" || record.session.as_deref() == Some(wanted.as_str())
        });
        if !is_wanted {
            continue;
        }
        let printed = if args.json {
            out.write_all(record.line().as_bytes())
        } else {
            writeln!(out, "{}  {record}", record.time)
        };
        let printed = printed.and_then(|()| if is_watched { out.flush() } else { Ok(()) });
        if let Err(error) = printed {
            return ended(error);
        }
    }
    if let Err(error) = out.flush() {
        return ended(error);
    }
    if follow {
        return Err(Failure::NotRunning("the daemon has ended".into()));
    }
    Ok(())
}

/// A reader that has seen enough (`| head`) is no error.
fn ended(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(error).context("cannot print").map_err(Failure::from)
}
