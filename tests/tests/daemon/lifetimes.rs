//! What outlives the daemon, and what does not.

use std::{
    fs,
    io::ErrorKind,
    net::TcpStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ftp_nat_tests::{
    control::{self, Control},
    firewall,
    gateway::START_LIMIT,
    lab::Lab,
    process::Running,
    scratch::PinFolder,
    tools::Tools,
};

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd};

#[test]
fn an_announcement_expires_whether_a_daemon_looks_or_not() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(&format!("{ONE_SERVER}[timeouts]\nmapping = 1\n"));
    let mut gateway = file.run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let address = control.announce("PASV").unwrap();
    gateway.kill().unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert!(control::connect(lab.client(), address).is_err());
    let denied = gateway.metric("denied_packets_total", "reason=\"expired\"");
    assert_eq!(denied.unwrap(), 1);
    // Who comes in time is let in.
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
}

/// The only folder in another.
fn only_folder(of: &std::path::Path) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(of)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    let [folder] = &folders[..] else {
        panic!("{folders:?}");
    };
    folder.clone()
}

#[test]
fn what_another_version_has_left_is_never_read_but_told_and_replaced() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let mut gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    gateway.stop().unwrap();
    // As if a version with another layout had been here.
    let own = only_folder(gateway.state_dir());
    let other = gateway.state_dir().join("v4294967295");
    fs::rename(&own, &other).unwrap();

    let file = ConfigFile::new(ONE_SERVER);
    let path = file.path();
    let again = ["run", "--config", path.to_str().unwrap()];
    let mut command = gateway.command(&again).unwrap();
    // Clients come all the while: at no moment is there nobody who translates their packets, so
    // none meets the gateway's own closed port.
    let stop = AtomicBool::new(false);
    let daemon = thread::scope(|scope| {
        let clients = scope.spawn(|| {
            lab.client().namespace.run(|| {
                let mut tries = 0;
                while !stop.load(Ordering::Relaxed) {
                    let tried = TcpStream::connect_timeout(&PUBLIC, Duration::from_millis(50));
                    let refused = tried.is_err_and(|it| it.kind() == ErrorKind::ConnectionRefused);
                    assert!(!refused, "refused after {tries} tries");
                    tries += 1;
                }
                Ok(tries)
            })
        });
        let mut daemon = Running::start(&mut command).unwrap();
        daemon.wait_for("ready", Duration::from_secs(30)).unwrap();
        stop.store(true, Ordering::Relaxed);
        println!("{} connections meanwhile", clients.join().unwrap().unwrap());
        daemon
    });
    let log = daemon.log();
    assert!(log.contains("holds a gateway of another version"), "{log}");
    assert!(!log.contains("took over"), "{log}");
    assert!(!other.exists());
    let status = gateway.json(&["status"]).unwrap();
    let programs = status["gateways"][0]["programs"].as_array().unwrap();
    assert_eq!(programs.len(), 4);
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    daemon.stop(Duration::from_secs(10)).unwrap();
}

#[test]
fn a_start_that_fails_leaves_nothing_attached_however_far_it_came() {
    let lab = Lab::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let (mut failed, mut started) = (0, false);
    // With ever more descriptors to be had, it fails ever later.
    for limit in (6..128).step_by(2) {
        let pins = PinFolder::new().unwrap();
        let mut command = lab.router.command("prlimit").unwrap();
        command
            .arg(format!("--nofile={limit}"))
            .arg(Tools::get().unwrap().binary)
            .args(["run", "--config"])
            .arg(file.path())
            .arg("--state-dir")
            .arg(pins.path());
        let mut daemon = Running::start(&mut command).unwrap();
        if daemon.wait_for("ready", START_LIMIT).is_ok() {
            daemon.stop(Duration::from_secs(10)).unwrap();
            started = true;
            break;
        }
        failed += 1;
        let log = daemon.log();
        assert!(!daemon.is_alive().unwrap(), "{limit} descriptors: {log}");
        drop(daemon);
        assert!(!pins.path().exists(), "{limit} descriptors: {log}");
    }
    println!("{failed} starts failed");
    // A program left behind by any of them would have had the last one refused.
    assert!(started && failed > 5, "{failed}");
}
