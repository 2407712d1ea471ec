//! What `ftp-nat run` refuses: in one line that names it, with nothing attached.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ftp_nat_tests::{
    control::Control,
    firewall,
    gateway::Gateway,
    lab::Lab,
    process::{self, Outcome, Running},
    scratch::PinFolder,
    scratch::Scratch,
    tools::Tools,
};

use crate::{CONTENT, PATIENCE, PUBLIC, RUN, SMALL, kernel, vsftpd};

/// How long the verifier may take, on a machine that has more to do.
const START_LIMIT: Duration = Duration::from_secs(30);

fn binary() -> PathBuf {
    Tools::get().unwrap().binary
}

/// Runs `command` with the words of `ftp-nat run` behind it.
fn run(mut command: Command, state_dir: &Path, arguments: &[&str]) -> Outcome {
    command
        .args(["run", "--config", "/dev/null", "--state-dir"])
        .arg(state_dir)
        .args(arguments);
    process::run(&mut command, START_LIMIT).unwrap()
}

/// That it ended with this code and one line that has all of `named`.
#[track_caller]
fn assert_refused(outcome: &Outcome, code: i32, named: &[&str]) {
    let said = &outcome.stderr;
    assert_eq!(
        outcome.status.and_then(|status| status.code()),
        Some(code),
        "{outcome:?}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in named {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn wrong_arguments_are_named_and_nothing_is_attached() {
    const ROUND: &str = "198.51.100.1:21=10.0.0.5:21";
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--wan", "wna", "--publish", ROUND],
            &["--wan wna", "no interface wna", "lan, wan"],
        ),
        (
            &["--wan", "wan", "--lan", "lna", "--publish", ROUND],
            &["--lan lna", "no interface lna"],
        ),
        (&["--publish", ROUND], &["no WAN interface", "--wan IF"]),
        (
            &["--wan", "wan"],
            &["nothing to do", "--publish PUBLIC=SERVER"],
        ),
        (
            &["--wan", "wan", "--lan", "wan", "--publish", ROUND],
            &["wan cannot be WAN and LAN at once"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.256:21=10.0.0.5:21"],
            &["\"198.51.100.256\" is not an IPv4 address"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0:21"],
            &["\"10.0.0\" is not an IPv4 address"],
        ),
        (
            &["--wan", "wan", "--publish", "[2001:db8::g]:21=10.0.0.5:21"],
            &["\"2001:db8::g\" is not an IPv6 address"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.1:0=10.0.0.5:21"],
            &["\"0\" is not a port"],
        ),
        (
            &[
                "--wan",
                "wan",
                "--publish",
                "198.51.100.1:21=10.0.0.5:65536",
            ],
            &["\"65536\" is not a port"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.1=10.0.0.5:21"],
            &["\"198.51.100.1\" has no port"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.1:21"],
            &["--publish 198.51.100.1:21", "a server here is `local`"],
        ),
        (
            &["--wan", "wan", "--publish", "wna:21=10.0.0.5:21"],
            &["--publish wna:21=10.0.0.5:21", "no interface wna"],
        ),
        (
            &[
                "--wan",
                "wan",
                "--publish",
                "198.51.100.1:21=ftp.example.net:21",
            ],
            &["\"ftp.example.net\" is not an IP address"],
        ),
        (
            &[
                "--wan",
                "wan",
                "--publish",
                "[2001:db8:1::1]:21=10.0.0.5:21",
            ],
            &["[2001:db8:1::1]:21 is IPv6 and 10.0.0.5:21 is IPv4"],
        ),
        (
            &["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.1:21"],
            &["10.0.0.1 is this machine itself", "`local`"],
        ),
        (
            &[
                "--wan",
                "wan",
                "--publish",
                ROUND,
                "--publish",
                "198.51.100.1:21=10.0.0.6:21",
            ],
            &["198.51.100.1:21 is already published"],
        ),
        (
            &["--wan", "wan", "--publish", ROUND, "--mark", "red"],
            &["--mark red", "\"red\" is not a mark"],
        ),
        (
            &[
                "--wan",
                "wan",
                "--publish",
                ROUND,
                "--metrics-listen",
                "9810",
            ],
            &["--metrics-listen 9810", "ADDR:PORT"],
        ),
    ];
    for (arguments, named) in cases {
        let outcome = run(
            lab.router.command(binary()).unwrap(),
            pins.path(),
            arguments,
        );
        assert_refused(&outcome, 2, named);
        println!("{}", outcome.stderr.trim());
    }
    assert_eq!(kernel::attached(&lab), [""; 0]);
    assert!(!pins.path().exists());
}

#[test]
fn a_missing_configuration_file_is_named() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let mut command = lab.router.command(binary()).unwrap();
    command
        .args(["run", "--config", "/nowhere/ftp-nat.toml", "--state-dir"])
        .arg(pins.path());
    let outcome = process::run(&mut command, PATIENCE).unwrap();
    assert_refused(&outcome, 2, &["/nowhere/ftp-nat.toml", "No such file"]);
    assert_eq!(kernel::attached(&lab), [""; 0]);
}

#[test]
fn a_server_without_a_route_is_named() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let arguments = ["--wan", "wan", "--publish", "198.51.100.1:21=172.16.9.9:21"];
    let outcome = run(
        lab.router.command(binary()).unwrap(),
        pins.path(),
        &arguments,
    );
    assert_refused(&outcome, 1, &["no route to the server 172.16.9.9", "--lan"]);
    assert_eq!(kernel::attached(&lab), [""; 0]);
}

/// `setpriv` in the router, with the options that take something away.
fn without(lab: &Lab, options: &[&str], program: &Path) -> Command {
    let mut command = lab.router.command("setpriv").unwrap();
    command.args(options).arg(program);
    command
}

#[test]
fn a_missing_capability_is_named() {
    const NONE: [&str; 2] = ["--inh-caps=-all", "--bounding-set=-all"];
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&NONE, &["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON", "root"]),
        (
            &["--inh-caps=-net_admin", "--bounding-set=-net_admin"],
            &["lacks CAP_NET_ADMIN (attaching to interfaces);"],
        ),
        (
            &[
                "--inh-caps=-bpf,-sys_admin",
                "--bounding-set=-bpf,-sys_admin",
            ],
            &["lacks CAP_BPF (loading programs and maps);"],
        ),
    ];
    for (options, named) in cases {
        let command = without(&lab, options, &binary());
        let outcome = run(command, pins.path(), &RUN);
        assert_refused(&outcome, 1, named);
        println!("{}", outcome.stderr.trim());
    }
    // Of another user's privileges nothing is left; the binary must be where that user may go.
    let scratch = Scratch::new().unwrap();
    let copy = scratch.path().join("ftp-nat");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let outcome = run(without(&lab, &nobody, &copy), pins.path(), &RUN);
    assert_refused(&outcome, 1, &["CAP_NET_ADMIN", "root"]);
    assert_eq!(kernel::attached(&lab), [""; 0]);
    assert!(!pins.path().exists());
}

#[test]
fn a_state_dir_that_cannot_hold_pins_is_named() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let folder = scratch.path().join("state");
    let outcome = run(lab.router.command(binary()).unwrap(), &folder, &RUN);
    assert_refused(
        &outcome,
        1,
        &[
            folder.to_str().unwrap(),
            "not on a BPF file system",
            "mount -t bpf",
        ],
    );
    assert_eq!(kernel::attached(&lab), [""; 0]);
    assert!(!folder.exists());
}

#[test]
fn a_metrics_port_that_is_taken_is_named_and_nothing_is_attached() {
    let lab = Lab::new().unwrap();
    let pins = PinFolder::new().unwrap();
    let taken = lab.router.run(|| Ok(TcpListener::bind("127.0.0.1:9810")?));
    let arguments = [&RUN[..], &["--metrics-listen", "127.0.0.1:9810"]].concat();
    let command = lab.router.command(binary()).unwrap();
    let outcome = run(command, pins.path(), &arguments);
    let named = ["cannot serve metrics on 127.0.0.1:9810", "in use"];
    assert_refused(&outcome, 1, &named);
    assert_eq!(kernel::attached(&lab), [""; 0]);
    assert!(!pins.path().exists());
    drop(taken);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let server = vsftpd(&lab);
    let mut gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let pid = gateway.pid().unwrap().to_string();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let hooks = kernel::attached(&lab);

    let elsewhere = PinFolder::new().unwrap();
    for state_dir in [gateway.state_dir(), elsewhere.path()] {
        let outcome = run(lab.router.command(binary()).unwrap(), state_dir, &RUN);
        assert_refused(&outcome, 1, &["wan has a gateway already", &pid]);
        println!("{}", outcome.stderr.trim());
    }

    assert_eq!(kernel::attached(&lab), hooks);
    assert!(!elsewhere.path().exists());
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);

    // Programs that no daemon runs are taken over, but not from another folder.
    gateway.kill().unwrap();
    let outcome = run(
        lab.router.command(binary()).unwrap(),
        elsewhere.path(),
        &RUN,
    );
    assert_eq!(outcome.status.unwrap().code(), Some(1), "{outcome:?}");
    let why = "another gateway's program wan_ingress";
    assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
    assert_eq!(kernel::attached(&lab), hooks);
    assert!(!elsewhere.path().exists());
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
}

#[test]
fn gateways_of_two_namespaces_do_not_meet() {
    // Same addresses, same names of interfaces, same folder for the pins.
    let [one, other] = [Lab::new().unwrap(), Lab::new().unwrap()];
    let servers = [&one, &other].map(vsftpd);
    let gateway = Gateway::start(&one.router, &RUN).unwrap();
    let second = |words: &[&str]| {
        let mut command = other.router.command(binary()).unwrap();
        command
            .args(words)
            .arg("--state-dir")
            .arg(gateway.state_dir());
        command
    };
    let mut daemon = second(&["run", "--config", "/dev/null"]);
    let mut daemon = Running::start(daemon.args(RUN)).unwrap();
    daemon.wait_for("ready", START_LIMIT).unwrap();

    let mut control = Control::log_in(one.client(), &servers[0].target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(one.client(), "PASV", SMALL).unwrap(), CONTENT);
    let sessions = |words: &mut Command| {
        let outcome = process::run(words, PATIENCE).unwrap();
        let text = outcome.expect_success().unwrap().text();
        text.matches("\"session\"").count()
    };
    assert_eq!(
        gateway.json(&["sessions"]).unwrap()[0]["client"],
        "198.51.100.20"
    );
    assert_eq!(sessions(&mut second(&["sessions", "--json"])), 0);

    let mut its = Control::log_in(other.client(), &servers[1].target_at(PUBLIC)).unwrap();
    assert_eq!(its.fetch(other.client(), "EPSV", SMALL).unwrap(), CONTENT);
    assert_eq!(sessions(&mut second(&["sessions", "--json"])), 1);

    daemon.stop(PATIENCE).unwrap();
    process::run(&mut second(&["unload"]), PATIENCE)
        .unwrap()
        .expect_success()
        .unwrap();
    assert_eq!(kernel::attached(&other), [""; 0]);
    assert_eq!(control.fetch(one.client(), "EPSV", SMALL).unwrap(), CONTENT);
}
