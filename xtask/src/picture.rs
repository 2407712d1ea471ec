//! The pictures of `ftp-nat top` in the documents: real screens with real transfers on them.

mod svg;

use std::{fs, net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    control::{self, Control},
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

/// The terminals, by columns and lines, and the pictures of them.
const TERMINALS: [(u16, u16, &str); 2] = [(80, 24, "top.svg"), (160, 50, "top-wide.svg")];

/// Takes the pictures.
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
    let top = gateway.command(&["top"])?;
    let words: Vec<_> = [top.get_program()]
        .into_iter()
        .chain(top.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let mut terminals = Vec::new();
    for (columns, lines, picture) in TERMINALS {
        let terminal = Terminal::open(&lab.router, columns, lines)?;
        terminal.type_line(&words.join(" "))?;
        terminal.wait_for("an empty screen", PATIENCE, |text| {
            text.contains("TRANSFERS 0")
        })?;
        terminals.push((terminal, columns, picture));
    }
    // Sessions that rest, and somebody who tries ports that nobody announced.
    let public: SocketAddr = (WAN_ADDRESS, 21).into();
    let mut resting = Vec::new();
    for host in &lab.outside {
        resting.push(Control::log_in(host, &server.target_at(public))?);
        let unannounced = control::connect(host, (WAN_ADDRESS, 50_000).into());
        ensure!(unannounced.is_err(), "a port that nobody announced is open");
    }
    let mut downloads = Vec::new();
    for (host, rate) in lab.outside.iter().zip(RATES).rev() {
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
    for (terminal, ..) in &terminals {
        terminal.wait_for("all transfers", PATIENCE, |text| {
            text.contains("TRANSFERS 4")
        })?;
    }
    thread::sleep(WATCH / 2);
    for (terminal, columns, picture) in &terminals {
        let screen = terminal.coloured()?;
        let path = workspace.root.join("docs").join(picture);
        let note = "`cargo xtask picture` made this from `tmux capture-pane -e -p`";
        fs::write(&path, svg::draw(&screen, usize::from(*columns), note))
            .with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!("wrote {}", workspace.relative(&path)));
    }
    drop(downloads);
    Ok(())
}
