//! tnftp, the BSD systems' ftp: fetches and stores by URL. (By commands it could list too, but then
//! it ends well whatever happened.)

use std::process::Command;

use super::task::{Job, Mode, Task};

pub(super) fn prepare(command: &mut Command, task: &Task<'_>) {
    let target = task.target;
    // A macro of this name runs after every login, and ends with an empty line.
    let netrc = format!(
        "machine {} login {} password {}\nmacdef init\nepsv4 {}\n\n",
        target.address.ip(),
        target.user,
        target.password,
        match task.mode {
            Mode::Epsv | Mode::Eprt => "on",
            Mode::Pasv | Mode::Port => "off",
        }
    );
    let netrc_file = task.home.join("netrc");
    // If it cannot be written tnftp will say that it cannot be read.
    drop(std::fs::write(&netrc_file, netrc));
    command
        .args(["-v", "-q", &task.patience.as_secs().to_string(), "-N"])
        .arg(netrc_file);
    if matches!(task.mode, Mode::Port | Mode::Eprt) {
        command.arg("-A");
    }
    // Without a user in it the file would not be read.
    let url = format!(
        "ftp://{}@{}{}",
        target.user,
        target.address,
        task.job.path()
    );
    match task.job {
        Job::Store(file, _) => command.args(["-u", &url]).arg(file),
        Job::Fetch(_) | Job::List(_) => command.arg("-o").arg(&task.output).arg(&url),
    };
}
