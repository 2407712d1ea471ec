//! The `ftp-nat` command.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use ftp_nat::{
    cli::{Cli, Command},
    commands::{
        check, cluster, completions, end, events, flows, list, man_pages, mappings, metrics,
        networks, pool, reload, sessions, status, top, trace, unload,
    },
    daemon, doctor, inspect,
    model::list::List,
    output::{
        failure::Failure,
        logging::{self, LogFormat},
    },
    probe,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match &cli.command {
        Command::Run(args) => args.log_format,
        _ => LogFormat::default(),
    };
    logging::start(cli.verbose, format);
    let result = match &cli.command {
        Command::Run(args) => daemon::run(args),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Sessions(args) => sessions::run(args),
        Command::Mappings(args) => mappings::run(args),
        Command::Flows(args) => flows::run(args),
        Command::Top(args) => top::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Events(args) => events::run(args),
        Command::Transfers(args) => events::transfers(args),
        Command::End(args) => end::run(args),
        Command::Trace(args) => trace::run(args),
        Command::TraceGuard(args) => trace::guard(args),
        Command::Cluster(command) => cluster::run(command),
        Command::Deny(args) => networks::run(List::Deny, args),
        Command::Allow(args) => networks::run(List::Allow, args),
        Command::Pool(command) => pool::run(command),
        Command::Reload(args) => reload::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Probe(args) => probe::run(args, cli.verbose > 0),
        Command::Inspect(args) => inspect::run(args),
        Command::Unload(args) => unload::run(args),
        Command::List(args) => list::run(args),
        Command::Completions(args) => completions::run(args),
        Command::ManPages(args) => man_pages::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Found) => failure.code(),
        Err(failure) => {
            // Where nobody listens, the exit code still tells.
            let _ = writeln!(io::stderr(), "{failure}");
            failure.code()
        }
    }
}
