//! All gateways of a machine, those of other and of dead network namespaces too.

use std::time::Duration;

use ftp_nat_tests::{
    gateway::{Gateway, START_LIMIT},
    lab::Lab,
    process::{self, Outcome, Running},
    scratch::PinFolder,
    tools::Tools,
};
use serde_json::Value;

use crate::{ConfigFile, ONE_SERVER, wait_for};

/// A command of ftp-nat about the pins of a folder, run in this process' own network namespace.
fn ask(pins: &PinFolder, words: &[&str]) -> Outcome {
    let mut command = std::process::Command::new(Tools::get().unwrap().binary);
    command.args(words).arg("--state-dir").arg(pins.path());
    process::run(&mut command, Duration::from_secs(20)).unwrap()
}

fn list(pins: &PinFolder) -> Vec<Value> {
    let text = ask(pins, &["list", "--json"])
        .expect_success()
        .unwrap()
        .text();
    serde_json::from_str(&text).unwrap()
}

/// A daemon on a lab's router with pins in this folder.
fn start(lab: &Lab, file: &ConfigFile, pins: &PinFolder) -> Running {
    let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
    command
        .args(["run", "--config"])
        .arg(file.path())
        .arg("--state-dir")
        .arg(pins.path());
    let mut daemon = Running::start(&mut command).unwrap();
    daemon.wait_for("ready", START_LIMIT).unwrap();
    daemon
}

#[test]
fn gateways_of_other_namespaces_are_listed_and_unloaded_and_dead_ones_removed() {
    let pins = PinFolder::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let (first, second) = (Lab::new().unwrap(), Lab::new().unwrap());
    let daemon = start(&first, &file, &pins);
    start(&second, &file, &pins)
        .stop(Duration::from_secs(10))
        .unwrap();

    let rows = list(&pins);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    let of = |name: &str| {
        let row = rows.iter().find(|row| row["namespace_name"] == name);
        row.unwrap_or_else(|| panic!("{name}: {rows:#?}"))
    };
    let running = of(first.router.name());
    assert_eq!(
        (&running["state"], &running["daemon"]),
        (&"running".into(), &daemon.pid().into())
    );
    assert_eq!(of(second.router.name())["state"], "no_daemon");
    let text = ask(&pins, &["list"]).expect_success().unwrap().text();
    assert!(
        text.contains(first.router.name()) && text.contains("running"),
        "{text}"
    );

    // What is in use is left alone.
    let refused = ask(&pins, &["unload", "--all"]);
    assert_eq!(refused.status.unwrap().code(), Some(1), "{refused:?}");
    let named = format!("process {} runs the gateway wan", daemon.pid());
    assert!(refused.stderr.contains(&named), "{refused:?}");
    assert_eq!(list(&pins).len(), 2, "all or nothing");
    let nothing = ask(&pins, &["unload", "--gone"])
        .expect_success()
        .unwrap()
        .text();
    assert!(
        nothing.contains("nothing is left of namespaces that are gone"),
        "{nothing}"
    );

    drop(second);
    daemon.stop(Duration::from_secs(10)).unwrap();
    wait_for("a dead namespace", || {
        list(&pins)
            .iter()
            .any(|row| row["state"] == "gone")
            .then_some(())
    });
    let removed = ask(&pins, &["unload", "--gone"])
        .expect_success()
        .unwrap()
        .text();
    assert!(removed.contains("removed wan of netns-"), "{removed}");
    assert_eq!(list(&pins).len(), 1);
    let unloaded = ask(&pins, &["unload", "--all"])
        .expect_success()
        .unwrap()
        .text();
    assert!(
        unloaded.contains("unloaded wan: 4 programs detached"),
        "{unloaded}"
    );
    assert_eq!(list(&pins), Vec::<Value>::new());
    assert!(!pins.path().exists());
}

#[test]
fn all_and_gone_and_a_wan_exclude_each_other() {
    let lab = Lab::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let gateway: Gateway<'_> = file.run(&lab);
    for words in [
        ["unload", "--all", "--gone", ""],
        ["unload", "--all", "--wan", "wan"],
    ] {
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let outcome = gateway.ask(&words).unwrap();
        assert_eq!(outcome.status.unwrap().code(), Some(2), "{outcome:?}");
    }
}
