//! Conversations and data connections, and what is told of them.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{Event, Flow, Said, Session, event, kind, remark, role},
    ftp::command::named,
    wire::addr::{Addr, Endpoint, Port},
};

use super::{
    Ledger,
    tables::{Flows, Tables},
};
use crate::{daemon::occurrence::Detail, kernel::clock::Clock, model::transfer::Transfer};

/// A published session, number 7, and the flows of its data connections by the client's port.
#[derive(Clone, Default)]
struct Lab(Arc<Mutex<Vec<Connection>>>);

/// The client's port of a data connection, and its flows.
type Connection = (u16, [Flow; 2]);

impl Tables for Lab {
    fn session(&self, number: u32) -> Option<Session> {
        let mut session = Session::zeroed();
        session.role = role::PUBLISH;
        session.inside = end([10, 0, 0, 5], 21);
        session.outside = end([192, 0, 2, 9], 40_000);
        (number == 7).then_some(session)
    }

    fn flows(&self, data: &Event) -> Flows {
        let flows = self.0.lock().unwrap();
        let port = data.peer.port.number();
        flows
            .iter()
            .rfind(|(it, _)| *it == port)
            .map(|(_, flows)| *flows)
    }
}

fn end(octets: [u8; 4], port: u16) -> Endpoint {
    Endpoint::new(Addr::from_octets(octets), Port::new(port))
}

/// Flows of a data connection that has carried so many bytes outward, and is over or not.
fn flows(bytes: u32, is_over: bool) -> [Flow; 2] {
    let flags = if is_over { 0x13 } else { 0x12 };
    let flow = |start: u32, len: u32, acked: u32| Flow {
        tcp_flags: flags,
        start,
        end: start.wrapping_add(len),
        acked,
        packets: 3,
        ..Flow::default()
    };
    [flow(100, 0, 5000 + bytes + 1), flow(5000, bytes, 101)]
}

/// A ledger at work.
struct Scene {
    ledger: Ledger,
    lab: Lab,
    now: Instant,
    told: Vec<Transfer>,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::default();
        let clock = Clock::of_this_kernel().unwrap();
        Self {
            ledger: Ledger::new(Box::new(lab.clone()), clock),
            lab,
            now: Instant::now(),
            told: Vec::new(),
        }
    }

    fn command(&mut self, number: u32, line: &str) {
        let said = Said {
            what: event::COMMAND,
            session: 7,
            number,
            name: named(line.split(' ').next().unwrap().as_bytes()),
            ..Said::zeroed()
        };
        let line = format!("{line}\r");
        let over = self.ledger.hear(&said, line.as_bytes(), self.now);
        self.told.extend(over.into_iter().map(|(_, it)| it));
    }

    fn reply(&mut self, number: u32, code: u16) {
        self.reply_with(number, code, remark::NONE);
    }

    fn reply_with(&mut self, number: u32, code: u16, remark: u8) {
        let said = Said {
            what: event::REPLY,
            remark,
            session: 7,
            number,
            code,
            ..Said::zeroed()
        };
        let over = self.ledger.hear(&said, b"", self.now);
        self.told.extend(over.into_iter().map(|(_, it)| it));
    }

    /// Something happens to the data connection of this port, or to the session.
    fn see(&mut self, what: u8, kind: u8, port: u16) {
        let event = Event {
            what,
            kind,
            session: 7,
            peer: end([192, 0, 2, 9], port),
            public: end([198, 51, 100, 1], 50_000),
            ..Event::default()
        };
        let over = self.ledger.see(&event, &Detail::None, self.now);
        self.told.extend(over.into_iter().map(|(_, it)| it));
    }

    /// A data connection is announced and comes, and has these flows.
    fn connects(&mut self, port: u16, flows: [Flow; 2]) {
        self.see(event::OPENED, kind::PASSIVE, 0);
        self.see(event::USED, kind::PASSIVE, port);
        self.has(port, flows);
    }

    fn has(&self, port: u16, flows: [Flow; 2]) {
        self.lab.0.lock().unwrap().push((port, flows));
    }

    fn wait(&mut self) {
        for _ in 0..40 {
            self.now += Duration::from_millis(100);
            let over = self.ledger.look(self.now);
            self.told.extend(over.into_iter().map(|(_, it)| it));
        }
    }

    /// What was told: the verb, the path, bytes and the reply's code.
    #[track_caller]
    fn assert_told(&self, wanted: &[(&str, &str, Option<u64>, Option<u16>)]) {
        let text = |name: &Option<Box<[u8]>>| {
            String::from_utf8_lossy(name.as_deref().unwrap_or_default()).into_owned()
        };
        let found: Vec<_> = self
            .told
            .iter()
            .map(|it| {
                (
                    it.command.clone().unwrap_or_default(),
                    text(&it.path),
                    it.bytes,
                    it.code,
                )
            })
            .collect();
        let found: Vec<_> = found
            .iter()
            .map(|(command, path, bytes, code)| (command.as_str(), path.as_str(), *bytes, *code))
            .collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_transfer_is_told_when_its_reply_and_its_data_are_there() {
    // The connection before the command, or behind it; the reply before the last byte, or behind it.
    for (is_early, is_late) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut scene = Scene::new();
        let first = flows(500, !is_late);
        if is_early {
            scene.connects(1000, first);
        }
        scene.command(1, "RETR a");
        if !is_early {
            scene.connects(1000, first);
        }
        scene.wait();
        scene.assert_told(&[]);
        scene.reply(1, 226);
        if is_late {
            scene.wait();
            scene.assert_told(&[]);
            scene.has(1000, flows(700, true));
            scene.wait();
        }
        let bytes = if is_late { 700 } else { 500 };
        scene.assert_told(&[("RETR", "a", Some(bytes), Some(226))]);
    }
}

#[test]
fn each_transfer_has_its_own_connection() {
    let mut scene = Scene::new();
    // The first is refused, and its connection comes too late.
    scene.command(1, "RETR none");
    scene.reply(1, 550);
    scene.connects(1000, flows(0, true));
    scene.see(event::OPENED, kind::PASSIVE, 0);
    scene.command(2, "RETR b");
    scene.see(event::USED, kind::PASSIVE, 1001);
    scene.has(1001, flows(20, true));
    scene.command(3, "STOR c");
    scene.connects(1002, flows(0, true));
    scene.reply(2, 226);
    scene.reply(3, 226);
    scene.wait();
    scene.assert_told(&[
        ("RETR", "none", None, Some(550)),
        ("RETR", "b", Some(20), Some(226)),
        ("STOR", "c", Some(0), Some(226)),
    ]);
}

#[test]
fn what_gets_no_reply_is_told_without_one() {
    let mut scene = Scene::new();
    scene.command(1, "RETR lost");
    scene.connects(1000, flows(10, true));
    // The reply's record was lost; that of a later command was not.
    scene.command(2, "DELE b");
    scene.reply(2, 250);
    scene.wait();
    // A reply that ends no transfer is another command's.
    scene.command(3, "RETR c");
    scene.reply_with(3, 200, remark::EARLY);
    // The session ends first.
    scene.command(5, "MKD d");
    scene.see(event::ENDED, kind::CONTROL, 40_000);
    scene.assert_told(&[
        ("DELE", "b", None, Some(250)),
        ("RETR", "lost", Some(10), None),
        ("RETR", "c", None, None),
        ("MKD", "d", None, None),
    ]);
    assert_eq!(scene.ledger.waiting, 0);
}

#[test]
fn what_no_command_claims_is_told_if_it_carried_something() {
    for (is_encrypted, bytes, is_told) in [
        (false, 10, true),
        (false, 0, false),
        (true, 10, true),
        (true, 0, true),
    ] {
        let mut scene = Scene::new();
        if is_encrypted {
            scene.see(event::ENCRYPTED, 0, 40_000);
        }
        scene.connects(1000, flows(bytes, true));
        scene.wait();
        let wanted = [("", "", Some(u64::from(bytes)), None)];
        scene.assert_told(if is_told { &wanted } else { &[] });
        assert!(scene.told.iter().all(|it| it.is_encrypted == is_encrypted));
    }
}

#[test]
fn users_and_folders_are_those_that_the_server_has_accepted() {
    let user_of = |conversation: &[(&str, u16)]| {
        let mut scene = Scene::new();
        for (number, (line, code)) in conversation.iter().enumerate() {
            scene.command(number as u32, line);
            scene.reply(number as u32, *code);
        }
        let last = scene.told.pop().unwrap();
        let text =
            |name: Option<Box<[u8]>>| name.map(|it| String::from_utf8(it.into_vec()).unwrap());
        (text(last.user), text(last.directory))
    };
    let some = |text: &str| Some(text.to_owned());
    for (conversation, wanted) in [
        (&[("DELE a", 530)][..], (None, None)),
        (
            &[("USER bob", 331), ("PASS", 230), ("DELE a", 250)],
            (some("bob"), None),
        ),
        (&[("USER bob", 230), ("DELE a", 250)], (some("bob"), None)),
        (
            &[("USER bob", 331), ("PASS", 530), ("DELE a", 530)],
            (None, None),
        ),
        (
            &[
                ("USER bob", 230),
                ("USER eve", 331),
                ("PASS", 530),
                ("DELE a", 250),
            ],
            (some("bob"), None),
        ),
        (
            &[
                ("USER bob", 230),
                ("CWD /pub", 250),
                ("CWD x", 550),
                ("CWD y", 250),
                ("DELE a", 250),
            ],
            (some("bob"), some("/pub/y")),
        ),
        (
            &[
                ("USER bob", 230),
                ("CWD /pub", 250),
                ("REIN", 220),
                ("DELE a", 530),
            ],
            (None, None),
        ),
    ] {
        assert_eq!(user_of(conversation), wanted, "{conversation:?}");
    }
    let mut scene = Scene::new();
    for (number, (line, code)) in [("RNFR a", 350), ("RNTO b", 250)].into_iter().enumerate() {
        scene.command(number as u32, line);
        scene.reply(number as u32, code);
    }
    assert_eq!(scene.told[0].from.as_deref(), Some(&b"a"[..]));
}

#[test]
fn who_answers_nothing_costs_a_bounded_memory() {
    let mut scene = Scene::new();
    for number in 0..1000 {
        scene.command(number, "RETR a");
    }
    assert!(scene.ledger.waiting <= 64);
    assert_eq!(scene.told.len() + scene.ledger.waiting, 1000);
}

/// There are servers that end a transfer with 200.
#[test]
fn the_only_reply_is_the_transfers_whatever_it_is() {
    for code in [200, 226, 250, 450, 500] {
        let mut scene = Scene::new();
        scene.connects(1000, flows(500, true));
        scene.command(1, "RETR a");
        scene.reply(1, code);
        scene.wait();
        scene.assert_told(&[("RETR", "a", Some(500), Some(code))]);
    }
}

/// STAT and NOOP are answered while the transfer goes on: its own reply comes behind theirs.
#[test]
fn what_is_answered_meanwhile_ends_no_transfer() {
    for (meanwhile, end) in [
        (&[213][..], 226),
        (&[211, 200, 213], 226),
        (&[450, 213], 426),
        (&[200], 250),
    ] {
        let mut scene = Scene::new();
        scene.connects(1000, flows(500, false));
        scene.command(1, "RETR a");
        let mut number = 1;
        for code in meanwhile {
            scene.reply_with(number, *code, remark::EARLY);
            number += 1;
            scene.wait();
            scene.assert_told(&[]);
        }
        scene.has(1000, flows(900, true));
        scene.reply(number, end);
        scene.wait();
        scene.assert_told(&[("RETR", "a", Some(900), Some(end))]);
        scene.command(number + 1, "DELE b");
        scene.reply(number + 1, 250);
        assert_eq!(scene.told.len(), 2);
        assert_eq!(scene.ledger.waiting, 0);
    }
    // Its connection is over, or there never was one: then its own reply was left out.
    for has_data in [true, false] {
        let mut scene = Scene::new();
        if has_data {
            scene.connects(1000, flows(500, true));
        }
        scene.command(1, "RETR a");
        scene.reply_with(1, 200, remark::EARLY);
        scene.wait();
        let bytes = has_data.then_some(500);
        scene.assert_told(&[("RETR", "a", bytes, None)]);
    }
}
