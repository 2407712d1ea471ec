//! vsftpd: the strictest about its surroundings, and the one that logs every reply.

use std::{fmt::Write as _, process::Command};

use anyhow::Context as _;

use super::{
    kind::{Kind, unpacked},
    site::{Settings, Site},
};
use crate::lab::Host;

pub(super) fn command(host: &Host, site: &Site, settings: &Settings) -> anyhow::Result<Command> {
    let config = site
        .scratch
        .write("vsftpd.conf", configuration(site, settings))
        .context("cannot configure vsftpd")?;
    let mut command = unpacked(Kind::Vsftpd, host, "usr/sbin/vsftpd")?;
    command.arg(config);
    Ok(command)
}

fn configuration(site: &Site, settings: &Settings) -> String {
    // Anonymous clients become a user that every Debian has and whose home exists, because vsftpd
    // goes there before it goes to `anon_root`; "nobody" has none. `isolate` would put sessions
    // into namespaces of their own, where the lab does not find them. The seccomp sandbox knows
    // the system calls of an older C library only.
    let mut config = format!(
        "\
listen_port={port}
background=NO
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
secure_chroot_dir={empty}
nopriv_user=nobody
ftp_username=daemon
anonymous_enable=YES
local_enable=NO
anon_root={root}
no_anon_password=YES
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
connect_from_port_20=YES
syslog_enable=NO
xferlog_enable=YES
xferlog_std_format=NO
vsftpd_log_file={log}
log_ftp_protocol=YES
",
        port = settings.port,
        empty = site.empty().display(),
        root = site.root().display(),
        log = site.log_file().display(),
    );
    let mut set = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(config, "{key}={value}");
    };
    if let Some(ports) = &settings.passive_ports {
        set("pasv_min_port", ports.start());
        set("pasv_max_port", ports.end());
    }
    // Both families; see `Settings::announce` for the exception.
    let v4_only = settings.announce.is_some();
    set("listen", if v4_only { &"YES" } else { &"NO" });
    set("listen_ipv6", if v4_only { &"NO" } else { &"YES" });
    if let Some(address) = settings.announce {
        set("pasv_address", &address);
    }
    if let Some(certificate) = site.certificate() {
        set("ssl_enable", &"YES");
        set("allow_anon_ssl", &"YES");
        set("force_anon_logins_ssl", &"NO");
        set("force_anon_data_ssl", &"NO");
        set("require_ssl_reuse", yes_or_no(settings.tls_resumption));
        set("implicit_ssl", yes_or_no(settings.implicit_tls));
        set("rsa_cert_file", &certificate.display());
        set("rsa_private_key_file", &certificate.display());
        // An elliptic key is neither RSA nor DSA, and vsftpd's default list has RSA only.
        set("ssl_ciphers", &"HIGH");
    }
    config
}

fn yes_or_no(yes: bool) -> &'static &'static str {
    if yes { &"YES" } else { &"NO" }
}
