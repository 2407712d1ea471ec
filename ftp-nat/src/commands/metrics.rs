//! `ftp-nat metrics`: the counters, without the daemon.

use crate::{
    cli::ShowArgs,
    client::view::View,
    metrics::{families, text},
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
    let families = families(&loaded.maps)?;
    if args.json {
        print_json(&families)?;
    } else {
        print(&text(&families)?)?;
    }
    Ok(())
}
