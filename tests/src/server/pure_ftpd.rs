//! Pure-FTPd, configured by its command line only.

use std::{process::Command, time::Duration};

use anyhow::Context as _;

use super::{
    kind::{Kind, unpacked},
    site::{PASSWORD, Settings, Site, USER},
};
use crate::{lab::Host, process};

pub(super) fn command(host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    let accounts = make_accounts(host, site).context("cannot make Pure-FTPd's accounts")?;
    let mut command = unpacked(Kind::PureFtpd, host, "usr/sbin/pure-ftpd")?;
    command
        .args(["--dontresolve", "--noanonymous", "--chrooteveryone"])
        // The lab's user is below the usual minimum.
        .args(["--minuid", "1"])
        .args(["--bind", &format!(",{}", settings.port)])
        .args(["--login", &format!("puredb:{accounts}")])
        .arg("--pidfile")
        .arg(site.scratch.path().join("pure-ftpd.pid"));
    if let Some(ports) = &settings.passive_ports {
        command.args([
            "--passiveportrange",
            &format!("{}:{}", ports.start(), ports.end()),
        ]);
    }
    if let Some(address) = settings.announce {
        command.args(["--forcepassiveip", &address.to_string()]);
    }
    if let Some(certificate) = site.certificate() {
        command.args(["--tls", "1", "--certfile"]).arg(certificate);
    }
    Ok(command)
}

/// Anonymous access needs a system user "ftp", so the name "anonymous" is an account here. Gives
/// the path of the accounts' database.
///
/// The account is written by hand, because the hash that `pure-pw useradd` makes takes seconds to
/// check, at every login.
fn make_accounts(host: &Host, site: &Site) -> anyhow::Result<String> {
    const LIMIT: Duration = Duration::from_secs(10);
    let hash = process::run(
        Command::new("openssl").args(["passwd", "-6", PASSWORD]),
        LIMIT,
    )?
    .expect_success()?
    .text();
    // Uid and gid 1 are Debian's "daemon"; the many fields at the end are quotas and the like.
    let accounts = site.scratch.write(
        "accounts",
        format!(
            "{USER}:{}:1:1::{}/./::::::::::::\n",
            hash.trim(),
            site.root().display()
        ),
    )?;
    let database = site.scratch.path().join("accounts.pdb");
    let mut command = unpacked(Kind::PureFtpd, host, "usr/bin/pure-pw")?;
    command.arg("mkdb").arg(&database).arg("-f").arg(accounts);
    process::run(&mut command, LIMIT)?.expect_success()?;
    Ok(database.display().to_string())
}
