//! Python's ftplib, driven by a small script.

use std::process::Command;

use serde_json::json;

use super::task::{Job, Mode, Task, TlsVersion};

const SCRIPT: &str = include_str!("ftplib.py");

pub(super) fn prepare(command: &mut Command, task: &Task<'_>) {
    let (verb, path, file) = match task.job {
        Job::Fetch(path) => ("fetch", path, None),
        Job::Store(file, path) => ("store", path, Some(file)),
        Job::List(path) => ("list", path, None),
    };
    let mode = match task.mode {
        Mode::Pasv => "PASV",
        Mode::Epsv => "EPSV",
        Mode::Port => "PORT",
        Mode::Eprt => "EPRT",
    };
    let job = json!({
        "host": task.target.address.ip().to_string(),
        "port": task.target.address.port(),
        "user": task.target.user,
        "password": task.target.password,
        "tls": task.target.tls,
        "tls_version": match task.target.tls_version {
            TlsVersion::Newest => None,
            TlsVersion::V12 => Some("TLSv1_2"),
            TlsVersion::V13 => Some("TLSv1_3"),
        },
        "timeout": task.patience.as_secs(),
        "mode": mode,
        "verb": verb,
        "path": path,
        "file": file,
        "output": task.output,
    });
    command.args(["-c", SCRIPT, &job.to_string()]);
}
