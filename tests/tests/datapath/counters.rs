//! Every counter is asserted by a fixture; here are the rare ones.

use std::{fs, path::Path};

use ftp_nat_common::{
    abi::side,
    counter::Counter::{self, DeniedNoPort, DeniedUnreadable, PassedNoStation, PassedTooLong},
};

use crate::{
    fixture::Fixture,
    loaded::{REMAP, on_router},
    scene::control_v4,
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [1000, 2000];

/// Counters that no fixture can make move.
const OUT_OF_REACH: [(Counter, &str); 1] = [(
    Counter::DroppedUnwritable,
    "the kernel refuses to write to a packet only when it has no memory for its head",
)];

#[test]
fn every_counter_is_asserted_by_a_fixture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/datapath");
    let mut fixtures = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The differential test computes what it expects and names no counter of its own accord.
        if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("differential.rs") {
            fixtures += &fs::read_to_string(path).unwrap();
        }
    }
    let words: Vec<&str> = fixtures
        .split(|c: char| !c.is_ascii_alphanumeric())
        .collect();
    let missing: Vec<_> = Counter::ALL
        .iter()
        .filter(|counter| {
            let name = format!("{counter:?}");
            let is_reachable = OUT_OF_REACH.iter().all(|(other, _)| other != *counter);
            is_reachable && !words.contains(&name.as_str())
        })
        .collect();
    assert!(missing.is_empty(), "no fixture names {missing:?}");
}

#[test]
fn what_finds_no_program_behind_the_hook_passes() {
    on_router(|datapath| {
        let control = control_v4();
        control.publish(datapath, 0);
        datapath.without_stations(|datapath| {
            Fixture::wan("SYN", &control.inbound().syn())
                .counting(&[PassedNoStation])
                .check(datapath);
        });
    });
}

#[test]
fn a_line_too_long_to_be_held_passes_but_no_port_command_in_it() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        let number = "1".repeat(600);
        talk.says(
            Client,
            &format!("PORT {number}\r\n"),
            &format!("XXXX {number}\r\n"),
            &[PassedTooLong, DeniedUnreadable],
        );
    });
}

#[test]
fn an_announcement_without_a_free_port_passes_and_opens_nothing() {
    on_router(|datapath| {
        let control = control_v4();
        let mut talk = Talk::begin(datapath, control, ISN);
        for port in [50_000, REMAP] {
            let mut other = control.data(1, port, port);
            other.inside.set_port(port - 1);
            other.announce_passive(talk.datapath);
        }
        talk.passes(Client, "EPSV\r\n");
        let reply = "229 Entering Extended Passive Mode (|||50000|)\r\n";
        talk.says(Server, reply, reply, &[DeniedNoPort]);
        let others = [
            (side::INBOUND, 50_000, 49_999),
            (side::INBOUND, REMAP, REMAP - 1),
        ];
        assert_eq!(talk.mappings(), others);
    });
}
