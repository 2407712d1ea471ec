//! The scene that ftp-nat is for: a client outside, a real FTP server inside, and a router between
//! them that forwards nothing. Without ftp-nat first, then with it.

mod by_hand;
mod clients;
mod report;
mod scene;

use std::time::Duration;

use anyhow::bail;
use ftp_nat_tests::{
    client::{Client, Job, Mode},
    firewall,
    gateway::Gateway,
    lab::Lab,
    process,
    server::FtpServer,
    tools::Tools,
};

use self::scene::{PUBLIC, RUN, set_up};

/// Runs all scenes.
///
/// # Errors
///
/// When one of them does not end as it should, be it well or badly.
pub(crate) fn run(tools: Tools) -> anyhow::Result<()> {
    tools.use_here();
    without()?;
    with_plain_nat()?;
    with_ftp_nat(
        "With ftp-nat: the firewall drops everything forwarded, and has no rule for FTP",
        Some(firewall::DROP_FORWARDED),
        &[],
    )?;
    with_ftp_nat(
        "With ftp-nat on the WAN interface only (--lan none), and a firewall that lets pass",
        None,
        &["--lan", "none"],
    )?;
    report::title("All scenes ended as they should");
    Ok(())
}

/// Scene 1: nobody translates anything.
fn without() -> anyhow::Result<()> {
    report::title("Without ftp-nat: the firewall drops everything forwarded");
    let (lab, server) = set_up(Some(firewall::DROP_FORWARDED))?;
    fail_to_list(&lab, &server)
}

/// Scene 2: somebody translates port 21, but reads no FTP.
fn with_plain_nat() -> anyhow::Result<()> {
    report::title("Without ftp-nat: an nftables rule translates port 21, and no helper reads FTP");
    let (lab, server) = set_up(Some(firewall::TRANSLATE_PORT_21))?;
    fail_to_list(&lab, &server)
}

/// Scenes 3 and 4.
fn with_ftp_nat(title: &str, firewall: Option<&str>, arguments: &[&str]) -> anyhow::Result<()> {
    report::title(title);
    let (lab, server) = set_up(firewall)?;
    let arguments = [&RUN, arguments].concat();
    report::line("router", &format!("ftp-nat run {}", arguments.join(" ")));
    let gateway = Gateway::start(&lab.router, &arguments)?;
    by_hand::passive(&lab, &server, &gateway)?;
    clients::run_all(&lab, &server)?;
    show_events(&gateway)?;
    if firewall.is_some() {
        let chain = "nft list chain inet lab forward";
        let words: Vec<&str> = chain.split(' ').collect();
        let rules = process::run(
            lab.router.command(words[0])?.args(&words[1..]),
            Duration::from_secs(5),
        )?;
        report::line("router", chain);
        report::block(&rules.text());
    }
    Ok(())
}

/// The first events tell the story; the later ones repeat it.
fn show_events(gateway: &Gateway<'_>) -> anyhow::Result<()> {
    const FIRST: usize = 12;
    let answer = gateway.ask(&["events"])?;
    if !answer.success() {
        report::line("events", answer.stderr.lines().next().unwrap_or_default());
        return Ok(());
    }
    let text = answer.text();
    let lines: Vec<&str> = text.lines().collect();
    report::line("router", &format!("ftp-nat events: {} lines", lines.len()));
    report::block(&lines[..lines.len().min(FIRST)].join("\n"));
    Ok(())
}

/// What a user without ftp-nat sees.
fn fail_to_list(lab: &Lab, server: &FtpServer) -> anyhow::Result<()> {
    let session = Client::Curl.perform(
        lab.client(),
        &server.target_at(PUBLIC),
        Mode::Pasv,
        Job::List("/download"),
    )?;
    report::line(
        "client",
        &format!("curl --disable-epsv ftp://{PUBLIC}/download/"),
    );
    report::announcements(&server.replies("227"), session.replies("227"));
    if session.outcome.success() {
        bail!("this scene must fail, and did not:\n{}", session.transcript);
    }
    // "* connect to ... failed: Connection refused", "* Immediate connect fail for ...: Network is
    // unreachable"
    for line in session.transcript.lines() {
        if let Some(failure) = line.strip_prefix("* ")
            && failure.contains("connect")
            && failure.contains(" fail")
            && failure.contains(": ")
        {
            report::line("client saw", failure);
        }
    }
    report::line("result", "fails, as it must");
    Ok(())
}
