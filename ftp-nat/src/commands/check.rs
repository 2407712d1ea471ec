//! `ftp-nat check`: is this configuration right?

use std::path::Path;

use crate::{
    cli::CheckArgs,
    config::{Config, DEFAULT_FILE, file, with_contradictions},
    ipc::message::Mistake,
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// Reads the file, touches nothing, and reports every mistake.
///
/// # Errors
///
/// The mistakes.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let mut config = Config::default();
    if !args.config.exists() && args.config == Path::new(DEFAULT_FILE) {
        return Err(Failure::usage(format!(
            "not configured yet: {DEFAULT_FILE} is not there. Copy the example that comes with \
             ftp-nat (ftp-nat.toml, with every key) to it, set `wan` and one [[publish]] or \
             [[masquerade]], and check again; ftp-nat.toml(5) has all keys"
        )));
    }
    let problems = file::apply(&args.config, &mut config);
    let problems = with_contradictions(&config, problems);
    if args.json {
        let mistakes: Vec<_> = problems.iter().map(Mistake::from).collect();
        print_json(&mistakes)?;
    } else if problems.is_empty() {
        let file = args.config.display();
        print(&format!(
            "{file}: no mistakes in the file; whether this machine fits it (its interfaces, addresses, \
             routes, firewall) is what `ftp-nat doctor --config {file}` looks at\n"
        ))?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(
        problems.iter().map(ToString::to_string).collect(),
    ))
}
