//! `ftp-nat check`: is this configuration right?

use serde::Serialize;

use crate::{
    cli::CheckArgs,
    config::{Config, Place, Problem, check, file},
    exit::Failure,
    show::{print, print_json},
};

/// A mistake, as JSON has it.
#[derive(Debug, Serialize)]
struct Row<'p> {
    file: Option<&'p str>,
    line: Option<usize>,
    key: Option<&'p str>,
    problem: &'p str,
}

impl<'p> From<&'p Problem> for Row<'p> {
    fn from(problem: &'p Problem) -> Self {
        let (file, line, key) = match &problem.place {
            Place::File { file, line, key } => (
                Some(file.as_ref()),
                Some(*line),
                Some(key.as_str()).filter(|key| !key.is_empty()),
            ),
            Place::Flag(_) | Place::Default => (None, None, None),
        };
        Self {
            file,
            line,
            key,
            problem: &problem.what,
        }
    }
}

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
        print_json(&problems.iter().map(Row::from).collect::<Vec<_>>())?;
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
