//! Two gateways that share their sessions through a real Redis, moved by a real keepalived.

use std::time::Duration;

use ftp_nat_tests::fleet::{
    Fleet,
    moves::{Files, Move, Rounds, Stage},
};

/// A client fetches files while the addresses move so often; it rests before each for so long.
fn play(how: Move, rest: Duration, count: usize) {
    let fleet = Fleet::new().unwrap();
    let mut stage = Stage::set(&fleet, "").unwrap();
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
