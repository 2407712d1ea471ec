//! The gateway itself: not loaded, not attached, not alone, without its daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ftp_nat_tests::{gateway::Gateway, lab::Lab, process, scratch::PinFolder, tools::Tools};

use crate::{Examined, LIMIT, RUN, examine, examined, vsftpd};

/// The doctor on the router, with pins of its own.
fn alone(command: &mut Command, state_dir: &Path) -> Examined {
    command
        .args(["doctor", "--json", "--config", "/dev/null", "--state-dir"])
        .arg(state_dir)
        .args(RUN);
    examined(command)
}

fn binary() -> PathBuf {
    Tools::get().unwrap().binary
}

#[test]
fn a_gateway_that_is_not_loaded_is_found_and_the_rest_examined() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let pins = PinFolder::new().unwrap();
    let examined = alone(&mut lab.router.command(binary()).unwrap(), pins.path());
    examined.expect("not-loaded", "error", 0);
    examined.expect_only(&["not-loaded"]);
    assert_eq!(examined.report["gateways"][0]["loaded"], false);
    assert!(!pins.path().exists());

    lab.router.sysctl("net.ipv4.ip_forward", "0").unwrap();
    let examined = alone(&mut lab.router.command(binary()).unwrap(), pins.path());
    examined.expect("forwarding-off", "error", 2);
    examined.expect_only(&["not-loaded", "forwarding-off"]);
}

#[test]
fn a_gateway_without_its_daemon_or_its_programs_is_found() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();
    gateway.kill().unwrap();
    let examined = examine(&gateway, &RUN);
    examined.expect("daemon-not-running", "warning", 0);
    examined.expect_only(&["daemon-not-running"]);

    // The same folder, seen from another one: two gateways on one WAN.
    let pins = PinFolder::new().unwrap();
    let examined = alone(&mut lab.router.command(binary()).unwrap(), pins.path());
    examined.expect("second-translator", "error", 0);

    gateway.restart().unwrap();
    let link = find(gateway.state_dir(), "lan:lan_ingress").expect("a pinned link");
    fs::remove_file(link).unwrap();
    let said = examine(&gateway, &RUN).expect("not-attached", "error", 0);
    assert!(
        said.contains("lan_ingress is not attached to lan"),
        "{said}"
    );
}

/// A file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return find(&path, name);
        }
        (path.file_name()? == name).then_some(path)
    })
}

#[test]
fn a_configuration_that_is_not_in_effect_is_found() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let other = ["--wan", "wan", "--publish", "198.51.100.1:2121=10.0.0.5:21"];
    let said = examine(&gateway, &other).expect("configuration-not-in-effect", "warning", 0);
    assert!(
        said.contains("198.51.100.1:21, 198.51.100.1:2121"),
        "{said}"
    );
}

#[test]
fn a_place_for_pins_that_is_none_is_found() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let pins = PinFolder::new().unwrap();
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", lab.router.name()])
        .arg(binary());
    let said = alone(&mut command, pins.path()).expect("private-mount", "error", 0);
    assert!(said.contains("nsenter --net"), "{said}");

    // In a mount namespace of its own, which ends with it.
    let unmounted = "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec \"$@\"";
    let mut command = lab.router.command("unshare").unwrap();
    command
        .args(["--mount", "sh", "-c", unmounted, "sh"])
        .arg(binary());
    let said = alone(&mut command, pins.path()).expect("no-bpf-file-system", "error", 0);
    assert!(said.contains("mount -t bpf bpf /sys/fs/bpf"), "{said}");
}

#[test]
fn wrong_arguments_are_another_matter() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (
            &["--wan", "wan", "--publish", "198.51.100.1=10.0.0.5:21"],
            "has no port",
        ),
        (
            &["--config", "/nowhere/ftp-nat.toml"],
            "/nowhere/ftp-nat.toml",
        ),
        (&["--colour"], "--colour"),
    ];
    for (arguments, named) in cases {
        let mut command = lab.router.command(binary()).unwrap();
        command
            .args(["doctor", "--state-dir"])
            .arg(pins.path())
            .args(arguments);
        let outcome = process::run(&mut command, LIMIT).unwrap();
        assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(named), "{outcome:?}");
        assert_eq!(outcome.text(), "");
    }
}

#[test]
fn a_look_without_privileges_is_no_clean_bill() {
    let lab = Lab::new().unwrap();
    let _server = vsftpd(&lab);
    let pins = PinFolder::new().unwrap();
    let mut command = lab.router.command("setpriv").unwrap();
    command
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(binary());
    let said = alone(&mut command, pins.path()).expect("not-permitted", "error", 0);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}
