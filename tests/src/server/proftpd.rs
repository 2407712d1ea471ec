//! ProFTPD.

use std::{fmt::Write as _, process::Command};

use super::{
    kind::{Kind, folder, unpacked},
    site::{Settings, Site},
};
use crate::lab::Host;

pub(super) fn command(host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    let modules = folder(Kind::Proftpd)?.join("usr/lib/proftpd");
    let config = site.scratch.write(
        "proftpd.conf",
        configuration(host, site, settings, &modules.display()),
    )?;
    let mut command = unpacked(Kind::Proftpd, host, "usr/sbin/proftpd")?;
    command.args(["--nodaemon", "--config"]).arg(config);
    Ok(command)
}

fn configuration(
    host: &Host,
    site: &Site,
    settings: &Settings,
    modules: &dyn std::fmt::Display,
) -> String {
    let scratch = site.scratch.path().display();
    let mut config = format!(
        "\
ServerType standalone
ServerName lab
DefaultAddress {address}
DefaultServer on
Port {port}
UseIPv6 on
UseReverseDNS off
User daemon
Group daemon
ModulePath {modules}
ScoreboardFile {scratch}/scoreboard
PidFile {scratch}/proftpd.pid
SystemLog {log}
TransferLog none
WtmpLog off
ControlsEngine off
DelayEngine off
UseFtpUsers off
AllowOverwrite on
TimeoutLinger 0
<Anonymous {root}>
  User daemon
  Group daemon
  UserAlias anonymous daemon
  RequireValidShell off
</Anonymous>
",
        // Without, it wants the machine's own name to have an address. It listens at every one.
        address = host.v4,
        port = settings.port,
        log = site.log_file().display(),
        root = site.root().display(),
    );
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(config, "{key} {value}");
    };
    if let Some(ports) = &settings.passive_ports {
        set(
            "PassivePorts",
            &format!("{} {}", ports.start(), ports.end()),
        );
    }
    if let Some(address) = settings.announce {
        set("MasqueradeAddress", &address);
    }
    if let Some(certificate) = site.certificate() {
        set("LoadModule", &"mod_tls.c");
        set("TLSEngine", &"on");
        if !settings.tls_resumption {
            set("TLSOptions", &"NoSessionReuseRequired");
        }
        if settings.implicit_tls {
            set("TLSOptions", &"UseImplicitSSL");
        }
        set("TLSECCertificateFile", &certificate.display());
        set("TLSECCertificateKeyFile", &certificate.display());
    }
    config
}
