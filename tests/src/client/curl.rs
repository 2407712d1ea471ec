//! curl.

use std::process::Command;

use super::task::{Job, Mode, Task, TlsVersion};

pub(super) fn prepare(command: &mut Command, task: &Task<'_>) {
    command
        .args(["--disable", "--silent", "--show-error", "--verbose"])
        // From 7.74 on curl ignores the address in a 227 unless told otherwise.
        .arg("--no-ftp-skip-pasv-ip")
        .args(["--connect-timeout", &task.patience.as_secs().to_string()])
        .args(["--max-time", &task.limit.as_secs().to_string()])
        .args([
            "--user",
            &format!("{}:{}", task.target.user, task.target.password),
        ])
        .arg("--output")
        .arg(&task.output);
    match task.mode {
        Mode::Pasv => command.arg("--disable-epsv"),
        Mode::Epsv => command.arg("--epsv"),
        Mode::Port => command.args(["--disable-eprt", "--ftp-port", "-"]),
        Mode::Eprt => command.args(["--eprt", "--ftp-port", "-"]),
    };
    if task.target.tls {
        command.args(["--ssl-reqd", "--insecure"]);
    }
    match task.target.tls_version {
        TlsVersion::Newest => {}
        TlsVersion::V12 => {
            command.args(["--tls-max", "1.2"]);
        }
        TlsVersion::V13 => {
            command.arg("--tlsv1.3");
        }
    }
    let scheme = if task.target.implicit_tls {
        "ftps"
    } else {
        "ftp"
    };
    let url = |path: &str| format!("{scheme}://{}{path}", task.target.address);
    match task.job {
        Job::Fetch(path) => command.arg(url(path)),
        Job::Store(file, path) => command.arg("--upload-file").arg(file).arg(url(path)),
        // A slash at the end makes it a folder.
        Job::List(path) => command.arg(url(&format!("{}/", path.trim_end_matches('/')))),
    };
}
