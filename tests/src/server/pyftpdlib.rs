//! pyftpdlib, driven by a small script.

use std::process::Command;

use serde_json::json;

use super::{
    kind::{Kind, folder},
    site::{PASSWORD, Settings, Site, USER},
};
use crate::lab::Host;

const SCRIPT: &str = include_str!("pyftpdlib.py");

pub(super) fn command(host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    let job = json!({
        "port": settings.port,
        "user": USER,
        "password": PASSWORD,
        "root": site.root(),
        "ports": settings.passive_ports.as_ref().map(|ports| [*ports.start(), *ports.end()]),
        "announce": settings.announce,
    });
    let mut command = host.namespace.command("python3")?;
    command
        .env(
            "PYTHONPATH",
            folder(Kind::Pyftpdlib)?.join("usr/lib/python3/dist-packages"),
        )
        .args(["-c", SCRIPT, &job.to_string()]);
    Ok(command)
}
