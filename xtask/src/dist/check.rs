//! The package on a real Debian: installed, configured, run by systemd, reloaded, restarted, hung,
//! upgraded, removed and purged, while a client fetches a file through it.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use ftp_nat_tests::{
    lab::{Lab, WAN_ADDRESS},
    process::Running,
    server::{FtpServer, Kind, Settings},
    tools::Tools,
};

use super::{
    debian::{self, Built, Version},
    layout::Layout,
    root::{self, Machine, Root},
};
use crate::{
    apt::{self, Installing},
    command::{output, program},
    progress::{say, step},
    servers,
    workspace::Workspace,
};

/// What is published, as an administrator would write it.
const CONFIG: &str = "\
[gateway]
wan = [\"wan\"]
metrics_listen = \"127.0.0.1:9810\"
audit_log = \"/var/log/ftp-nat/audit.jsonl\"

[[publish]]
public = \"wan:21\"
server = \"10.0.0.5:21\"
";

/// Where that is written.
const CONFIG_FILE: &str = "/etc/ftp-nat/ftp-nat.toml";

/// A daemon that hangs is noticed sooner than in the unit, so that nobody has to wait.
const IMPATIENT: &str = "[Service]\nWatchdogSec=3\nRestartSec=0\n";

/// What the daemon may do, as the kernel shows it: CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF.
const CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// The file that is fetched meanwhile, and how fast: longer than all that is done to the gateway.
const FILE_BYTES: u64 = 400_000_000;
const FETCH_RATE: &str = "10M";

/// Long enough for whatever must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the system keeps for itself when a package has come and gone. Nothing of it is ftp-nat's.
const KEPT_BY_DEBIAN: [&str; 7] = [
    "var/lib/dpkg/",
    "var/log/",
    "var/cache/",
    "var/lib/systemd/deb-systemd-helper-",
    // Backups of the lists of users.
    "etc/passwd-",
    "etc/shadow-",
    "etc/group-",
];

pub(crate) fn run_all(
    workspace: &Workspace,
    installing: Installing,
    layout: &Layout,
    built: &Built,
) -> anyhow::Result<()> {
    apt::require_programs(workspace, installing, ftp_nat_tests::PROGRAMS, "the lab")?;
    Tools {
        servers: servers::unpack(workspace, installing)?,
        binary: layout.binary(),
    }
    .use_here();
    reproducible(workspace, layout, built)?;
    let archive = root::archive(workspace, installing)?;
    let earlier = step("the package again, as an earlier version", || {
        debian::build(workspace, layout, &Version::earlier())
    })?;
    let root = step("unpacking the Debian", || {
        Root::unpack(&archive, workspace.target.join("dist/check"))
    })?;
    for (name, package) in [
        ("earlier.deb", &earlier.package),
        ("this.deb", &built.package),
    ] {
        fs::copy(package, root.path("/root").join(name))?;
    }
    verify_unit(&root)?;
    in_an_image(&root)?;
    on_a_gateway(&root)
}

/// The same source makes the same bytes.
fn reproducible(workspace: &Workspace, layout: &Layout, built: &Built) -> anyhow::Result<()> {
    let first = fs::read(&built.package)?;
    let again = step("the package once more", || {
        debian::build(workspace, layout, &Version::of_this())
    })?;
    ensure!(
        first == fs::read(&again.package)?,
        "the same source made another package"
    );
    say("checked: made again, the package is the same byte for byte");
    Ok(())
}

/// What systemd itself says about the unit.
fn verify_unit(root: &Root) -> anyhow::Result<()> {
    root.run(&["dpkg", "--install", "/root/this.deb"])?
        .expect_success()?;
    for unit in ["ftp-nat.service", "ftp-nat-state.service"] {
        let verified = root
            .run(&["systemd-analyze", "verify", unit])?
            .expect_success()?;
        ensure!(
            verified.stderr.is_empty(),
            "systemd-analyze verify {unit}: {}",
            verified.stderr
        );
    }
    let security = root
        .run(&[
            "systemd-analyze",
            "security",
            "--offline=true",
            "ftp-nat.service",
        ])?
        .expect_success()?
        .text();
    let level = security
        .lines()
        .find_map(|line| line.strip_prefix("→ "))
        .context("systemd-analyze security gives no level")?;
    root.run(&["dpkg", "--purge", "ftp-nat"])?
        .expect_success()?;
    say(&format!(
        "checked: systemd-analyze verify is silent; security: {level}"
    ));
    Ok(())
}

/// Where no systemd runs: in a container's image, or a system that is being set up.
fn in_an_image(root: &Root) -> anyhow::Result<()> {
    let before = root.files()?;
    root.run(&["dpkg", "--install", "/root/this.deb"])?
        .expect_success()?;
    let said = root
        .run(&["ftp-nat", "--version"])?
        .expect_success()?
        .text();
    let version = concat!("ftp-nat ", env!("CARGO_PKG_VERSION"));
    ensure!(said.trim() == version, "ftp-nat --version says {said}");
    let installed = root.files()?;
    for (file, owner, mode) in [
        ("usr/sbin/ftp-nat", "0:0", "755"),
        ("etc/ftp-nat/ftp-nat.toml", "0:0", "644"),
        ("usr/lib/systemd/system/ftp-nat.service", "0:0", "644"),
        ("usr/lib/systemd/system/ftp-nat-state.service", "0:0", "644"),
        ("usr/share/man/man8/ftp-nat.8.gz", "0:0", "644"),
        ("usr/share/man/man8/ftp-nat-run.8.gz", "0:0", "644"),
        ("usr/share/man/man5/ftp-nat.toml.5.gz", "0:0", "644"),
        (
            "usr/share/bash-completion/completions/ftp-nat",
            "0:0",
            "644",
        ),
        ("usr/share/zsh/vendor-completions/_ftp-nat", "0:0", "644"),
        (
            "usr/share/fish/vendor_completions.d/ftp-nat.fish",
            "0:0",
            "644",
        ),
        ("usr/share/doc/ftp-nat/examples/ftp-nat.toml", "0:0", "644"),
        ("etc/fail2ban/action.d/ftp-nat.conf", "0:0", "644"),
        ("etc/fail2ban/filter.d/ftp-nat.conf", "0:0", "644"),
        ("usr/share/doc/ftp-nat/copyright", "0:0", "644"),
    ] {
        let wanted = format!("{file} {owner} {mode} ");
        ensure!(installed.contains(&wanted), "not installed: {wanted}");
    }
    let foreign: Vec<_> = installed
        .iter()
        .filter(|line| !before.contains(line) && line.contains("ftp-nat"))
        .filter(|line| !line.contains(" 0:0 "))
        .collect();
    ensure!(foreign.is_empty(), "not root's: {foreign:?}");
    root.run(&["man", "--warnings", "ftp-nat-run"])?
        .expect_success()?;
    let check = root.run(&["ftp-nat", "check"])?;
    ensure!(
        check.status.and_then(|status| status.code()) == Some(2),
        "an empty configuration is no mistake?"
    );

    root.run(&["dpkg", "--remove", "ftp-nat"])?
        .expect_success()?;
    ensure!(
        root.path(CONFIG_FILE).exists(),
        "remove took the configuration"
    );
    root.run(&["dpkg", "--purge", "ftp-nat"])?
        .expect_success()?;
    nothing_is_left(root, &before)?;
    say(&format!(
        "checked: installs where no systemd runs, {version}, files and owners; purged, nothing is \
         left"
    ));
    Ok(())
}

fn nothing_is_left(root: &Root, before: &[String]) -> anyhow::Result<()> {
    let after = root.files()?;
    let of_debian = |line: &str| KEPT_BY_DEBIAN.iter().any(|kept| line.starts_with(kept));
    let left: Vec<_> = after
        .iter()
        .filter(|line| !before.contains(line) && !of_debian(line))
        .collect();
    let gone: Vec<_> = before
        .iter()
        .filter(|line| !after.contains(line) && !of_debian(line))
        .collect();
    ensure!(
        left.is_empty() && gone.is_empty(),
        "left behind by the package: {left:?}; gone with it: {gone:?}"
    );
    ensure!(!root.path("/var/log/ftp-nat").exists(), "its logs are left");
    for list in ["/etc/passwd", "/etc/group"] {
        ensure!(
            !fs::read_to_string(root.path(list))?.contains("ftp-nat"),
            "its user is still in {list}"
        );
    }
    Ok(())
}

fn on_a_gateway(root: &Root) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default())?;
    let big = server.path_of("big.bin");
    io::copy(
        &mut File::open("/dev/urandom")?.take(FILE_BYTES),
        &mut File::create(&big)?,
    )?;
    let machine = step("booting the Debian as the lab's router", || {
        root.boot(&lab.router)
    })?;
    let before = root.files()?;

    machine.tell(&["dpkg", "--install", "/root/earlier.deb"])?;
    let state = |what| Ok::<_, anyhow::Error>(machine.run(&["systemctl", what, "ftp-nat"])?.text());
    ensure!(state("is-enabled")?.trim() == "disabled", "enabled unasked");
    ensure!(state("is-active")?.trim() == "inactive", "started unasked");
    machine.tell(&["dpkg", "--install", "/root/earlier.deb"])?;
    ensure!(
        state("is-active")?.trim() == "inactive",
        "an upgrade started what did not run"
    );
    fs::write(root.path(CONFIG_FILE), CONFIG)?;
    let drop_in = root.path("/etc/systemd/system/ftp-nat.service.d");
    fs::create_dir_all(&drop_in)?;
    fs::write(drop_in.join("impatient.conf"), IMPATIENT)?;
    machine.tell(&["ftp-nat", "check"])?;
    machine.tell(&["systemctl", "daemon-reload"])?;
    machine.tell(&["systemctl", "enable", "--now", "ftp-nat"])?;
    let first = daemon(&machine)?;
    confined(&machine, &first)?;

    let mut fetch = Fetch::start(&lab)?;
    machine.tell(&["systemctl", "reload", "ftp-nat"])?;
    ensure!(daemon(&machine)? == first, "a reload took another process");
    fs::write(root.path(CONFIG_FILE), "[gateway]\nwann = 1\n")?;
    let refused = machine.run(&["systemctl", "reload", "ftp-nat"])?;
    ensure!(!refused.success(), "a reload took a file with a mistake");
    fs::write(root.path(CONFIG_FILE), CONFIG)?;
    ensure!(daemon(&machine)? == first, "a bad file ended the daemon");
    fetch.goes_on("reload")?;
    say("checked: systemctl reload, a bad file is refused, the same process goes on");

    machine.tell(&["systemctl", "restart", "ftp-nat"])?;
    let second = daemon(&machine)?;
    ensure!(second != first, "a restart left the same process");
    fetch.goes_on("restart")?;
    say("checked: systemctl restart, the transfer goes on");

    machine.tell(&["systemctl", "kill", "--signal=SIGSTOP", "ftp-nat"])?;
    let third = wait_for("systemd to replace a daemon that hangs", || {
        daemon(&machine).ok().filter(|pid| *pid != second)
    })?;
    ensure!(
        journal(&machine)?.contains("Watchdog timeout"),
        "it was not the watchdog:\n{}",
        journal(&machine)?
    );
    fetch.goes_on("hanging daemon")?;
    say("checked: a daemon that hangs is replaced by the watchdog, the transfer goes on");

    machine.tell(&["dpkg", "--install", "/root/this.deb"])?;
    let fourth = daemon(&machine)?;
    ensure!(fourth != third, "the upgrade left the old daemon running");
    let version = machine.tell(&["dpkg-query", "--show", "--showformat=${Version}", "ftp-nat"])?;
    ensure!(
        !version.starts_with("0~"),
        "{version} is not the later version"
    );
    ensure!(
        fs::read_to_string(root.path(CONFIG_FILE))? == CONFIG,
        "the upgrade changed the configuration"
    );
    fetch.goes_on("upgrade")?;
    say(&format!(
        "checked: upgrade to {version}, the transfer goes on"
    ));

    step("the rest of the transfer", || fetch.ends_whole(&big))?;
    say(&format!(
        "checked: {FILE_BYTES} bytes arrived whole over a reload, a restart, a hung daemon and an \
         upgrade"
    ));

    let audit = machine.tell(&["cat", "/var/log/ftp-nat/audit.jsonl"])?;
    ensure!(
        audit.contains("198.51.100.20"),
        "the audit log has nobody:\n{audit}"
    );
    machine.tell(&["dpkg", "--remove", "ftp-nat"])?;
    let pins = machine.run(&["find", "/sys/fs/bpf/ftp-nat"])?;
    ensure!(!pins.success(), "still pinned:\n{}", pins.text());
    let greeted = lab.client().run(
        &[
            "curl",
            "--silent",
            "--disable",
            "--max-time",
            "3",
            "ftp://198.51.100.1/",
        ],
        PATIENCE,
    )?;
    ensure!(!greeted.success(), "the server is still published");
    fs::remove_dir_all(&drop_in)?;
    machine.tell(&["dpkg", "--purge", "ftp-nat"])?;
    let failed = machine.tell(&["systemctl", "--failed", "--no-legend", "--plain"])?;
    ensure!(failed.is_empty(), "failed: {failed}");
    drop(machine);
    nothing_is_left(root, &before)?;
    say("checked: removed, nothing is attached or pinned; purged, nothing is left");
    Ok(())
}

/// The daemon's process id on the machine, when systemd calls it up and running.
fn daemon(machine: &Machine<'_>) -> anyhow::Result<String> {
    let active = machine.run(&["systemctl", "is-active", "ftp-nat"])?.text();
    if active.trim() != "active" {
        bail!(
            "ftp-nat.service is {}:\n{}",
            active.trim(),
            journal(machine)?
        );
    }
    machine.tell(&[
        "systemctl",
        "show",
        "--property=MainPID",
        "--value",
        "ftp-nat",
    ])
}

fn journal(machine: &Machine<'_>) -> anyhow::Result<String> {
    machine.tell(&["journalctl", "--no-pager", "--output=cat", "--unit=ftp-nat"])
}

/// It runs as its own user, with nothing but what it needs; root's commands see it.
fn confined(machine: &Machine<'_>, pid: &str) -> anyhow::Result<()> {
    let status = machine.tell(&["cat", &format!("/proc/{pid}/status")])?;
    let value = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"))
            .with_context(|| format!("no {key} in:\n{status}"))
    };
    let user = machine.tell(&["id", "--user", "ftp-nat"])?;
    ensure!(
        user != "0" && value("Uid")? == [user.as_str(); 4].join("\t"),
        "{status}"
    );
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let has = u64::from_str_radix(value(set)?, 16)?;
        ensure!(has & !CAPABILITIES == 0, "{set}: {has:#x}");
    }
    ensure!(
        value("NoNewPrivs")? == "1" && value("Seccomp")? == "2",
        "{status}"
    );
    let shown = machine.tell(&["ftp-nat", "status"])?;
    ensure!(
        shown.contains("wan_ingress") && shown.contains(pid),
        "root's `ftp-nat status` does not show it:\n{shown}"
    );
    say(&format!(
        "checked: started by systemd as user ftp-nat ({user}), capabilities {}, seccomp, no new \
         privileges",
        value("CapEff")?
    ));
    Ok(())
}

/// A download through the gateway, slow enough to go on meanwhile.
struct Fetch(Running);

impl Fetch {
    fn start(lab: &Lab) -> anyhow::Result<Self> {
        let fetch = format!(
            "curl --silent --show-error --disable --no-ftp-skip-pasv-ip --limit-rate {FETCH_RATE} \
             ftp://{WAN_ADDRESS}/download/big.bin | sha256sum"
        );
        let mut command = lab.client().namespace.command("sh")?;
        Running::start(command.args(["-c", &fetch])).map(Self)
    }

    fn goes_on(&mut self, after: &str) -> anyhow::Result<()> {
        ensure!(
            self.0.is_alive()?,
            "the transfer ended before or because of the {after}:\n{}",
            self.0.log()
        );
        Ok(())
    }

    fn ends_whole(mut self, file: &Path) -> anyhow::Result<()> {
        let sum = output(program("sha256sum").arg(file))?;
        let sum = sum.split_whitespace().next().context("no checksum")?;
        self.0.wait_for(sum, Duration::from_secs(120))
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        ensure!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
