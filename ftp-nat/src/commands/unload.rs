//! `ftp-nat unload`: everything off the interfaces and out of the kernel.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use log::warn;

use crate::{
    cli::UnloadArgs,
    client::machine::{Home, State, homes},
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
    if args.all || args.gone {
        return everywhere(&args.selection.state_dir, args.all);
    }
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

/// Removes what namespaces that are gone have left, and with `all` every gateway.
fn everywhere(state_dir: &Path, all: bool) -> Result<(), Failure> {
    let homes = homes(state_dir)?;
    if all {
        // All or nothing: what a daemon runs is found before anything is removed.
        for home in &homes {
            refuse_running(home)?;
        }
    }
    let mut count = 0;
    for home in homes {
        let gateways = home.gateways()?;
        match &home.state {
            State::Gone => {
                for gateway in &gateways {
                    gateway.remove()?;
                    print(&format!(
                        "removed {} of {}, which is gone\n",
                        gateway.name(),
                        home.pins.namespace()
                    ))?;
                }
                RuntimeDir::of(home.cookie).remove();
            }
            State::Alive(namespace) if all => {
                let trust = Trust::of(home.pins.state_dir());
                let remove_all = || gateways.iter().try_for_each(|it| remove(it, trust));
                namespace
                    .run(remove_all)
                    .with_context(|| format!("cannot enter {}", home.pins.namespace()))??;
            }
            State::Hidden if all => {
                return Err(anyhow!(
                    "{} is alive, but nothing leads to it: end the process that holds it open, \
                     then `ftp-nat unload --gone` removes its gateways",
                    home.pins.namespace()
                )
                .into());
            }
            State::Alive(_) | State::Hidden => continue,
        }
        count += gateways.len();
        home.pins.prune();
    }
    if count == 0 {
        let what = if all {
            "no gateway is loaded"
        } else {
            "nothing is left of namespaces that are gone"
        };
        print(&format!("{what} below {}\n", state_dir.display()))?;
    }
    Ok(())
}

fn refuse_running(home: &Home) -> anyhow::Result<()> {
    let (dir, trust) = (
        RuntimeDir::of(home.cookie),
        Trust::of(home.pins.state_dir()),
    );
    for gateway in home.gateways()? {
        for wan in gateway.wans() {
            if let Some(holder) = lock::holder(&dir, &wan, trust) {
                bail!(
                    "process {} runs the gateway {} of {}: stop it first; nothing was removed",
                    holder.pid,
                    gateway.name(),
                    home.pins.namespace()
                );
            }
        }
    }
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
