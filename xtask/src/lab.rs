//! The lab by hand: `cargo xtask lab up`, look around, `cargo xtask lab down`.

mod keeper;
mod machines;

use std::{os::unix::process::CommandExt as _, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use ftp_nat_tests::{
    lab::{Lab, Plan, WAN_ADDRESS},
    namespace::Namespace,
    netns, process,
    tools::Tools,
};

use self::{
    keeper::OFFERED,
    machines::{NAME, machine_name, standing},
};
use crate::{
    apt::{self, Installing},
    build,
    progress::say,
    servers, tools,
    workspace::Workspace,
};

#[derive(Subcommand)]
pub(crate) enum LabTask {
    /// Set up client - router - server, an FTP server running there, to stay until `down`
    Up {
        /// How many clients stand outside
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
        clients: u8,
        /// How many servers stand inside; the first one serves FTP
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
        servers: u8,
        /// Run ftp-nat on the router, too
        #[arg(long)]
        gateway: bool,
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
    /// Run what `up` leaves running, until a signal comes
    #[command(hide = true)]
    Keep {
        #[arg(long)]
        gateway: bool,
    },
}

pub(crate) fn run(
    workspace: &Workspace,
    installing: Installing,
    task: LabTask,
) -> anyhow::Result<()> {
    match task {
        LabTask::Up {
            clients,
            servers,
            gateway,
        } => {
            let tools = if gateway {
                Tools::get().or_else(|_| tools::prepare(workspace, installing))?
            } else {
                apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
                Tools {
                    servers: servers::unpack(workspace, installing)?,
                    binary: build::binary(workspace),
                }
            };
            let plan = Plan {
                outside: clients,
                inside: servers,
            };
            up(workspace, &tools, plan, gateway)
        }
        LabTask::Down => down(workspace),
        LabTask::Exec { machine, command } => exec(&machine, &command),
        LabTask::Keep { gateway } => keeper::keep(gateway),
    }
}

/// Sets the lab up with a gateway, fetches a file there and takes it down, as somebody by hand would.
///
/// # Errors
///
/// When the file is not fetched, or something of the lab stays.
pub(crate) fn smoke(workspace: &Workspace, tools: &Tools) -> anyhow::Result<()> {
    let plan = Plan {
        outside: 1,
        inside: 1,
    };
    up(workspace, tools, plan, true)?;
    let client = Namespace::existing(&machine_name("client"))?;
    let mut curl = client.command("curl")?;
    curl.args(["-s", "--no-ftp-skip-pasv-ip"])
        .arg(format!("ftp://{WAN_ADDRESS}/download/{OFFERED}"));
    let fetched = process::run(&mut curl, Duration::from_secs(20))?.expect_success();
    down(workspace)?;
    let fetched = fetched?.text();
    if fetched != keeper::CONTENT || !standing().is_empty() {
        bail!("the lab gave {fetched:?}, and left {:?}", standing());
    }
    Ok(())
}

fn up(workspace: &Workspace, tools: &Tools, plan: Plan, gateway: bool) -> anyhow::Result<()> {
    if !standing().is_empty() {
        bail!("the lab is up already: `cargo xtask lab down` removes it");
    }
    let mut lab = Lab::named(NAME, plan)?;
    keeper::start(workspace, tools, gateway)?;
    lab.keep();
    for namespace in lab.namespaces() {
        say(&format!("up: {}", namespace.name()));
    }
    let binary = tools.binary.strip_prefix(&workspace.root);
    let binary = binary.unwrap_or(&tools.binary).display();
    let exec = "cargo xtask lab exec";
    let fetch = format!(
        "{exec} client -- curl -v --no-ftp-skip-pasv-ip ftp://{WAN_ADDRESS}/download/{OFFERED}"
    );
    let three = if gateway {
        [
            fetch,
            format!("{exec} router -- {binary} events"),
            format!("{exec} router -- {binary} doctor"),
        ]
    } else {
        [
            format!("{exec} server -- curl ftp://10.0.0.5/download/{OFFERED}"),
            format!(
                "{exec} router -- {binary} run --wan wan --publish {WAN_ADDRESS}:21=10.0.0.5:21"
            ),
            fetch,
        ]
    };
    say("try, each in its turn:");
    for command in three {
        say(&format!("  {command}"));
    }
    Ok(())
}

fn down(workspace: &Workspace) -> anyhow::Result<()> {
    keeper::stop(workspace)?;
    for name in standing() {
        netns::remove(&name);
        say(&format!("removed {name}"));
    }
    Ok(())
}

/// Becomes `command`, so that its exit code and its signals are its own.
fn exec(machine: &str, command: &[String]) -> anyhow::Result<()> {
    let namespace = Namespace::existing(&machine_name(machine))
        .context("is the lab up? `cargo xtask lab up`")?;
    let (program, arguments) = command.split_first().context("no command to run")?;
    let error = namespace
        .command(program)?
        .args(arguments)
        .stdin(Stdio::inherit())
        .exec();
    Err(error).with_context(|| format!("cannot start `{program}`"))
}
