//! `ftp-nat metrics`: those of the daemon, or what the maps tell without one.

use log::warn;

use crate::{
    cli::ShowArgs,
    client::{call, view::View},
    metrics::{families, names_of_daemon, text},
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// Prints them.
///
/// # Errors
///
/// When not exactly one gateway is meant, or it cannot be read.
pub fn run(args: &ShowArgs) -> Result<(), Failure> {
    let view = View::of(&args.selection)?;
    let [loaded] = view.loaded.as_slice() else {
        let names: Vec<_> = view.loaded.iter().map(|it| it.gateway.name()).collect();
        return Err(Failure::usage(format!(
            "there are several gateways ({}): choose one with --wan",
            names.join(", ")
        )));
    };
    let of_daemon = loaded
        .daemon
        .as_ref()
        .and_then(|_| call::metrics(&loaded.gateway, &args.selection.state_dir));
    let missing = if of_daemon.is_none() {
        let why = if loaded.daemon.is_none() {
            "no daemon runs"
        } else {
            "the daemon does not answer"
        };
        let names = names_of_daemon().join(" ");
        Some(format!("{why}; these are not known without it: {names}"))
    } else {
        None
    };
    let families = match of_daemon {
        Some(families) => families,
        None => families(&loaded.maps)?,
    };
    if args.json {
        if let Some(missing) = missing {
            warn!("{missing}");
        }
        print_json(&families)?;
    } else {
        let note = missing.map_or(String::new(), |missing| format!("# {missing}\n"));
        print(&format!("{note}{}", text(&families)?))?;
    }
    Ok(())
}
