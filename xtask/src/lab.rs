//! The lab by hand: `cargo xtask lab up`, look around, `cargo xtask lab down`.

use std::{os::unix::process::CommandExt as _, process::Stdio};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use ftp_nat_tests::{
    lab::{Lab, Plan},
    namespace::Namespace,
    netns,
};

use crate::{
    apt::{self, Installing},
    progress::say,
    workspace::Workspace,
};

/// The lab that stays until it is taken down; there is one on a machine.
const NAME: &str = "ftpnat-lab";

#[derive(Subcommand)]
pub(crate) enum LabTask {
    /// Set up client - router - server, to stay until `down`
    Up {
        /// How many clients stand outside
        #[arg(long, default_value_t = 1)]
        clients: u8,
        /// How many servers stand inside
        #[arg(long, default_value_t = 1)]
        servers: u8,
    },
    /// End everything that runs in the lab and remove it
    Down,
    /// Run a command on one of its machines
    Exec {
        /// client, client2, ..., router, server, server2, ...
        machine: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

pub(crate) fn run(
    workspace: &Workspace,
    installing: Installing,
    task: LabTask,
) -> anyhow::Result<()> {
    match task {
        LabTask::Up { clients, servers } => {
            apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
            up(Plan {
                outside: clients,
                inside: servers,
            })
        }
        LabTask::Down => {
            down();
            Ok(())
        }
        LabTask::Exec { machine, command } => exec(&machine, &command),
    }
}

fn up(plan: Plan) -> anyhow::Result<()> {
    if !standing().is_empty() {
        bail!("the lab is up already: `cargo xtask lab down` removes it");
    }
    let mut lab = Lab::named(NAME, plan)?;
    lab.keep();
    for namespace in lab.namespaces() {
        say(&format!("up: {}", namespace.name()));
    }
    say("try: cargo xtask lab exec client -- ip address");
    Ok(())
}

fn down() {
    for name in standing() {
        netns::remove(&name);
        say(&format!("removed {name}"));
    }
}

/// Becomes `command`, so that its exit code and its signals are its own.
fn exec(machine: &str, command: &[String]) -> anyhow::Result<()> {
    let namespace = Namespace::existing(&format!("{NAME}-{machine}"))
        .context("is the lab up? `cargo xtask lab up`")?;
    let (program, arguments) = command.split_first().context("no command to run")?;
    let error = namespace
        .command(program)?
        .args(arguments)
        .stdin(Stdio::inherit())
        .exec();
    Err(error).with_context(|| format!("cannot start `{program}`"))
}

/// The namespaces of the lab that stays.
fn standing() -> Vec<String> {
    let prefix = format!("{NAME}-");
    let mut names = netns::list();
    names.retain(|name| name.starts_with(&prefix));
    names.sort();
    names
}
