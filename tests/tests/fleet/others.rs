//! Other gateways that are many, of another version, by another clock, or die while they tell everything.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ftp_nat_tests::{
    control::Control,
    fleet::{
        CLIENT, Fleet, PUBLIC, SERVER,
        client::{eventually, passive_ports, serve},
        figures,
        speaker::{Bytes, ConnectionRecord, MappingRecord, SessionRecord, Speaker, all_told},
    },
    gateway::Gateway,
};
use serde_json::Value;

use super::outages::findings;

fn status(gateway: &Gateway<'_>) -> Value {
    gateway.json(&["cluster", "status"]).unwrap()[0].take()
}

fn is_ready(gateway: &Gateway<'_>) -> bool {
    gateway.ask(&["cluster", "ready"]).unwrap().success()
}

/// A session of the client with this last octet.
fn session(client: u8) -> Bytes {
    let its = SessionRecord {
        session: 0x1000_0000 + u32::from(client),
        role: 1,
        inside: (SERVER, 21).into(),
        outside: ([100, 64, 1, client], 40_000).into(),
        public: (PUBLIC, 21).into(),
        seen: 1000,
    };
    its.bytes()
}

#[test]
fn as_many_gateways_as_there_are_numbers() {
    let fleet = Fleet::new().unwrap();
    let gateway = fleet.gateway(0, "").unwrap();
    let speakers = (2..=63).map(|node| Speaker::join(&fleet, node).unwrap());
    let mut speakers: Vec<_> = speakers.collect();
    eventually("all are alive, and all that they have is here", || {
        for (place, speaker) in speakers.iter_mut().enumerate() {
            speaker.tell(&[session(place as u8), all_told()])?;
        }
        let known = status(&gateway);
        let peers = known["peers"].as_array().unwrap();
        let alive = peers.iter().filter(|peer| peer["is_alive"] == true);
        let is_here = known["installed"].as_u64() >= Some(62);
        Ok(alive.count() == 62 && known["is_ready"] == true && is_here)
    })
    .unwrap_or_else(|error| panic!("{error}: {}", status(&gateway)));
    assert_eq!(status(&gateway)["lost"], 0);
}

#[test]
fn a_clock_that_is_minutes_apart_is_named_and_breaks_nothing() {
    let fleet = Fleet::new().unwrap();
    let gateway = fleet.gateway(0, "").unwrap();
    let mut speaker = Speaker::join(&fleet, 2).unwrap();
    speaker.set_clock_ahead(Duration::from_secs(300));
    let is_over = AtomicBool::new(false);
    let named = thread::scope(|scope| {
        // Doctor looks for longer than a gateway may be silent.
        let speaking = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                speaker.tell(&[session(1), all_told()]).unwrap();
                thread::sleep(Duration::from_millis(200));
            }
        });
        let named = eventually("it is named, and its session is here", || {
            let is_here = status(&gateway)["installed"].as_u64() >= Some(1);
            let named = findings(&gateway).contains(&"cluster-clocks-differ".to_owned());
            Ok(named && is_here && is_ready(&gateway))
        });
        is_over.store(true, Ordering::Relaxed);
        speaking.join().unwrap();
        named
    });
    named.unwrap();
}

#[test]
fn a_gateway_of_another_version_is_named_and_nothing_of_it_is_taken() {
    let fleet = Fleet::new().unwrap();
    let gateway = fleet.gateway(0, "").unwrap();
    let mut speaker = Speaker::join(&fleet, 2).unwrap();
    // Version 0, node 2, four numbers, one record: its length and what it is.
    let batch = (0..5).fold(Bytes::default().byte(0).byte(2), |batch, _| batch.number(1));
    let session = session(1).0;
    let batch = [batch.0, vec![0, session.len() as u8], session].concat();
    eventually("it is named", || {
        speaker.write(&batch)?;
        Ok(findings(&gateway).contains(&"cluster-records-unknown".to_owned()))
    })
    .unwrap();
    assert_eq!(status(&gateway)["installed"], 0);
    eventually("ready", || Ok(is_ready(&gateway))).unwrap();
}

#[test]
fn a_gateway_that_dies_while_it_tells_everything_is_not_waited_for() {
    const CONNECTIONS: usize = 20_000;
    let fleet = Fleet::new().unwrap();
    let more = figures::limits(CONNECTIONS);
    let mut first = fleet.gateway(0, &more).unwrap();
    let mut speaker = Speaker::join(&fleet, 9).unwrap();
    let records = figures::crowd(CONNECTIONS);
    for chunk in records.chunks(1000) {
        speaker.tell(chunk).unwrap();
    }
    let has_all = |gateway: &Gateway<'_>| {
        let count = gateway.ask(&["flows", "--count"])?.text();
        Ok(count.trim() == CONNECTIONS.to_string())
    };
    eventually("the first one has all", || has_all(&first)).unwrap();
    drop(speaker);
    let second = fleet.gateway(1, &more).unwrap();
    eventually("it is told", || {
        Ok(status(&second)["installed"].as_u64() > Some(0))
    })
    .unwrap();
    first.kill().unwrap();
    eventually("ready without it", || Ok(is_ready(&second))).unwrap();
    thread::sleep(Duration::from_millis(100));
    first.restart().unwrap();
    eventually("the second one has all", || has_all(&second)).unwrap();
    eventually("both are ready", || {
        Ok(is_ready(&first) && is_ready(&second))
    })
    .unwrap();
}

/// After an outage another gateway may tell of connections that have ended here meanwhile; their ports may have been
/// announced once more.
#[test]
fn an_older_connection_takes_back_no_announcement() {
    let fleet = Fleet::new().unwrap();
    let server = serve(&fleet, false).unwrap();
    let gateway = fleet.gateway(0, &passive_ports()).unwrap();
    fleet.give_addresses(0).unwrap();
    let mut control =
        Control::log_in(&fleet.client, &server.target_at((PUBLIC, 21).into())).unwrap();
    let sessions = gateway.json(&["sessions"]).unwrap();
    let number = sessions[0]["session"].as_str().unwrap();
    let session = u32::from_str_radix(number, 16).unwrap();
    let announced = control.announce("PASV").unwrap();

    let mut speaker = Speaker::join(&fleet, 2).unwrap();
    let earlier = MappingRecord {
        session,
        kind: 2,
        is_outward: false,
        outside: Some(control.local_address().unwrap()),
        public: (PUBLIC, announced.port() ^ 1).into(),
        inside: (SERVER, announced.port() ^ 1).into(),
    };
    let ended = ConnectionRecord {
        session,
        kind: 2,
        is_untranslated: false,
        outside: (CLIENT, 41_000).into(),
        public: announced,
        seen: None,
        inside: (SERVER, announced.port()).into(),
    };
    speaker.tell(&[earlier.bytes(), ended.bytes()]).unwrap();
    eventually("both records are here", || {
        Ok(status(&gateway)["installed"].as_u64() >= Some(2))
    })
    .unwrap_or_else(|error| panic!("{error}: {}", status(&gateway)));
    let patience = Duration::from_secs(2);
    let connect = || Ok(TcpStream::connect_timeout(&announced, patience)?);
    let connected = fleet.client.namespace.run(connect);
    assert!(connected.is_ok(), "{connected:?}: {}", gateway.log());
}
