//! The process that keeps the lab's programs running behind `lab up`: the FTP server, whose files go
//! away with it, and ftp-nat.

use std::{
    env, fs,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{
    lab::{Host, WAN, WAN_ADDRESS},
    namespace::Namespace,
    netns,
    process::{self, Running},
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};
use rustix::process::{Pid, Signal, kill_process};

use super::machines::machine_name;
use crate::{progress::say, workspace::Workspace};

/// The file that the lab's server offers.
pub(super) const OFFERED: &str = "hello.txt";
/// What is in it.
pub(super) const CONTENT: &str = "It works.\n";

/// What it says when all runs.
const READY: &str = "ready";
const PATIENCE: Duration = Duration::from_secs(20);

/// Its process number, while the lab stands, and the binary that runs as its gateway.
fn note(workspace: &Workspace) -> PathBuf {
    workspace.target.join("lab/keeper")
}

/// Starts it, and waits until all runs.
///
/// # Errors
///
/// What did not start.
pub(super) fn start(workspace: &Workspace, tools: &Tools, gateway: bool) -> anyhow::Result<()> {
    let log = workspace.target.join("lab/keeper.log");
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["lab", "keep"])
        .args(gateway.then_some("--gateway"))
        .envs(tools.variables())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?);
    let mut child = command.spawn().context("cannot start the lab's keeper")?;
    let said = child.stdout.take().context("it says nothing")?;
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line)?;
    if line.trim_end() != READY {
        child.wait()?;
        bail!(
            "the lab's programs do not start:\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }
    let noted = format!("{} {}", child.id(), tools.binary.display());
    fs::write(note(workspace), noted)?;
    say(&format!(
        "what runs there says: {}",
        workspace.relative(&log)
    ));
    Ok(())
}

/// Runs them until a signal ends this process, and with it the server's files.
///
/// # Errors
///
/// What did not start.
pub(super) fn keep(gateway: bool) -> anyhow::Result<()> {
    let host = Host {
        namespace: Namespace::existing(&machine_name("server"))?,
        v4: "10.0.0.5".parse()?,
        v6: "fd00:10::5".parse()?,
    };
    let server = FtpServer::start(Kind::Vsftpd, &host, &Settings::default())?;
    server.offer(OFFERED, CONTENT)?;
    let mut daemon = None;
    if gateway {
        let router = Namespace::existing(&machine_name("router"))?;
        let mut command = router.command(Tools::get()?.binary)?;
        command
            .args(["run", "--config", "/dev/null", "--wan", WAN, "--publish"])
            .arg(format!("{WAN_ADDRESS}:21=10.0.0.5:21"));
        let mut running = Running::start(&mut command)?;
        running.wait_for("ready", PATIENCE)?;
        daemon = Some(running);
    }
    println!("{READY}");
    let mut told = 0;
    loop {
        // Into the log of this process, which `up` has named.
        let log = daemon.as_ref().map(Running::log).unwrap_or_default();
        if let Some(new) = log.get(told..) {
            eprint!("{new}");
        }
        told = log.len();
        thread::sleep(Duration::from_millis(500));
    }
}

/// Ends it, what it runs, and what the gateway has left in the kernel.
///
/// # Errors
///
/// When the gateway cannot be unloaded.
pub(super) fn stop(workspace: &Workspace) -> anyhow::Result<()> {
    let Ok(noted) = fs::read_to_string(note(workspace)) else {
        return Ok(());
    };
    let (pid, binary) = noted
        .split_once(' ')
        .context("the keeper's note is cut off")?;
    // Another process may have its number by now.
    let is_keeper = || {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.windows(8).any(|it| it == b"lab\0keep")
    };
    if is_keeper()
        && let Some(number) = Pid::from_raw(pid.parse()?)
    {
        kill_process(number, Signal::TERM).context("cannot end the lab's keeper")?;
        let start = Instant::now();
        while is_keeper() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let router = machine_name("router");
    if let Ok(namespace) = Namespace::existing(&router) {
        netns::end_processes(&router);
        if fs::exists(binary)? {
            process::run(namespace.command(binary)?.arg("unload"), PATIENCE)?.expect_success()?;
        }
    }
    fs::remove_file(note(workspace))?;
    Ok(())
}
