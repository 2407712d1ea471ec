//! wget: fetches only.

use std::process::Command;

use super::task::{Mode, Task};

pub(super) fn prepare(command: &mut Command, task: &Task<'_>) {
    let target = task.target;
    command
        .args(["--no-config", "--no-verbose", "--debug", "--tries=1"])
        .arg(format!("--timeout={}", task.patience.as_secs()))
        .arg(format!("--ftp-user={}", target.user))
        .arg(format!("--ftp-password={}", target.password));
    if matches!(task.mode, Mode::Port | Mode::Eprt) {
        command.arg("--no-passive-ftp");
    }
    command
        .arg("-O")
        .arg(&task.output)
        .arg(format!("ftp://{}{}", target.address, task.job.path()));
}
