//! pyftpdlib, driven by a small script.

use std::process::Command;

use anyhow::bail;
use serde_json::json;

use super::{
    kind::{Kind, folder},
    site::{PASSWORD, Settings, Site, USER},
};
use crate::{lab::Host, tools::Tools};

/// What it needs for TLS: the folder beside those of the servers, and the packages that are unpacked
/// there.
pub const OPENSSL: (&str, &[&str]) = (
    "pyopenssl",
    &[
        "python3-openssl",
        "python3-cryptography",
        "python3-cffi-backend",
    ],
);

/// Where Debian's packages have Python's modules.
const MODULES: &str = "usr/lib/python3/dist-packages";

const SCRIPT: &str = include_str!("pyftpdlib.py");

pub(super) fn command(host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    let job = json!({
        "port": settings.port,
        "user": USER,
        "password": PASSWORD,
        "root": site.root(),
        "ports": settings.passive_ports.as_ref().map(|ports| [*ports.start(), *ports.end()]),
        "announce": settings.announce,
        "certificate": site.certificate(),
        "implicit": settings.implicit_tls,
    });
    let mut modules = vec![folder(Kind::Pyftpdlib)?.join(MODULES)];
    if settings.tls {
        let (name, _) = OPENSSL;
        let openssl = Tools::get()?.servers.join(name);
        if !openssl.is_dir() {
            bail!("{name} was not unpacked: use `cargo xtask test`");
        }
        modules.push(openssl.join(MODULES));
    }
    // Debian's own Python: the packages' compiled modules fit no other.
    let mut command = host.namespace.command("/usr/bin/python3")?;
    command
        .env("PYTHONPATH", std::env::join_paths(modules)?)
        .args(["-c", SCRIPT, &job.to_string()]);
    Ok(command)
}
