//! lftp.

use std::process::Command;

use super::task::{Job, Mode, Task, TlsVersion};

pub(super) fn prepare(command: &mut Command, task: &Task<'_>) {
    let target = task.target;
    let on = |yes: bool| if yes { "yes" } else { "no" };
    let passive = matches!(task.mode, Mode::Pasv | Mode::Epsv);
    let extended = matches!(task.mode, Mode::Epsv | Mode::Eprt);
    let output = task.output.display();
    let job = match task.job {
        Job::Fetch(path) => format!("get '{path}' -o '{output}'"),
        Job::Store(file, path) => format!("put '{}' -o '{path}'", file.display()),
        Job::List(path) => format!("ls '{path}' > '{output}'"),
    };
    let host = match target.address {
        std::net::SocketAddr::V4(address) => address.ip().to_string(),
        std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    let script = format!(
        "\
debug 5
set cmd:fail-exit yes
set net:timeout {patience}
set net:max-retries 1
set net:reconnect-interval-base 1
set dns:fatal-timeout {patience}
set ftp:passive-mode {passive}
set ftp:prefer-epsv {extended}
set ftp:fix-pasv-address no
set ftp:ssl-allow {tls}
set ftp:ssl-force {tls}
set ftp:ssl-protect-data {tls}
set ftp:ssl-protect-list {tls}
set ssl:verify-certificate no
{priority}
open -u '{user},{password}' -p {port} '{scheme}://{host}'
{job}
bye
",
        patience = task.patience.as_secs(),
        passive = on(passive),
        extended = on(extended),
        tls = on(target.tls),
        priority = match target.tls_version {
            TlsVersion::Newest => "",
            TlsVersion::V12 => "set ssl:priority NORMAL:-VERS-TLS1.3",
            TlsVersion::V13 => "set ssl:priority NORMAL:-VERS-ALL:+VERS-TLS1.3",
        },
        scheme = if target.implicit_tls { "ftps" } else { "ftp" },
        user = target.user,
        password = target.password,
        port = target.address.port(),
    );
    command.args(["--norc", "-c", &script]);
}
