//! What systemd is told (sd_notify(3)).

use std::{os::unix::net::UnixDatagram, time::Duration};

use ftp_nat_tests::{
    lab::Lab, process::Running, scratch::PinFolder, scratch::Scratch, tools::Tools,
};
use rustix::process::Signal;

use crate::{ConfigFile, ONE_SERVER};

#[test]
fn systemd_hears_of_the_start_of_reloads_and_of_the_end_and_that_the_daemon_is_alive() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let folder = Scratch::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let next = |wanted: &str| loop {
        let heard = heard();
        if heard.contains(wanted) {
            return heard;
        }
        assert!(heard.contains("WATCHDOG=1"), "{heard} before {wanted}");
    };
    let file = ConfigFile::new(ONE_SERVER);
    let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
    command
        .args(["run", "--config"])
        .arg(file.path())
        .arg("--state-dir")
        .arg(pins.path())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let daemon = Running::start(&mut command).unwrap();
    next("READY=1");
    next("WATCHDOG=1");
    daemon.signal(Signal::HUP).unwrap();
    let reloading = next("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    next("READY=1");
    // A file with mistakes is no reason to stay in "reloading".
    file.write("wan = 5");
    daemon.signal(Signal::HUP).unwrap();
    next("RELOADING=1");
    next("READY=1");
    daemon.signal(Signal::TERM).unwrap();
    next("STOPPING=1");
}
