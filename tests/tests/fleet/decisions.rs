//! What an operator decides at one gateway holds at all of them: who is denied, which servers are drained.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ftp_nat_tests::{
    fleet::{
        CLIENT, Fleet, PUBLIC,
        client::{eventually, passive_ports, serve},
        speaker::{DeniedRecord, Speaker},
    },
    gateway::Gateway,
};
use serde_json::Value;

/// A pool, whose servers need not answer.
const POOL: &str = "[[publish]]\npublic = \"198.51.100.1:2121\"\n\
                    server = [\"10.0.0.5:2101\", \"10.0.0.5:2102\"]\n";

fn wait_until_ready(gateway: &Gateway<'_>) {
    eventually("ready", || {
        Ok(gateway.ask(&["cluster", "ready"])?.success())
    })
    .unwrap();
}

/// The entry of a network in a list; none: there is none.
fn entry(gateway: &Gateway<'_>, list: &str, network: &str) -> Option<Value> {
    let all = gateway.json(&[list, "list"]).unwrap();
    let mut all = all.as_array().unwrap().iter();
    all.find(|it| it["network"] == network).cloned()
}

fn do_it(gateway: &Gateway<'_>, words: &[&str]) {
    gateway.ask(words).unwrap().expect_success().unwrap();
}

#[track_caller]
fn wait_for(gateway: &Gateway<'_>, network: &str, is_denied: bool) {
    eventually(&format!("{network} is denied: {is_denied}"), || {
        Ok(entry(gateway, "deny", network).is_some() == is_denied)
    })
    .unwrap();
}

/// Whether the server greets a client.
fn is_greeted(fleet: &Fleet) -> bool {
    let dial = || {
        let public: SocketAddr = (PUBLIC, 21).into();
        let Ok(mut stream) = TcpStream::connect_timeout(&public, Duration::from_millis(500)) else {
            return Ok(false);
        };
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(stream.read(&mut [0; 4]).is_ok_and(|read| read > 0))
    };
    fleet.client.namespace.run(dial).unwrap()
}

fn sessions(gateway: &Gateway<'_>) -> usize {
    let all = gateway.json(&["sessions"]).unwrap();
    let all = all.as_array().unwrap().iter();
    all.filter(|it| it["client"] == CLIENT.to_string().as_str())
        .count()
}

#[test]
fn a_ban_at_one_gateway_holds_at_the_other_and_so_does_its_end() {
    let mut fleet = Fleet::new().unwrap();
    // The fleet's own engine cannot be ended while gateways borrow the fleet.
    fleet.stop_engine();
    let engine = fleet.redis(&["--port", "6379"]).unwrap();
    let _server = serve(&fleet, false).unwrap();
    fleet.give_addresses(1).unwrap();
    let more = passive_ports();
    let (mut a, mut b) = (
        fleet.gateway(0, &more).unwrap(),
        fleet.gateway(1, &more).unwrap(),
    );
    wait_until_ready(&a);
    wait_until_ready(&b);

    // A session that is alive at the other one ends, and its client begins no other.
    let client = CLIENT.to_string();
    let network = format!("{client}/32");
    assert!(is_greeted(&fleet));
    let held = fleet
        .client
        .namespace
        .run(|| Ok(TcpStream::connect((PUBLIC, 21))?))
        .unwrap();
    eventually("a session", || Ok(sessions(&b) > 0)).unwrap();
    do_it(&a, &["allow", "add", "0.0.0.0/0"]);
    do_it(&a, &["deny", "add", &client, "--why", "guesses passwords"]);
    wait_for(&b, &network, true);
    let its = entry(&b, "deny", &network).unwrap();
    assert_eq!(
        (&its["node"], &its["why"]),
        (&1.into(), &"guesses passwords".into())
    );
    eventually("nobody is greeted", || Ok(!is_greeted(&fleet))).unwrap();
    drop(held);
    let text = b.ask(&["deny", "list"]).unwrap().text();
    assert!(text.contains("node 1"), "{text}");
    // Whom a gateway allows is its own matter.
    assert_eq!(entry(&b, "allow", "0.0.0.0/0"), None);

    // It is kept, and in force again while nobody else is there.
    a.stop().unwrap();
    drop(engine);
    b.restart().unwrap();
    assert!(!is_greeted(&fleet));
    assert!(entry(&b, "deny", &network).is_some());

    // What was decided here while the other one was away is told, and what that one has it takes back.
    do_it(&b, &["deny", "remove", &client]);
    assert!(is_greeted(&fleet));
    do_it(&b, &["deny", "add", "203.0.113.0/24"]);
    let _engine = fleet.redis(&["--port", "6379"]).unwrap();
    a.restart().unwrap();
    wait_for(&a, "203.0.113.0/24", true);
    wait_for(&a, &network, false);
    wait_for(&b, &network, false);

    // For a time, and for one server.
    let server = format!("{PUBLIC}:21");
    do_it(
        &a,
        &[
            "deny",
            "add",
            "203.0.113.9",
            "--for",
            "3s",
            "--publish",
            &server,
        ],
    );
    wait_for(&b, "203.0.113.9/32", true);
    let its = entry(&b, "deny", "203.0.113.9/32").unwrap();
    assert!(its["expires_in"].as_f64().unwrap() <= 3.0, "{its}");
    assert_eq!(its["publish"], server.as_str());
    wait_for(&b, "203.0.113.9/32", false);
    assert!(is_greeted(&fleet));
}

#[test]
fn a_server_that_is_drained_at_one_gateway_is_at_the_other() {
    let fleet = Fleet::new().unwrap();
    let more = format!("{}\n{POOL}", passive_ports());
    let (a, mut b) = (
        fleet.gateway(0, &more).unwrap(),
        fleet.gateway(1, &more).unwrap(),
    );
    wait_until_ready(&a);
    wait_until_ready(&b);
    let drained = |gateway: &Gateway<'_>| {
        let answer = gateway.ask(&["metrics"]).unwrap();
        let text = answer.expect_success().unwrap().text();
        let lines = text.lines();
        lines
            .filter(|it| it.starts_with("ftp_nat_pool_server_draining{") && it.ends_with(" 1"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    do_it(&a, &["pool", "drain", "10.0.0.5:2102"]);
    eventually("it is drained", || Ok(!drained(&b).is_empty())).unwrap();
    assert_eq!(drained(&b), drained(&a));
    // It is undrained at the other one, while that has forgotten who has told it.
    b.restart().unwrap();
    assert_eq!(drained(&b), drained(&a));
    wait_until_ready(&b);
    do_it(&b, &["pool", "undrain", "10.0.0.5:2102"]);
    eventually("it is not drained", || Ok(drained(&a).is_empty())).unwrap();
    assert_eq!(drained(&b), [""; 0]);
}

#[test]
fn forged_decisions_lift_nothing_that_the_configuration_has_and_fill_a_part_of_the_lists() {
    let fleet = Fleet::new().unwrap();
    let more = format!("{}deny = [\"198.51.100.66\"]\n", passive_ports());
    let gateway = fleet.gateway(0, &more).unwrap();
    let mut speaker = Speaker::join(&fleet, 9).unwrap();
    let status = |of: &str| {
        let status = gateway.json(&["cluster", "status"]).unwrap();
        status[0][of].as_u64().unwrap()
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let time = now.as_micros() as u64;
    let right = DeniedRecord {
        address: [203, 0, 113, 7].into(),
        bits: 32,
        publish: None,
        time,
        node: 9,
        is_removed: false,
        left: None,
        why: Some("forged".into()),
    };
    let configured = DeniedRecord {
        address: [198, 51, 100, 66].into(),
        publish: Some(format!("{PUBLIC}:21")),
        is_removed: true,
        ..right.clone()
    };
    speaker.tell(&[configured.bytes()]).unwrap();
    let wrong = [
        DeniedRecord {
            bits: 33,
            ..right.clone()
        },
        DeniedRecord {
            publish: Some("198.51.100.9:21".into()),
            ..right.clone()
        },
        DeniedRecord {
            time: u64::MAX,
            ..right.clone()
        },
        DeniedRecord {
            node: 200,
            ..right.clone()
        },
        DeniedRecord {
            why: Some("\n".into()),
            ..right.clone()
        },
    ];
    let bytes: Vec<_> = wrong.iter().map(DeniedRecord::bytes).collect();
    speaker.tell(&bytes).unwrap();
    eventually("all are refused", || {
        Ok(status("refused") >= wrong.len() as u64)
    })
    .unwrap();
    let networks = || {
        let all = gateway.json(&["deny", "list"]).unwrap();
        let all = all.as_array().unwrap().iter();
        all.map(|it| it["network"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(networks(), ["198.51.100.66/32"]);
    // As many as there are: there is room for commands all the same.
    let all: Vec<_> = (0..20_000_u32)
        .map(|number| {
            let network = DeniedRecord {
                address: std::net::Ipv4Addr::from_bits(0x0100_0000 + number).into(),
                ..right.clone()
            };
            network.bytes()
        })
        .collect();
    for chunk in all.chunks(500) {
        speaker.tell(chunk).unwrap();
    }
    eventually("what has no room is counted", || {
        Ok(status("no_room") >= 20_000 - 16_384)
    })
    .unwrap();
    do_it(&gateway, &["deny", "add", "203.0.113.7"]);
    assert_eq!(networks().len(), 1 + 16_384 + 1);
    do_it(&gateway, &["deny", "remove", "203.0.113.7"]);
}
