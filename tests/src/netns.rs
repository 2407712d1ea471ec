//! Named network namespaces as `ip netns` keeps them: their names, and what lives in them.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What the names of all namespaces of all labs begin with.
pub(crate) const PREFIX: &str = "ftpnat-";

/// Where `ip netns` keeps its names.
pub(crate) const NAMES: &str = "/run/netns";

/// Runs `ip` with `arguments`.
pub(crate) fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    feed(Command::new("ip").args(arguments), "")
}

/// Runs `command` with `input`; what it says on its error stream becomes the error.
pub(crate) fn feed(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let name = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`: is its package installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that stopped reading says why on its error stream.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{name}` failed: {}\n{input}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The names of all labs' namespaces, of this process and of others.
#[must_use]
pub fn list() -> Vec<String> {
    fs::read_dir(NAMES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

/// Ends every process in the namespace and removes it. A guard's last resort: it cannot fail, it
/// can only leave something behind.
pub fn remove(name: &str) {
    end_processes(name);
    if Path::new(NAMES).join(name).exists()
        && let Err(error) = ip(&["netns", "delete", name])
    {
        eprintln!("lab: the namespace {name} is left behind: {error:#}");
    }
}

/// Ends every process in the namespace.
pub fn end_processes(name: &str) {
    const PATIENCE: Duration = Duration::from_secs(3);
    let start = Instant::now();
    loop {
        let pids = processes(name);
        if pids.is_empty() || start.elapsed() > PATIENCE {
            break;
        }
        for pid in pids {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose network namespace is `name`, except this one.
fn processes(name: &str) -> Vec<Pid> {
    let Ok(namespace) = fs::metadata(Path::new(NAMES).join(name)) else {
        return Vec::new();
    };
    let lives_there = |pid: &Pid| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|its| its.ino() == namespace.ino() && its.dev() == namespace.dev())
            && !is_zombie(*pid)
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != rustix::process::getpid())
        .filter(lives_there)
        .collect()
}

/// A dead process that its parent has not waited for holds no namespace.
fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')))
}
