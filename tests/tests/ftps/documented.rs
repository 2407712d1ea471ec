//! What docs/ftps.md says.

use std::{process::Command, time::Duration};

use ftp_nat_tests::{process, scratch::Scratch, tools::Tools};

const PAGE: &str = include_str!("../../../docs/ftps.md");

#[test]
fn every_configuration_is_right() {
    let binary = Tools::get().unwrap().binary;
    let scratch = Scratch::new().unwrap();
    let blocks: Vec<_> = PAGE
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(blocks.len(), 2);
    for text in blocks {
        let file = scratch.write("ftp-nat.toml", text).unwrap();
        let mut check = Command::new(&binary);
        check.args(["check", "--config"]).arg(file);
        let outcome = process::run(&mut check, Duration::from_secs(5)).unwrap();
        if let Err(error) = outcome.expect_success() {
            panic!("{error:#}\n{text}");
        }
    }
}
