//! A Debian of its own, to install packages on: unpacked into a folder, and booted there with real
//! systemd, in namespaces and on the lab's router. Nothing of it is seen outside.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ftp_nat_tests::{
    namespace::Namespace,
    process::{self, Outcome, Running},
};

use crate::{
    apt::{self, Installing},
    command::{output, program, run},
    progress::step,
    workspace::Workspace,
};

/// What a command inside may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the Debian has beyond the least.
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus,man-db";

const BOOT: &str = include_str!("boot.sh");

/// The archive with a small Debian of this machine's own release, from this machine's own mirror;
/// made once.
pub(crate) fn archive(workspace: &Workspace, installing: Installing) -> anyhow::Result<PathBuf> {
    let archive = workspace.target.join("lab/debian.tar");
    if archive.exists() {
        return Ok(archive);
    }
    apt::require_programs(
        workspace,
        installing,
        &[("mmdebstrap", "mmdebstrap")],
        "a Debian to install on",
    )?;
    if installing == Installing::Forbidden {
        bail!(
            "there is no {}, and --no-install forbids fetching it",
            archive.display()
        );
    }
    apt::update_once(workspace);
    let (release, sources) = apt::sources()?;
    fs::create_dir_all(workspace.target.join("lab"))?;
    let partial = archive.with_extension("partial");
    step(
        &format!(
            "a small Debian ({release}) in {} (once)",
            workspace.relative(&archive)
        ),
        || {
            let mut mmdebstrap = program("mmdebstrap")
                .args(["--quiet", "--variant=minbase", "--format=tar", PACKAGES])
                .args([release.as_ref(), partial.as_os_str(), "-".as_ref()])
                .stdin(Stdio::piped())
                .spawn()
                .context("cannot start mmdebstrap")?;
            if let Some(mut stdin) = mmdebstrap.stdin.take() {
                stdin.write_all(sources.as_bytes())?;
            }
            let status = mmdebstrap.wait()?;
            if !status.success() {
                bail!("mmdebstrap ended with {status}");
            }
            Ok(())
        },
    )?;
    fs::rename(&partial, &archive)?;
    Ok(archive)
}

/// A Debian in a folder that goes away with this value.
pub(crate) struct Root {
    folder: PathBuf,
}

impl Root {
    /// Unpacks the archive into a new `folder`.
    pub(crate) fn unpack(archive: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        run(program("tar")
            .args(["--extract", "--numeric-owner", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(&folder))?;
        Ok(Self { folder })
    }

    /// Where a path inside is outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside.trim_start_matches('/'))
    }

    /// Runs a command in it while nothing else runs there, as when an image is made.
    pub(crate) fn run(&self, words: &[&str]) -> anyhow::Result<Outcome> {
        let script = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";
        process::run(
            program("unshare")
                .args(["--mount", "--pid", "--fork", "--kill-child", "--"])
                .args(["sh", "-c", script])
                .arg(&self.folder)
                .args(words)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("SYSTEMD_COLORS", "0")
                .env("SYSTEMD_URLIFY", "0"),
            LIMIT,
        )
    }

    /// Every file in it: path, owner, mode, target of a link, content's length.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<String>> {
        let list = output(
            program("find")
                .current_dir(&self.folder)
                .args([".", "-mindepth", "1"])
                .args(["-printf", "%P %U:%G %m %l\\n"]),
        )?;
        let mut list: Vec<_> = list.lines().map(str::to_owned).collect();
        list.sort();
        Ok(list)
    }

    /// Boots it with `router` as its network.
    pub(crate) fn boot(&self, router: &Namespace) -> anyhow::Result<Machine<'_>> {
        let group = format!("ftpnat-{}", std::process::id());
        let script = self.folder.with_extension("boot.sh");
        fs::write(&script, BOOT)?;
        let mut command = router.command("unshare")?;
        command
            .args([
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
            ])
            .args(["--", "sh"])
            .args([script.as_os_str(), self.folder.as_os_str(), group.as_ref()]);
        let mut machine = Machine {
            root: self,
            group,
            outer: Some(Running::start(&mut command)?),
            first: 0,
        };
        machine.wait_until_booted()?;
        Ok(machine)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A booted Debian, which ends with this value.
pub(crate) struct Machine<'root> {
    root: &'root Root,
    group: String,
    outer: Option<Running>,
    /// Its first process, as it is called outside.
    first: u32,
}

impl Machine<'_> {
    fn wait_until_booted(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let outer = self.outer.as_mut().context("it was started")?;
            if !outer.is_alive()? || start.elapsed() > LIMIT {
                bail!("the Debian does not boot:\n{}", outer.log());
            }
            let pid = outer.pid();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            self.first = children.unwrap_or_default().trim().parse().unwrap_or(0);
            let name = fs::read_to_string(format!("/proc/{}/comm", self.first));
            if name.is_ok_and(|name| name.trim() == "systemd")
                // Waits for the jobs of booting to end.
                && let Ok(state) = self.run(&["systemctl", "is-system-running", "--wait"])
                && state.text().trim() == "running"
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a command on it.
    pub(crate) fn run(&self, words: &[&str]) -> anyhow::Result<Outcome> {
        process::run(
            program("nsenter")
                .arg(format!("--target={}", self.first))
                .args(["--all", "--wd=/", "--"])
                .args(words)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("LC_ALL", "C.UTF-8"),
            LIMIT,
        )
    }

    /// Runs a command on it that must succeed, and gives what it says.
    pub(crate) fn tell(&self, words: &[&str]) -> anyhow::Result<String> {
        self.run(words)?
            .expect_success()
            .map(|outcome| outcome.text().trim().to_owned())
            .with_context(|| words.join(" "))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // unshare(1) ignores SIGTERM while it waits; what it started ends with it.
        if let Some(outer) = &self.outer {
            let _ = outer.signal(rustix::process::Signal::KILL);
        }
        self.outer = None;
        let script = "mount --make-rprivate / && mount -t cgroup2 cgroup2 \"$0/mnt\" && \
                      find \"$0/mnt/$1\" -depth -type d -exec rmdir {} +";
        for _ in 0..20 {
            // Not before its last process has ended.
            let removed = Command::new("unshare")
                .args(["--mount", "--", "sh", "-c", script])
                .arg(&self.root.folder)
                .arg(&self.group)
                .stderr(Stdio::null())
                .status();
            if removed.is_ok_and(|status| status.success()) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("xtask: the control group {} is left behind", self.group);
    }
}
