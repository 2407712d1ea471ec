//! What the operator wants: the command line and the configuration file become one [`Config`].

mod arguments;
pub mod check;
pub mod difference;
pub mod example;
pub mod file;
pub mod flags;
mod options;
mod origin;
pub mod value;

use std::path::Path;

pub use self::{
    arguments::RunArgs,
    options::{
        Attach, Cluster, Commands, Config, ControlNat, DEFAULT_FILE, DEFAULT_MARK,
        DEFAULT_REMAP_PORTS, DEFAULT_STATE_DIR, Datapath, FirstPacket, Health, Lan, Limits,
        Masquerade, Order, Peer, Placing, Publish, Timeouts, TowardServer,
    },
    origin::{Origin, Problem, Spanned},
};

/// The mistakes that were found in single values, and those that only show together, by their lines.
pub fn with_contradictions(config: &Config, mut problems: Vec<Problem>) -> Vec<Problem> {
    if problems.is_empty() {
        problems = check::check(config);
    } else {
        problems.extend(check::check_the_rest(config));
    }
    problems.sort_by_key(|problem| problem.origin.line());
    problems
}

/// Reads the file, if there is one to read, and lets the arguments have the last word.
///
/// # Errors
///
/// Every mistake that was found.
pub fn assemble(args: &RunArgs) -> Result<Config, Vec<Problem>> {
    let mut config = Config::default();
    let mut problems = match &args.config {
        Some(file) => file::apply(file, &mut config),
        None if Path::new(DEFAULT_FILE).exists() => {
            file::apply(Path::new(DEFAULT_FILE), &mut config)
        }
        None => Vec::new(),
    };
    problems.extend(flags::apply(args, &mut config));
    problems = with_contradictions(&config, problems);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}
