//! `ftp-nat inspect`: what the gateway would do with each control line of a capture, and why.
//!
//! The control connections' segments go through the very code that runs in the kernel
//! ([`ftp_nat_common::host`]); nothing is attached and no privilege is needed.

mod capture;
mod connections;
mod control;
mod direction;
mod gate;
mod packet;
mod report;
mod tally;

use std::collections::BTreeSet;

use anyhow::anyhow;

use self::{
    connections::{Assumptions, Connections},
    control::Role,
    packet::Seen,
    report::Report,
    tally::Tally,
};
use crate::{
    cli::{InspectArgs, InspectRole},
    output::{
        failure::Failure,
        print::{print, print_json},
    },
};

/// The control port of RFC 959.
const FTP: u16 = 21;

/// Reads the capture and prints what the gateway would do.
///
/// # Errors
///
/// When the file is no capture, is cut off, or holds only packets of a link that is not known.
pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let mut ports: BTreeSet<u16> = args.control_port.iter().copied().collect();
    ports.insert(FTP);
    let mut connections = Connections::new(Assumptions {
        ports,
        role: match args.role {
            InspectRole::Auto => None,
            InspectRole::Publish => Some(Role::Publish),
            InspectRole::Masquerade => Some(Role::Masquerade),
        },
        public: args.public.clone(),
    });
    let mut tally = Tally::default();
    let end = capture::read(&args.file, |captured| {
        tally.packets += 1;
        tally.first.get_or_insert(captured.time);
        tally.last = tally.last.max(captured.time);
        match packet::read(&captured) {
            Seen::Tcp(tcp) => connections.see(tcp, captured.time),
            Seen::Other => {}
            Seen::Fragment => tally.fragments += 1,
            Seen::Truncated => tally.truncated += 1,
            Seen::UnknownLink(link) => drop(tally.unknown_links.insert(link.0)),
        }
    });
    connections.end(tally.last);
    let report = Report::new(&args.file, &tally, &connections.controls);
    // What was there before a broken end is worth seeing.
    if end.is_ok() || tally.packets > 0 {
        if args.json {
            print_json(&report)?;
        } else {
            print(&report.text())?;
        }
    }
    end?;
    if let Some(link) = tally.unknown_links.first()
        && connections.controls.is_empty()
    {
        let known = "known are Ethernet, raw IP, Linux cooked (1 and 2) and BSD loopback";
        return Err(Failure::Failed(anyhow!(
            "{} was captured on a link of type {link}: {known}",
            args.file.display()
        )));
    }
    if tally.packets == 0 {
        return Err(Failure::Failed(anyhow!(
            "{} holds no packet",
            args.file.display()
        )));
    }
    Ok(())
}
