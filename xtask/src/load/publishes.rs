//! Published addresses, and a reload that brings more than there is room for.

use std::{fmt::Write as _, net::Ipv4Addr, time::Instant};

use anyhow::ensure;
use ftp_nat_tests::{
    control::Control,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use super::{rows::Rows, watch};

/// Addresses at which a file is fetched.
const FETCHES: u32 = 100;
const CONTENT: &[u8] = b"by any address\n";

/// One of the published addresses.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + number)
}

/// A configuration that publishes so many.
fn config(lab: &Lab, number: u32) -> anyhow::Result<String> {
    let mut text = "[gateway]\nwan = [\"wan\"]\n".to_owned();
    for number in 0..number {
        writeln!(
            text,
            "[[publish]]\npublic = \"{}:21\"\nserver = \"{}\"",
            address(number),
            lab.server().at(21)
        )?;
    }
    Ok(text)
}

pub(super) fn run(number: u32) -> anyhow::Result<Rows> {
    let lab = Lab::new()?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    server.offer("small.txt", CONTENT)?;
    lab.client()
        .namespace
        .ip(&format!("route add 100.64.0.0/10 via {WAN_ADDRESS}"))?;
    let folder = Scratch::new()?;
    let file = folder.write("ftp-nat.toml", config(&lab, number)?)?;
    let start = Instant::now();
    let gateway = Gateway::start(&lab.router, &["--config", &file.to_string_lossy()])?;
    let ready = start.elapsed();
    let fetch = |number: u32| -> anyhow::Result<()> {
        let target = server.target_at((address(number), 21).into());
        let mut control = Control::log_in(lab.client(), &target)?;
        let fetched = control.fetch(lab.client(), "PASV", "/download/small.txt")?;
        ensure!(fetched == CONTENT, "another content by {}", address(number));
        Ok(())
    };
    let fetches = FETCHES.min(number);
    for at in 0..fetches {
        fetch(at * (number / fetches))?;
    }
    let mut rows = vec![
        ("published addresses", number.to_string()),
        ("from the start to `ready`", format!("{ready:.1?}")),
        (
            "fetched by PASV",
            format!("from {fetches} of them, all whole"),
        ),
        ("memory", watch::memory(&gateway)?),
        ("`status`", watch::answer(&gateway, &["status"])?),
        (
            "`reload`, nothing changed",
            watch::answer(&gateway, &["reload"])?,
        ),
    ];
    // The table is sized at the start: what a reload brings may be too much.
    let more = number * 10;
    folder.write("ftp-nat.toml", config(&lab, more)?)?;
    let start = Instant::now();
    let reloaded = gateway.ask(&["reload"])?;
    let said = format!("{}{}", reloaded.text(), reloaded.stderr);
    let took = start.elapsed();
    rows.push((
        "just beyond",
        format!(
            "a reload to {more}, {} in {took:.1?}: {}",
            if reloaded.success() {
                "taken"
            } else {
                "refused"
            },
            said.lines().next_back().unwrap_or_default()
        ),
    ));
    for at in 0..fetches {
        fetch(at * (number / fetches))?;
    }
    rows.push((
        "after it",
        format!("{fetches} of the first {number} serve as before"),
    ));
    Ok(rows)
}
