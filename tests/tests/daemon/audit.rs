//! The audit log, and a disk that has no room for it.

use std::{fs, os::unix::fs::symlink, path::Path, thread, time::Duration};

use ftp_nat_tests::{
    control::Control,
    lab::Lab,
    process::{self, Running},
    scratch::Scratch,
    tools::Tools,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use crate::{
    CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL,
    events::{assert_tells, first},
    fetch, vsftpd, wait_for,
};

/// The records of an audit log; every line must be one.
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn the_audit_log_has_who_was_let_in_and_survives_its_rotation() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let folder = Scratch::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let key = format!("wan = [\"wan\"]\naudit_log = {:?}", path.to_str().unwrap());
    let file = ConfigFile::new(&ONE_SERVER.replace("wan = [\"wan\"]", &key));
    let mut gateway = file.run(&lab);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    let written = wait_for("the connection's use", || {
        let written = records(&path);
        written
            .iter()
            .any(|it| it["event"] == "used")
            .then_some(written)
    });
    let opened = first(&written, "opened");
    assert_tells(
        opened,
        &json!({"cause": "227", "peer": "198.51.100.20", "inside": "10.0.0.5"}),
    );
    assert_tells(
        first(&written, "used"),
        &json!({"session": opened["session"], "public_port": opened["public_port"]}),
    );
    assert!(!written.iter().any(|it| it["event"] == "rewritten"));

    let rotated = folder.path().join("audit.jsonl.1");
    fs::rename(&path, &rotated).unwrap();
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    assert_eq!(fetch(&lab, &server, "EPSV").unwrap(), CONTENT);
    wait_for("the new file's events", || {
        let written = records(&path);
        written.iter().any(|it| it["cause"] == "229").then_some(())
    });
    assert!(!records(&rotated).iter().any(|it| it["cause"] == "229"));
    // What happened last is written before the end.
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let port = control.announce("PASV").unwrap().port();
    gateway.stop().unwrap();
    let written = records(&path);
    assert!(
        written.iter().any(|it| it["public_port"] == port),
        "{written:#?}"
    );
}

#[test]
fn an_audit_log_that_cannot_be_opened_is_an_error_before_anything_is_attached() {
    let folder = Scratch::new().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    symlink(&target, &link).unwrap();
    for (path, named) in [
        (Path::new("/nowhere/audit.jsonl"), "No such file"),
        (&link, "it is a symbolic link, which is not followed"),
    ] {
        refuses_audit_log(path, named);
    }
    assert!(!target.exists());
}

#[track_caller]
fn refuses_audit_log(path: &Path, named: &str) {
    let lab = Lab::new().unwrap();
    let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
    let pins = ftp_nat_tests::scratch::PinFolder::new().unwrap();
    command
        .args(["run", "--config", "/dev/null", "--wan", "wan", "--publish"])
        .args(["198.51.100.1:21=10.0.0.5:21", "--audit-log"])
        .arg(path)
        .arg("--state-dir")
        .arg(pins.path());
    let outcome = process::run(&mut command, Duration::from_secs(20)).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(1), "{outcome:?}");
    let named = format!("cannot open the audit log {}: {named}", path.display());
    assert!(outcome.stderr.contains(&named), "{outcome:?}");
    assert!(!pins.path().exists());
}

/// A file system with room for very little.
struct TinyDisk(Scratch);

impl TinyDisk {
    fn new() -> Self {
        let folder = Scratch::new().unwrap();
        mount(
            "tmpfs",
            folder.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=16k"),
        )
        .unwrap();
        Self(folder)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_stops_no_packet_and_what_it_cost_is_told() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let disk = TinyDisk::new();
    let (audit, log) = (disk.0.path().join("audit.jsonl"), disk.0.path().join("log"));
    let pins = ftp_nat_tests::scratch::PinFolder::new().unwrap();
    // Its log goes to the same disk.
    let mut command = lab.router.command("sh").unwrap();
    command
        .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""])
        .arg(Tools::get().unwrap().binary)
        .args([
            "run",
            "-v",
            "--config",
            "/dev/null",
            "--wan",
            "wan",
            "--publish",
        ])
        .args([
            "198.51.100.1:21=10.0.0.5:21",
            "--metrics-listen",
            "127.0.0.1:9810",
        ])
        .arg("--audit-log")
        .arg(&audit)
        .arg("--state-dir")
        .arg(pins.path())
        .env("LOG", &log);
    let mut daemon = Running::start(&mut command).unwrap();
    wait_for("the daemon", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(daemon.is_alive().unwrap(), "{said}");
        said.contains("ready").then_some(())
    });
    let ballast = disk.0.path().join("ballast");
    // Until not a byte more fits.
    drop(fs::write(&ballast, vec![0; 64 << 10]));
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let metric = || {
        let mut curl = lab.router.command("curl").unwrap();
        curl.args(["-s", "http://127.0.0.1:9810/metrics"]);
        let text = process::run(&mut curl, Duration::from_secs(10))
            .unwrap()
            .text();
        let name = "ftp_nat_events_untold_total{to=\"audit\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<f64>().unwrap()
    };
    let mut lost = 0.0;
    for _ in 0..40 {
        assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
        lost = metric();
        if lost > 10.0 {
            break;
        }
    }
    assert!(lost > 10.0, "{lost}");
    assert!(daemon.is_alive().unwrap());
    let mut doctor = lab.router.command(Tools::get().unwrap().binary).unwrap();
    doctor
        .args(["doctor", "--json", "--state-dir"])
        .arg(pins.path());
    let found = process::run(&mut doctor, Duration::from_secs(20)).unwrap();
    assert!(found.text().contains("\"audit-losses\""), "{found:?}");
    let before = records(&audit).len();
    // Room again: it goes on, and tells what is missing.
    fs::remove_file(&ballast).unwrap();
    fs::write(&log, "").unwrap();
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
    let written = wait_for("the next event", || {
        let written = records(&audit);
        written
            .iter()
            .any(|it| it["cause"] == "229")
            .then_some(written)
    });
    let gap = &written[before];
    assert_eq!(gap["event"], "lost", "{gap:#}");
    assert!(gap["count"].as_f64().unwrap() >= lost, "{gap:#}");
    thread::sleep(Duration::from_millis(10));
}
