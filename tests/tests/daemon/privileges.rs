//! What the daemon may do, and as whom it can run.

use std::{
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{PermissionsExt as _, chown},
            net::UnixDatagram,
        },
    },
    path::PathBuf,
    time::Duration,
};

use ftp_nat_tests::{
    gateway::START_LIMIT,
    lab::Lab,
    namespace::Namespace,
    process::{self, Running},
    scratch::PinFolder,
    scratch::Scratch,
    tools::Tools,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, fetch, vsftpd};

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF (linux/capability.h).
const KEPT: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// A line of /proc/PID/status; capabilities are hexadecimal.
fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line.unwrap().trim_start_matches(':').trim();
    u64::from_str_radix(word, 16).unwrap()
}

#[track_caller]
fn assert_holds_only_what_it_needs(pid: u32) {
    for (set, wanted) in [
        ("CapEff", KEPT),
        ("CapPrm", KEPT),
        ("CapBnd", KEPT),
        ("CapInh", 0),
        ("CapAmb", 0),
        ("NoNewPrivs", 1),
    ] {
        assert_eq!(status(pid, set), wanted, "{set}");
    }
    // Threads have sets of their own.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        assert_eq!(u64::from_str_radix(line.unwrap().trim(), 16).unwrap(), KEPT);
    }
}

#[test]
fn once_attached_it_keeps_only_what_it_needs_and_still_follows_and_reloads() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let folder = Scratch::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let gateway = file.run_with(&lab, &["--audit-log", audit.to_str().unwrap()]);
    let pid = gateway.pid().unwrap();
    assert_holds_only_what_it_needs(pid);
    // Attaching anew takes no more than that.
    let only_wan = ONE_SERVER.replace("wan = [\"wan\"]", "wan = [\"wan\"]\nlan = \"none\"");
    for text in [&only_wan, ONE_SERVER] {
        file.write(text);
        gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    }
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    assert_holds_only_what_it_needs(pid);
}

/// The folder for the sockets of a namespace's daemons, made beforehand as systemd makes it.
struct RuntimeFolder(PathBuf);

impl RuntimeFolder {
    fn of(namespace: &Namespace) -> Self {
        let cookie = namespace
            .run(|| {
                let socket = UnixDatagram::unbound()?;
                let mut cookie = 0_u64;
                let mut length = size_of::<u64>() as libc::socklen_t;
                // SAFETY: the kernel writes at most `length` bytes to `cookie`.
                let result = unsafe {
                    libc::getsockopt(
                        socket.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_NETNS_COOKIE,
                        (&raw mut cookie).cast(),
                        &raw mut length,
                    )
                };
                assert_eq!(result, 0);
                Ok(cookie)
            })
            .unwrap();
        let path = PathBuf::from(format!("/run/ftp-nat/netns-{cookie}"));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn it_runs_as_a_user_of_its_own_with_three_capabilities_and_root_may_ask_it() {
    const USER: u32 = 65534;
    const CAPABILITIES: &str = "-all,+bpf,+net_admin,+perfmon";
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let pins = PinFolder::new().unwrap();
    // What the service's unit prepares as root.
    fs::create_dir(pins.path()).unwrap();
    chown(pins.path(), Some(USER), Some(USER)).unwrap();
    let runtime = RuntimeFolder::of(&lab.router);
    chown(&runtime.0, Some(USER), Some(USER)).unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    // The binary must be where that user may go.
    let scratch = Scratch::new().unwrap();
    let binary = scratch.path().join("ftp-nat");
    fs::copy(Tools::get().unwrap().binary, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let run = || {
        let mut command = lab.router.command("setpriv").unwrap();
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args(
                ["inh-caps", "ambient-caps", "bounding-set"]
                    .map(|set| format!("--{set}={CAPABILITIES}")),
            )
            .arg(&binary)
            .args(["run", "--config"])
            .arg(file.path())
            .arg("--state-dir")
            .arg(pins.path())
            // Not the machine's own, which another user may have made.
            .arg("--lists-file")
            .arg(scratch.path().join("lists.json"));
        let mut daemon = Running::start(&mut command).unwrap();
        daemon.wait_for("ready", START_LIMIT).unwrap();
        daemon
    };
    let ask = |words: &[&str]| {
        let mut command = lab.router.command(&binary).unwrap();
        command.args(words).arg("--state-dir").arg(pins.path());
        let outcome = process::run(&mut command, Duration::from_secs(10)).unwrap();
        outcome.expect_success().unwrap().text()
    };
    let daemon = run();
    assert_holds_only_what_it_needs(daemon.pid());
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    let status: Value = serde_json::from_str(&ask(&["status", "--json"])).unwrap();
    assert_eq!(status["gateways"][0]["daemon"]["pid"], daemon.pid());
    assert!(ask(&["events"]).contains("opened by 227"));
    assert!(ask(&["reload"]).contains("nothing has changed"));
    // What it has loaded, its next start takes over.
    daemon.stop(Duration::from_secs(10)).unwrap();
    let daemon = run();
    assert!(daemon.log().contains("took over"), "{}", daemon.log());
    assert_eq!(fetch(&lab, &server, "EPSV").unwrap(), CONTENT);

    daemon.stop(Duration::from_secs(10)).unwrap();
}
