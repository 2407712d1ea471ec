//! One download, step by step, so that what lives for milliseconds can be seen.

use anyhow::{Context as _, ensure};
use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    server::FtpServer,
};

use super::{report, scene::PUBLIC};

/// PASV, a look at the mapping, the data connection, a look at the flows.
pub(super) fn passive(lab: &Lab, server: &FtpServer, gateway: &Gateway<'_>) -> anyhow::Result<()> {
    const CONTENT: &str = "step by step\n";
    server.offer("steps.txt", CONTENT)?;

    report::line(
        "by hand",
        &format!("a control connection to {PUBLIC}, and PASV"),
    );
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC))?;
    let reply = control.command("PASV")?;
    report::announcements(&server.replies("227"), [reply.trim_end()].into_iter());
    let address = control::address_in_227(&reply)?;
    ensure!(
        address.ip() == PUBLIC.ip(),
        "the client must see the public address, not {address}"
    );
    report::facts("mapping", &gateway.json(&["mappings"])?);

    let data = control::connect(lab.client(), address)
        .context("the announced data connection does not come about")?;
    report::line("client", &format!("connected to {address}"));
    report::facts("flows", &gateway.json(&["flows"])?);
    report::facts("mapping", &gateway.json(&["mappings"])?);

    control.send("RETR /download/steps.txt\r\n")?;
    control.expect("150")?;
    let content = control::read_all(&data)?;
    control.expect("226")?;
    ensure!(
        content == CONTENT.as_bytes(),
        "another content than the server's"
    );
    report::line(
        "result",
        &format!("{} bytes, as the server has them", content.len()),
    );
    Ok(())
}
