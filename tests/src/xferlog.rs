//! A real reader of xferlog, webalizer, from Debian's package, unpacked and not installed.

use std::{path::Path, time::Duration};

use crate::{
    namespace::Namespace,
    process::{self, Outcome},
    tools::Tools,
    unpacked::unpacked_program,
};

/// The folder beside those of the servers, and the package that is unpacked there.
pub const NAME: &str = "webalizer";

const LIMIT: Duration = Duration::from_secs(60);

/// Has it read a log and write its report into a folder.
///
/// # Errors
///
/// When it is not unpacked, or fails; the message has what it said.
pub fn read(namespace: &Namespace, log: &Path, report: &Path) -> anyhow::Result<Outcome> {
    let folder = Tools::get()?.servers.join(NAME);
    let mut command = unpacked_program(namespace, &folder, "usr/bin/webalizer")?;
    command
        .args(["-c", "/dev/null", "-F", "ftp", "-o"])
        .args([report, log]);
    process::run(&mut command, LIMIT)?.expect_success()
}
