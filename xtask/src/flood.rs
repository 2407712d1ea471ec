//! The floods of the attack tests at their full length: a crowd of clients beside each, and what became of
//! them.

use clap::Args;
use ftp_nat_tests::tools::Tools;

use crate::{
    command::{cargo, run},
    progress::say,
    workspace::Workspace,
};

/// How long each of the floods lasts; read by `tests/tests/attacks/floods.rs` and `openings.rs`, which then
/// demand their full rate.
const VARIABLE: &str = "FTP_NAT_LAB_FLOOD_SECONDS";

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
/// When one of them has kept a client out, cost memory, or not reached its rate.
pub(crate) fn run_all(
    workspace: &Workspace,
    tools: &Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let only = &arguments.only;
    let chosen = [
        "floods::",
        "openings::a_hundred_thousand",
        "openings::as_many",
    ];
    let mut cargo = cargo();
    cargo
        .args(["test", "--locked", "--package", "ftp-nat-tests"])
        .args(["--test", "attacks", "--no-fail-fast", "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("RUST_BACKTRACE", "0")
        .env(VARIABLE, arguments.seconds.to_string())
        .envs(tools.variables());
    if only.is_empty() {
        cargo.args(chosen);
    } else {
        cargo.arg(only);
    }
    run(&mut cargo)?;
    say(&format!(
        "the floods of {} s each kept nobody out",
        arguments.seconds
    ));
    Ok(())
}
