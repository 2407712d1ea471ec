//! What the kernel has instead: its own FTP helper on both routers, conntrackd between them, and keepalived.

use std::{thread, time::Duration};

use anyhow::ensure;

use super::{
    Fleet,
    client::{Fetching, Files, eventually, monotonic, serve},
};
use crate::{firewall, process::Running, tools::Tools, unpacked::unpacked_program};

/// The folder and package of conntrackd.
pub const CONNTRACKD: &str = "conntrackd";

/// How long a session may hang before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(8);

/// Cuts the master off while a client fetches small files; gives whether its session broke. `rest`: how long the
/// client rests before each file.
///
/// # Errors
///
/// When something does not start, or the addresses do not move.
pub fn is_broken_by_a_cut(rest: Duration) -> anyhow::Result<bool> {
    let fleet = Fleet::new()?;
    let server = serve(&fleet, false)?;
    let mut running = Vec::new();
    for place in [0, 1] {
        fleet.routers[place].nft(firewall::KERNEL_HELPER)?;
        running.push(conntrackd(&fleet, place)?);
    }
    let master = 0;
    running.push(fleet.keepalived_with(master, None)?);
    fleet.wait_for_address(master)?;
    running.push(fleet.keepalived_with(1 - master, None)?);
    let length = 20_000;
    let fetching = Fetching::start(&fleet, &server, &Files { length, rest })?;
    eventually("the client and the server use that gateway", || {
        fleet.is_used(master)
    })?;
    let before = fetching.files();
    eventually("files are fetched", || Ok(fetching.files() > before))?;
    fleet.cable(master, false)?;
    fleet.wait_for_address(1 - master)?;
    let moved = monotonic();
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        let goes_on = |line: &super::client::Line| line.at > moved + Duration::from_secs(1);
        if !fetching.failures().is_empty() {
            return Ok(true);
        }
        if fetching
            .lines()
            .iter()
            .any(|line| line.files.is_some() && goes_on(line))
        {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}

/// Starts conntrackd on router number `place`: acknowledged messages, what is expected too, and all of it put
/// into the kernel's table at once.
fn conntrackd(fleet: &Fleet, place: usize) -> anyhow::Result<Running> {
    let (own, other) = (place + 2, 3 - place);
    let file = |suffix: &str| fleet.folder().join(format!("conntrackd{place}.{suffix}"));
    let config = fleet.folder.write(
        &format!("conntrackd{place}.conf"),
        format!(
            "Sync {{\n Mode FTFW {{\n  DisableExternalCache On\n }}\n UDP {{\n  IPv4_address 10.9.0.{own}\n  \
             IPv4_Destination_Address 10.9.0.{other}\n  Port 3780\n  Interface eng\n  Checksum on\n }}\n Options {{\n  \
             ExpectationSync On\n }}\n}}\nGeneral {{\n HashSize 32768\n HashLimit 131072\n LogFile off\n Syslog off\n \
             LockFile {}\n UNIX {{\n  Path {}\n }}\n Filter From Userspace {{\n  Protocol Accept {{\n   TCP\n  }}\n \
             }}\n}}\n",
            file("lock").display(),
            file("socket").display()
        ),
    )?;
    let folder = Tools::get()?.servers.join(CONNTRACKD);
    let mut command = unpacked_program(&fleet.routers[place], &folder, "usr/sbin/conntrackd")?;
    command.arg("-C").arg(config);
    let mut running = Running::start(&mut command)?;
    thread::sleep(Duration::from_millis(500));
    ensure!(
        running.is_alive()?,
        "conntrackd has ended: {}",
        running.log()
    );
    Ok(running)
}
