//! A kernel that lacks what ftp-nat needs, Debian 11's Linux 5.10: `cargo xtask vm --kernel 5.10` boots it.

use std::time::Duration;

use ftp_nat_tests::{
    lab::Lab,
    process::{self, Outcome},
    tools::Tools,
};
use serde_json::Value;

/// What Linux 5.10 lacks, as it must be named.
const MISSING: [&str; 3] = [
    "bpf_loop (since Linux 5.17)",
    "BPF_MAP_LOOKUP_AND_DELETE_ELEM for hash maps (since Linux 5.14)",
    "SO_NETNS_COOKIE (since Linux 5.14)",
];

/// What ftp-nat is told.
const GATEWAY: [&str; 4] = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];

fn ftp_nat(lab: &Lab, words: &[&str]) -> Outcome {
    let binary = Tools::get().unwrap().binary;
    let mut command = lab.router.command(binary).unwrap();
    command
        .args(words)
        .args(["--config", "/dev/null"])
        .args(GATEWAY);
    process::run(&mut command, Duration::from_secs(60)).unwrap()
}

fn code(outcome: &Outcome) -> Option<i32> {
    outcome.status.and_then(|status| status.code())
}

#[test]
#[ignore = "needs a kernel without bpf_loop: cargo xtask vm --kernel 5.10"]
fn run_names_all_that_the_kernel_lacks() {
    let lab = Lab::new().unwrap();
    let outcome = ftp_nat(&lab, &["run"]);
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    let named = format!("lacks {}, which ftp-nat needs\n", MISSING.join(", "));
    assert!(outcome.stderr.ends_with(&named), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs a kernel without bpf_loop: cargo xtask vm --kernel 5.10"]
fn doctor_names_all_that_the_kernel_lacks() {
    let lab = Lab::new().unwrap();
    let outcome = ftp_nat(&lab, &["doctor", "--json"]);
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let seen = |name: &str| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap();
        let named = findings.iter().filter(|it| it["name"] == name);
        named
            .map(|it| it["seen"].as_str().unwrap().to_owned())
            .collect()
    };
    let expected = MISSING.map(|feature| format!("the kernel does not have {feature}"));
    assert_eq!(seen("kernel-feature-missing"), expected, "{report:#}");
    assert_eq!(
        seen("no-tcx"),
        ["the kernel does not have TCX (since Linux 6.6)"]
    );
    assert_eq!(seen("cannot-look"), [""; 0]);
}
