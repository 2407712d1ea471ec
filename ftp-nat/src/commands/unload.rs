//! `ftp-nat unload`: everything off the interfaces and out of the kernel.

use anyhow::anyhow;
use log::warn;

use crate::{
    cli::UnloadArgs,
    datapath::{
        attach,
        pins::{Gateway, Pins},
    },
    ipc::{lock, runtime_dir::RuntimeDir, trust::Trust},
    kernel::requirements,
    output::{failure::Failure, print::print},
};

/// Removes the gateways that are asked for; that there are none is as good.
///
/// # Errors
///
/// When a daemon still runs one of them, or the kernel refuses.
pub fn run(args: &UnloadArgs) -> Result<(), Failure> {
    let selection = &args.selection;
    let pins = Pins::here(&selection.state_dir)?;
    let gateways: Vec<_> = pins
        .gateways()
        .map_err(|error| {
            let why = requirements::why_refused();
            error.context(format!("cannot look for gateways{why}"))
        })?
        .into_iter()
        .chain(pins.of_other_versions())
        .filter(|gateway| gateway.is_one_of(&selection.wan))
        .collect();
    if gateways.is_empty() {
        let (dir, trust) = (RuntimeDir::here()?, Trust::of(pins.state_dir()));
        let asked = |wan: &&String| selection.wan.is_empty() || selection.wan.contains(wan);
        if let Some(holder) = dir
            .wans()
            .iter()
            .filter(asked)
            .find_map(|wan| lock::holder(&dir, wan, trust))
        {
            return Err(anyhow!(
                "nothing is loaded below {}, but process {} runs a gateway whose pins are \
                 elsewhere: stop it, and name its --state-dir",
                pins.state_dir().display(),
                holder.pid
            )
            .into());
        }
        print(&format!(
            "nothing is loaded in this network namespace below {}\n",
            pins.state_dir().display()
        ))?;
    }
    for gateway in gateways {
        remove(&gateway, Trust::of(pins.state_dir()))?;
    }
    pins.prune();
    Ok(())
}

fn remove(gateway: &Gateway, trust: Trust) -> anyhow::Result<()> {
    let wans = gateway.wans();
    // Held until the end, so that no daemon takes over what is being removed.
    let dir = RuntimeDir::here()?;
    let _guards = lock::take(&dir, wans.iter().map(String::as_str), trust)?;
    let programs = attach::detach_all(gateway)?;
    gateway.remove()?;
    if gateway.exists() {
        warn!("{} is still there", gateway.dir().display());
    }
    print(&format!(
        "unloaded {}: {programs} programs detached\n",
        gateway.name()
    ))
}
