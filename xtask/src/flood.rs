//! The floods of the attack tests at their full length: a crowd of clients beside each, and what became of
//! them.

use anyhow::bail;
use clap::Args;
use ftp_nat_tests::tools::Tools;

use crate::{
    command::{cargo, output, run},
    progress::say,
    workspace::Workspace,
};

/// How long each of the floods lasts; read by `tests/tests/attacks/floods.rs` and `openings.rs`, which then
/// demand their full rate.
const VARIABLE: &str = "FTP_NAT_LAB_FLOOD_SECONDS";

/// How the names of the tests begin that are floods.
const FLOODS: [&str; 3] = [
    "floods::",
    "openings::a_hundred_thousand",
    "openings::as_many",
];

/// Which floods.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How long each flood lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// Only those whose names have this in them
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
}

/// Runs them one after the other and prints the figures of each.
///
/// # Errors
///
/// When no name has the word in it, or one of them has kept a client out, cost memory, or not reached its rate.
pub(crate) fn run_all(
    workspace: &Workspace,
    tools: &Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let seconds = arguments.seconds.to_string();
    let test = |arguments: &[&str]| {
        let mut cargo = cargo();
        cargo
            .args(["test", "--locked", "--package", "ftp-nat-tests"])
            .args(["--test", "attacks", "--no-fail-fast", "--"])
            .args(arguments)
            .current_dir(&workspace.root)
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env("RUST_BACKTRACE", "0")
            .env(VARIABLE, seconds.as_str())
            .envs(tools.variables());
        cargo
    };
    let list = output(&mut test(&["--list"]))?;
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let chosen: Vec<_> = names
        .filter(|name| FLOODS.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| name.contains(&arguments.only))
        .collect();
    if chosen.is_empty() {
        bail!("no flood has {:?} in its name", arguments.only);
    }
    let how = ["--nocapture", "--test-threads", "1", "--exact"];
    run(&mut test(&[&how, &chosen[..]].concat()))?;
    say(&format!(
        "the floods of {} s each kept nobody out",
        arguments.seconds
    ));
    Ok(())
}
