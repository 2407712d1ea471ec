//! Every counter is asserted by a fixture; here are the rare ones.

use std::{fs, path::Path};

use ftp_nat_common::{
    abi::side,
    counter::Counter::{
        self, CommandWithheld, DeniedDoubtful, DeniedNoPort, DeniedNotFtp, DeniedUnreadable,
        LineHeld, PassedInside, PassedNoStation, PassedTooLong, Refused227,
    },
    ftp::doubt::LONGEST,
};

use crate::{
    fixture::Fixture,
    loaded::{REMAP, on_router},
    scene::{control_v4, masqueraded_v4},
    talk::{Client, Server, Talk},
};

const ISN: [u32; 2] = [1000, 2000];

/// Counters that no fixture can make move.
const OUT_OF_REACH: [(Counter, &str); 2] = [
    (
        Counter::DroppedUnwritable,
        "the kernel refuses to write to a packet only when it has no memory for its head",
    ),
    (
        Counter::DroppedUnattached,
        "counted where there are no programs: `daemon/interfaces.rs` has a real one",
    ),
];

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
fn a_reply_too_long_to_be_held_passes_and_opens_nothing() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "PASV\r\n");
        let reply = format!("227 {}\r\n", "x".repeat(600));
        talk.says(Server, &reply, &reply, &[PassedTooLong]);
        assert_eq!(talk.mappings(), []);
    });
}

#[test]
fn a_port_command_that_cannot_be_read_is_spoilt() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        let counted = [DeniedUnreadable];
        talk.says(Client, "PORT 1111\r\n", "XXXX 1111\r\n", &counted);
    });
}

#[test]
fn an_announcement_without_a_free_port_is_refused() {
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
        let refusal = "425 No data connection: the gateway cannot op)\r\n";
        talk.says(Server, reply, refusal, &[DeniedNoPort, Refused227]);
        let others = [
            (side::INBOUND, 50_000, 49_999),
            (side::INBOUND, REMAP, REMAP - 1),
        ];
        assert_eq!(talk.mappings(), others);
    });
}

#[test]
fn a_227_inside_a_status_reply_passes_and_opens_nothing() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "STAT\r\n");
        let reply = "211-Status\r\n227 (10,0,0,5,195,80)\r\n211 End\r\n";
        talk.says(Server, reply, reply, &[PassedInside]);
        assert_eq!(talk.mappings(), []);
    });
}

#[test]
fn a_browsers_request_is_not_ftp() {
    on_router(|datapath| {
        let mut talk = Talk::begin_masqueraded(datapath, masqueraded_v4(), ISN);
        talk.passes(Client, "POST / HTTP/1.1\r\n");
        let port = "PORT 10,0,0,105,195,80\r\n";
        talk.says(Client, port, "XXXX 10,0,0,105,195,80\r\n", &[DeniedNotFtp]);
        assert_eq!(talk.mappings(), []);
    });
}

#[test]
fn a_pasv_behind_a_listing_that_never_ends_has_no_licence() {
    on_router(|datapath| {
        let mut talk = Talk::begin(datapath, control_v4(), ISN);
        talk.passes(Client, "STAT .\r\n");
        talk.passes(Server, "213-Status\r\n");
        let packet = talk.segment(Client, "PASV\r\n");
        talk.fixture(Client, "too early", &packet)
            .dropped()
            .counting(&[CommandWithheld, LineHeld])
            .check(talk.datapath);
        let (number, mut session) = talk.datapath.sessions.all()[0];
        session.asked.withheld_first = session.asked.withheld_first.wrapping_sub(LONGEST);
        talk.datapath.sessions.set(number, session);
        talk.says(Client, "PASV\r\n", "PASV\r\n", &[DeniedDoubtful]);
        let reply = "213 End\r\n227 (10,0,0,5,195,80)\r\n";
        let refusal = "213 End\r\n425 No data connecti)\r\n";
        talk.says(Server, reply, refusal, &[DeniedDoubtful, Refused227]);
        assert_eq!(talk.mappings(), []);
    });
}
