//! `cargo xtask load`: how much it holds at once, and what happens just beyond. Real connections through
//! a running daemon, but for the million of flows, which are copies of a real one.

mod ends;
mod flows;
mod holder;
mod masquerade;
mod open_files;
mod openings;
mod publishes;
mod rows;
mod sessions;
mod watch;

use std::time::Duration;

use clap::{Args, ValueEnum};
use ftp_nat_tests::tools::Tools;

use crate::{
    apt::{self, Installing},
    progress::{say, step},
    workspace::Workspace,
};

pub(crate) use self::holder::{Part, hold};

/// Something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// 100,000 live control sessions
    Sessions,
    /// 1,000,000 live data connections
    Flows,
    /// Data connections opened, used and closed without a pause, while the sweep runs
    Openings,
    /// 10,000 published addresses
    Publishes,
    /// 1,000 masqueraded clients, each with a session and a data connection at the same time
    Masquerade,
}

/// What to do.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only this; may be given several times
    #[arg(long, value_name = "SCENE")]
    only: Vec<Scene>,
    /// How many seconds the openings last
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Only so many of a thousand of what is to be held, to try the command out
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    thousandths: u32,
    /// Hold a part of the sessions: how this command calls itself
    #[arg(long, hide = true)]
    pub(crate) hold: Option<Part>,
}

impl Arguments {
    /// As much of the whole as is wanted.
    fn share(&self, of: u32) -> u32 {
        (u64::from(of) * u64::from(self.thousandths) / 1000) as u32
    }
}

/// Runs it and prints a table of each scene.
///
/// # Errors
///
/// When something was not held.
pub(crate) fn run(
    workspace: &Workspace,
    installing: Installing,
    tools: Tools,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    tools.use_here();
    let ethtool = [("ethtool", "ethtool")];
    apt::require_programs(workspace, installing, &ethtool, "the load generator")?;
    open_files::raise()?;
    let mut all = Scene::value_variants().to_vec();
    all.retain(|scene| arguments.only.is_empty() || arguments.only.contains(scene));
    for scene in all {
        let what = format!("{scene:?}").to_lowercase();
        let rows = step(&what, || match scene {
            Scene::Sessions => sessions::run(arguments.share(100_000)),
            Scene::Flows => flows::run(arguments.share(1_000_000)),
            Scene::Openings => {
                let lasts = Duration::from_secs(arguments.seconds);
                openings::run(workspace, installing, lasts, arguments.share(1 << 20))
            }
            Scene::Publishes => publishes::run(arguments.share(10_000)),
            Scene::Masquerade => masquerade::run(arguments.share(1_000)),
        })?;
        println!("\n| {what} | |\n| --- | --- |");
        for (name, figure) in rows {
            println!("| {name} | {figure} |");
        }
    }
    say("load: all was held");
    Ok(())
}
