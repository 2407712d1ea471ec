//! Two gateways that share their sessions through a real Redis, moved by a real keepalived.

mod decisions;
mod engine_trouble;
mod engines;
mod forged;
mod others;
mod outages;

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use ftp_nat_tests::fleet::{
    Fleet,
    client::{Files, eventually, serve},
    moves::{Move, Rounds, Stage},
};

/// A client fetches files while the addresses move so often; it rests before each for so long.
fn play(how: Move, rest: Duration, count: usize) {
    play_with(false, how, rest, count);
}

/// The same, perhaps by TLS.
fn play_with(tls: bool, how: Move, rest: Duration, count: usize) {
    let fleet = Fleet::new().unwrap();
    let server = serve(&fleet, tls).unwrap();
    let mut stage = Stage::set_with(&fleet, server, "").unwrap();
    let files = Files {
        length: 20_000,
        rest,
    };
    let fetching = stage.fetch(&files).unwrap();
    let rounds = (0..count).map(|_| stage.play(how, &fetching).unwrap());
    let rounds = Rounds(rounds.collect());
    assert_eq!(rounds.broken(), 0, "{rounds}\n{:?}", rounds.0);
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
    for (place, gateway) in stage.gateways.iter().enumerate() {
        let status = &gateway.json(&["cluster", "status"]).unwrap()[0];
        assert_eq!(status["peers"][0]["has_same_config"], true, "{status}");
        assert_eq!(status["refused"], 0, "gateway {place}: {status}");
    }
}

#[test]
fn a_resting_session_goes_on_when_the_addresses_are_moved() {
    play(Move::Stopped, Duration::from_secs(1), 2);
}

#[test]
fn a_resting_session_goes_on_when_the_master_is_cut_off() {
    play(Move::Cut, Duration::from_secs(1), 2);
}

/// What has ended takes no room from its client, at neither gateway.
#[test]
fn a_client_that_fetches_thousands_of_files_does_not_meet_its_bound() {
    let fleet = Fleet::new().unwrap();
    let server = serve(&fleet, false).unwrap();
    let mut stage = Stage::set_with(&fleet, server, "client_connections = 3200\n").unwrap();
    let files = Files {
        length: 100,
        rest: Duration::ZERO,
    };
    let fetching = stage.fetch(&files).unwrap();
    for _ in 0..2 {
        let before = fetching.files();
        // Some hundred a second, each known for ten seconds.
        let start = Instant::now();
        while fetching.files() < before + 4000 {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{}",
                fetching.files()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let round = stage.play(Move::Stopped, &fetching).unwrap();
        assert_eq!(round.failures, [""; 0], "{}", round.evidence);
        for gateway in &stage.gateways {
            let refused = gateway.metric("denied_packets_total", "reason=\"client_connections\"");
            assert_eq!(refused.unwrap(), 0, "{}", round.evidence);
        }
    }
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

#[test]
fn a_session_of_a_network_that_is_denied_here_is_not_taken_from_the_other_gateway() {
    let fleet = Fleet::new().unwrap();
    let stage = Stage::set(&fleet, "").unwrap();
    let place = 1 - fleet.master().unwrap();
    let standby = &stage.gateways[place];
    let told = |of: &str| standby.json(&["cluster", "status"]).unwrap()[0][of].clone();
    let files = Files {
        length: 20_000,
        rest: Duration::from_secs(1),
    };
    for (is_denied, sessions) in [(true, "0"), (false, "1")] {
        // By its configuration: what is denied by command is denied at both.
        let deny = "deny = [\"198.51.100.0/24\"]\n";
        let more = if is_denied { deny } else { "" };
        stage.reconfigure(place, more).unwrap();
        let refused = told("refused").as_u64().unwrap();
        let fetching = stage.fetch(&files).unwrap();
        let start = Instant::now();
        loop {
            let count = standby.ask(&["sessions", "--count"]).unwrap();
            let is_refused = told("refused").as_u64().unwrap() > refused;
            if count.text().trim() == sessions && is_refused == is_denied {
                break;
            }
            let status = standby.json(&["cluster", "status"]).unwrap();
            assert!(start.elapsed() < Duration::from_secs(20), "{status:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(fetching.stop().unwrap(), [""; 0]);
    }
}

/// The session began at the other gateway.
#[test]
fn a_server_that_dials_uninvited_is_told_after_a_move() {
    let fleet = Fleet::new().unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
    let files = Files {
        length: 20_000,
        rest: Duration::from_secs(1),
    };
    let fetching = stage.fetch(&files).unwrap();
    let round = stage.play(Move::Stopped, &fetching).unwrap();
    assert_eq!(round.failures, [""; 0], "{}", round.evidence);
    let new = &stage.gateways[fleet.master().unwrap()];
    let is_told = || new.metric("denied_packets_total", "reason=\"uninvited\"");
    let client = fleet.client.at(50_000);
    eventually("it is told", || {
        let dial = || Ok(TcpStream::connect_timeout(&client, Duration::from_millis(200)).is_ok());
        assert!(!fleet.server.namespace.run(dial)?, "nobody listens");
        Ok(is_told()? > 0)
    })
    .unwrap();
    assert_eq!(fetching.stop().unwrap(), [""; 0]);
}

#[test]
fn files_fetched_without_pause_go_on_when_the_addresses_are_moved() {
    play(Move::Stopped, Duration::ZERO, 3);
}

#[test]
fn files_fetched_without_pause_go_on_when_the_master_is_cut_off() {
    play(Move::Cut, Duration::ZERO, 3);
}

#[test]
fn files_fetched_without_pause_go_on_when_the_daemon_is_started_anew() {
    play(Move::Restarted, Duration::ZERO, 2);
}

#[test]
fn files_fetched_without_pause_go_on_when_the_daemon_is_upgraded() {
    play(Move::Upgraded, Duration::ZERO, 2);
}

#[test]
fn files_fetched_by_tls_go_on_when_the_addresses_are_moved() {
    play_with(true, Move::Stopped, Duration::from_millis(200), 2);
}

#[test]
fn files_fetched_by_tls_go_on_when_the_master_is_cut_off() {
    play_with(true, Move::Cut, Duration::from_millis(200), 2);
}
