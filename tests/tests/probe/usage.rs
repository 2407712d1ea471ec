//! Bad usage is exit code 2, and a server that is not reached exit code 1.

use ftp_nat_tests::{
    lab::Lab,
    scratch::Scratch,
    scripted::{Script, ScriptedServer},
};

use crate::{Probed, code, command, run};

#[test]
fn bad_usage_is_named() {
    let lab = Lab::new().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[], "HOST[:PORT]"),
        (&["198.51.100.1:0"], "\"0\" is not a port"),
        (&["198.51.100.1:65536"], "\"65536\" is not a port"),
        (&["198.51.100.1:ftp"], "\"ftp\" is not a port"),
        (&["[2001:db8:1::1:21"], "never closes"),
        (&["https://198.51.100.1/"], "another protocol"),
        (&["198.51.100.1", "-4", "-6"], "cannot be used with"),
        (
            &["198.51.100.1", "--tls", "--implicit-tls"],
            "cannot be used with",
        ),
        (&["198.51.100.1", "--insecure"], "needs --tls"),
        (&["198.51.100.1", "--timeout", "0"], "--timeout"),
        (&["198.51.100.1", "--samples", "0"], "--samples"),
        (&["198.51.100.1", "--user", "me"], "no password for me"),
        (&["198.51.100.1", "--password-file", "/nowhere"], "--user"),
        (
            &[
                "198.51.100.1",
                "--user",
                "me",
                "--password-file",
                "/nowhere",
            ],
            "No such file",
        ),
        (
            &[
                "198.51.100.1",
                "--user",
                "a\nDELE b",
                "--password-file",
                "/dev/null",
            ],
            "line end",
        ),
    ];
    for (words, part) in cases {
        let outcome = run(command(lab.client(), words));
        assert_eq!(code(&outcome), Some(2), "{words:?}");
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
        assert_eq!(outcome.text(), "", "{words:?}");
    }
}

#[test]
fn a_server_that_is_not_reached_is_named() {
    let lab = Lab::new().unwrap();
    for (words, verdict, part) in [
        (
            &["no-such-host.invalid"][..],
            "not_reached",
            "no-such-host.invalid cannot be resolved",
        ),
        (
            &["198.51.100.1:2121"],
            "not_reached",
            "198.51.100.1:2121 is not reached: refused",
        ),
        (
            &["[2001:db8:1::1]:2121"],
            "not_reached",
            "[2001:db8:1::1]:2121 is not reached: refused",
        ),
        (&["10.0.0.5"], "not_reached", "is not reached: unreachable"),
        (
            &["198.51.100.1", "-6"],
            "not_reached",
            "has no IPv6 address",
        ),
        (
            &["2001:db8:1::1", "-4"],
            "not_reached",
            "has no IPv4 address",
        ),
    ] {
        let probed = Probed::on(lab.client(), &[words, &["--timeout", "2"]].concat());
        assert_eq!(probed.code, Some(1), "{words:?}");
        assert_eq!(probed.json["verdict"], verdict);
        let summary = probed.json["summary"].as_str().unwrap();
        assert!(summary.contains(part), "{summary}");
    }
}

#[test]
fn a_password_is_sent_and_never_shown() {
    const PASSWORD: &str = "s3cret-7f1";
    let lab = Lab::new().unwrap();
    let server = ScriptedServer::start(lab.client(), 21, Script::default()).unwrap();
    let scratch = Scratch::new().unwrap();
    let file = scratch
        .write("password", format!("{PASSWORD}\nno\n"))
        .unwrap();
    let address = lab.client().v4.to_string();
    for json in [&[][..], &["--json"]] {
        let words = [
            &[&address, "--user", "me", "--verbose", "--password-file"][..],
            &[file.to_str().unwrap()],
            json,
        ]
        .concat();
        let outcome = run(command(lab.client(), &words));
        assert_eq!(code(&outcome), Some(0));
        let said = outcome.text() + &outcome.stderr;
        assert!(said.contains("PASS ****"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    // By the environment too.
    let mut by_environment = command(lab.client(), &[&address, "--user", "you"]);
    by_environment.env("FTP_NAT_PASSWORD", PASSWORD);
    assert_eq!(code(&run(by_environment)), Some(0));
    let commands = server.commands();
    let sent = commands.iter().filter(|line| line.contains(PASSWORD));
    assert_eq!(sent.count(), 3, "{commands:?}");
}

#[test]
fn a_password_is_asked_for_on_a_terminal_and_not_echoed() {
    // Runs a program on a terminal of its own, and answers the first question.
    const ON_A_TERMINAL: &str = r#"
import os, pty, sys, termios, time
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b"Password of me" not in said:
    said += os.read(terminal, 4096)
# The question stands there a moment before the terminal stops echoing: nobody types so fast.
for _ in range(500):
    if not termios.tcgetattr(terminal)[3] & termios.ECHO:
        break
    time.sleep(0.01)
os.write(terminal, b"s3cret-7f1\n")
try:
    while part := os.read(terminal, 4096):
        said += part
except OSError:
    pass
sys.stdout.write(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let lab = Lab::new().unwrap();
    let server = ScriptedServer::start(lab.client(), 21, Script::default()).unwrap();
    let mut command = lab.client().namespace.command("python3").unwrap();
    command
        .args(["-c", ON_A_TERMINAL])
        .arg(crate::binary())
        .args(["probe", &lab.client().v4.to_string(), "--user", "me"]);
    let outcome = run(command);
    assert_eq!(code(&outcome), Some(0));
    assert!(!outcome.text().contains("s3cret"), "{}", outcome.text());
    let commands = server.commands();
    assert!(
        commands.contains(&"PASS s3cret-7f1".to_owned()),
        "{commands:?}"
    );
}
