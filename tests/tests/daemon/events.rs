//! `ftp-nat events`: who was let in to what port, when, because of which words.

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    gateway::Gateway,
    lab::{Lab, Plan},
    process::Running,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, vsftpd, wait_for};

/// What `events --json` tells.
pub(crate) fn events(gateway: &Gateway<'_>) -> Vec<Value> {
    let answer = gateway.ask(&["events", "--json"]).unwrap();
    let text = answer.expect_success().unwrap().text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The first event of a kind.
#[track_caller]
pub(crate) fn first<'e>(events: &'e [Value], what: &str) -> &'e Value {
    events
        .iter()
        .find(|event| event["event"] == what)
        .unwrap_or_else(|| panic!("no {what} in {events:#?}"))
}

/// That all `fields` of an event have these values.
#[track_caller]
pub(crate) fn assert_tells(event: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&event[name], value, "{name} in {event:#}");
    }
}

#[test]
fn who_was_let_in_is_told_with_the_words_that_opened_the_door() {
    let lab = Lab::with(Plan {
        outside: 2,
        ..Plan::default()
    })
    .unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let client_port = control.local_address().unwrap().port();
    let address = control.announce("EPSV").unwrap();
    // Somebody else tries that port first, and is not let in.
    assert!(control::connect(&lab.outside[1], address).is_err());
    let data = control::connect(lab.client(), address).unwrap();
    let data_port = data.local_addr().unwrap().port();
    assert_eq!(control.fetch_over(&data, SMALL).unwrap(), CONTENT);

    let told = wait_for("the connection's use", || {
        let told = events(&gateway);
        told.iter().any(|it| it["event"] == "used").then_some(told)
    });
    let session = first(&told, "session");
    assert_tells(
        session,
        &serde_json::json!({
            "kind": "control", "peer": "198.51.100.20", "peer_port": client_port,
            "public": "198.51.100.1", "public_port": 21,
            "inside": "10.0.0.5", "inside_port": 21,
        }),
    );
    let number = session["session"].as_str().unwrap();
    let ends = serde_json::json!({
        "kind": "passive", "cause": "229", "session": number, "peer": "198.51.100.20",
        "public": "198.51.100.1", "public_port": address.port(),
        "inside": "10.0.0.5", "inside_port": address.port(),
    });
    let (opened, used) = (first(&told, "opened"), first(&told, "used"));
    assert_tells(opened, &ends);
    assert_eq!(opened["peer_port"], Value::Null, "from whichever port");
    assert_tells(used, &ends);
    assert_eq!(used["peer_port"], data_port);
    let denied = first(&told, "denied");
    assert_tells(
        denied,
        &serde_json::json!({
            "reason": "unannounced", "peer": "198.51.100.21",
            "public": "198.51.100.1", "public_port": address.port(),
        }),
    );
    let numbers: Vec<_> = told
        .iter()
        .map(|it| it["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted() && numbers[0] == 1, "{numbers:?}");
    for event in &told {
        let time = event["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }

    // The client asks the server to come: PORT.
    let fetched = Client::Curl
        .perform(
            lab.client(),
            &server.target_at(PUBLIC),
            Mode::Port,
            Job::Fetch(SMALL),
        )
        .and_then(Session::expect_success)
        .unwrap();
    assert_eq!(fetched.content, CONTENT);
    let told = events(&gateway);
    let by_port = told
        .iter()
        .filter(|it| it["cause"] == "PORT" && it["event"] != "transfer");
    let by_port: Vec<_> = by_port.collect();
    let [opened, used] = by_port[..] else {
        panic!("{by_port:#?}");
    };
    assert_tells(
        opened,
        &serde_json::json!({
            "event": "opened", "kind": "active", "peer": "198.51.100.20",
            "inside": "10.0.0.5", "announced": "198.51.100.20",
        }),
    );
    assert_eq!(opened["public_port"], Value::Null, "not known yet");
    assert_tells(
        used,
        &serde_json::json!({
            "event": "used", "peer_port": opened["peer_port"], "session": opened["session"],
        }),
    );

    let text = gateway.ask(&["events", "--session", number]).unwrap();
    let text = text.expect_success().unwrap().text();
    let port = address.port();
    for sentence in [
        format!("began: 198.51.100.20:{client_port} at 198.51.100.1:21, inside 10.0.0.5:21"),
        format!(
            "opened by 229: 198.51.100.20 may connect to 198.51.100.1:{port}, inside \
             10.0.0.5:{port}"
        ),
        format!(
            "used by 229: 198.51.100.20:{data_port} and 10.0.0.5:{port} are connected by \
             198.51.100.1:{port}"
        ),
    ] {
        let line = format!("session {number}: {sentence}");
        assert!(text.contains(&line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("PORT"), "only one session's:\n{text}");
}

#[test]
fn who_follows_hears_what_was_and_what_comes_until_the_daemon_ends() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let mut gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    wait_for("the session", || {
        (!events(&gateway).is_empty()).then_some(())
    });
    let mut command = gateway.command(&["events", "--follow"]).unwrap();
    let mut following = Running::start(&mut command).unwrap();
    let patience = std::time::Duration::from_secs(10);
    following.wait_for("began", patience).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    following.wait_for("used", patience).unwrap();
    gateway.kill().unwrap();
    following.wait_for("ended", patience).unwrap();
    wait_for("the follower's end", || {
        (!following.is_alive().unwrap()).then_some(())
    });
    let said = following.log();
    assert!(said.contains("the daemon has ended"), "{said}");
}
