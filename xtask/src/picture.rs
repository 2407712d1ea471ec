//! The picture of `ftp-nat top` in the README: a real screen with real transfers on it.

mod svg;

use std::{fs, net::SocketAddr, thread, time::Duration};

use anyhow::Context as _;
use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Lab, Plan, WAN_ADDRESS},
    process::Running,
    server::{FtpServer, Kind, Settings},
    terminal::Terminal,
    tools::Tools,
};

use crate::{progress::say, workspace::Workspace};

/// What ftp-nat is told.
const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

/// What clients fetch, and how fast.
const RATES: [&str; 4] = ["6M", "2M", "800k", "90k"];

/// Until the graph has something to show.
const WATCH: Duration = Duration::from_secs(24);
const PATIENCE: Duration = Duration::from_secs(15);

/// Takes the picture.
///
/// # Errors
///
/// When the scene does not come about.
pub(crate) fn take(workspace: &Workspace, tools: Tools) -> anyhow::Result<()> {
    tools.use_here();
    let lab = Lab::with(Plan {
        outside: RATES.len() as u8,
        inside: 1,
    })?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    // Nothing in it, so that the disk has nothing to do.
    fs::File::create(server.path_of("large.bin"))?.set_len(1 << 30)?;
    let gateway = Gateway::start(&lab.router, &RUN)?;
    let terminal = Terminal::open(&lab.router, 80, 24)?;
    let top = gateway.command(&["top"])?;
    let words: Vec<_> = [top.get_program()]
        .into_iter()
        .chain(top.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    terminal.type_line(&words.join(" "))?;
    terminal.wait_for("an empty screen", PATIENCE, |text| {
        text.contains("TRANSFERS 0")
    })?;
    let mut downloads = Vec::new();
    for (host, rate) in lab.outside.iter().zip(RATES).rev() {
        let public: SocketAddr = (WAN_ADDRESS, 21).into();
        // With little memory for what it has not read yet it takes small steps.
        let sysctl = ("net.ipv4.tcp_rmem", "4096 32768 32768");
        host.namespace.sysctl(sysctl.0, sysctl.1)?;
        let mut curl = host.namespace.command("curl")?;
        curl.args(["--disable", "--silent", "--limit-rate", rate])
            .args(["--max-time", "60", "--output", "/dev/null", "--user"])
            .arg("anonymous:lab@example.net")
            .arg(format!("ftp://{public}/download/large.bin"));
        downloads.push(Running::start(&mut curl)?);
        thread::sleep(WATCH / 2 / RATES.len() as u32);
    }
    terminal.wait_for("all transfers", PATIENCE, |text| {
        text.contains("TRANSFERS 4")
    })?;
    thread::sleep(WATCH / 2);
    let screen = terminal.coloured()?;
    drop(downloads);
    let path = workspace.root.join("docs/top.svg");
    let note = "`cargo xtask picture` made this from `tmux capture-pane -e -p`";
    fs::write(&path, svg::draw(&screen, 80, note))
        .with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("wrote {}", workspace.relative(&path)));
    Ok(())
}
