//! `ftp-nat doctor` in the lab: nothing is found on a healthy gateway, and each fault that is really
//! built is found by its name.

mod address;
mod gateway;
mod healthy;
mod history;
mod network;
mod rules;
mod server;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    process,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};
use serde_json::Value;

/// Where clients find the server.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);

/// What ftp-nat is told.
const RUN: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
/// The same, and the stack forwards.
const STACK: [&str; 6] = [
    "--wan",
    "wan",
    "--lan",
    "none",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
];

/// However slow its answers are, the doctor must have ended by then.
const LIMIT: Duration = Duration::from_secs(40);

/// What the doctor said.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    report: Value,
}

impl Examined {
    fn named(&self, name: &str) -> Option<&Value> {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["name"] == name)
    }

    /// The finding of this name, with this severity and cause (0: none); gives what was seen and
    /// what to do.
    #[track_caller]
    fn expect(&self, name: &str, severity: &str, cause: u64) -> String {
        let Some(finding) = self.named(name) else {
            panic!("{name} was not found: {:#}", self.report);
        };
        println!("{}", finding["seen"].as_str().unwrap());
        assert_eq!(finding["severity"], severity, "{finding:#}");
        assert_eq!(
            finding["cause"]["number"].as_u64().unwrap_or(0),
            cause,
            "{finding:#}"
        );
        assert_eq!(
            self.code,
            Some(i32::from(severity != "note")),
            "{:#}",
            self.report
        );
        let [seen, remedy] = ["seen", "remedy"].map(|key| finding[key].as_str().unwrap());
        assert!(!seen.is_empty() && !remedy.is_empty());
        format!("{seen}\n{remedy}")
    }

    /// That only findings of these names are there.
    #[track_caller]
    fn expect_only(&self, names: &[&str]) {
        for finding in self.report["findings"].as_array().unwrap() {
            let name = finding["name"].as_str().unwrap();
            assert!(names.contains(&name), "{name} was found too: {finding:#}");
        }
    }

    /// That nothing is wrong.
    #[track_caller]
    fn expect_health(&self) {
        assert_eq!(self.code, Some(0), "{:#}", self.report);
        self.expect_only(&[]);
    }
}

/// Asks the doctor about what `arguments` mean.
fn examine(gateway: &Gateway<'_>, arguments: &[&str]) -> Examined {
    let mut command = gateway.command(&["doctor", "--json"]).unwrap();
    if !arguments.contains(&"--config") {
        command.args(["--config", "/dev/null"]);
    }
    examined(command.args(arguments))
}

fn examined(command: &mut std::process::Command) -> Examined {
    let outcome = process::run(command, LIMIT).unwrap();
    let report = serde_json::from_slice(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    Examined {
        code: outcome.status.and_then(|status| status.code()),
        report,
    }
}

/// A running server inside.
fn vsftpd(lab: &Lab) -> FtpServer {
    FtpServer::start(Kind::Vsftpd, lab.server(), &Settings::default()).unwrap()
}

/// A configuration file with these lines after those of the WAN and one published server.
fn config(scratch: &Scratch, publish: &str, rest: &str) -> String {
    let text = format!(
        "[gateway]\nwan = [\"wan\"]\n\n[[publish]]\npublic = \"198.51.100.1:21\"\n\
         server = \"10.0.0.5:21\"\n{publish}\n{rest}\n"
    );
    let path = scratch.write("ftp-nat.toml", text).unwrap();
    path.display().to_string()
}

/// A fault on an otherwise healthy gateway: how it is built once the gateway runs, and what must be
/// found then.
struct Fault {
    finding: &'static str,
    severity: &'static str,
    /// The classic cause; 0: none of them.
    cause: u64,
    /// What ftp-nat is started and asked with.
    arguments: &'static [&'static str],
    /// What the finding must mention.
    names: &'static [&'static str],
    build: fn(&Lab),
}

/// Builds each fault in a lab of its own, with a server and a gateway that run.
#[track_caller]
fn each_is_found(faults: &[Fault]) {
    for fault in faults {
        println!("--- {} with {:?}", fault.finding, fault.arguments);
        let lab = Lab::new().unwrap();
        let _server = vsftpd(&lab);
        let gateway = Gateway::start(&lab.router, fault.arguments).unwrap();
        (fault.build)(&lab);
        let examined = examine(&gateway, fault.arguments);
        let said = examined.expect(fault.finding, fault.severity, fault.cause);
        for name in fault.names {
            assert!(said.contains(name), "{name:?} is not in: {said}");
        }
    }
}
