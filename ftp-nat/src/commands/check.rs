//! `ftp-nat check`: is this configuration right?

use crate::{
    cli::CheckArgs,
    config::{Config, check, file},
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
    let mut problems = file::apply(&args.config, &mut config);
    if problems.is_empty() {
        problems = check::check(&config);
    }
    if args.json {
        let mistakes: Vec<_> = problems.iter().map(Mistake::from).collect();
        print_json(&mistakes)?;
    } else if problems.is_empty() {
        print(&format!("{}: no mistakes\n", args.config.display()))?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(
        problems.iter().map(ToString::to_string).collect(),
    ))
}
