//! Conversations of public reports, in which servers or clients say something odd, through the
//! gateway: over the wire, in both roles.

use ftp_nat_tests::{
    dialogue::{MASQUERADED, PUBLISHED, Scene},
    firewall,
    gateway::Gateway,
    lab::Lab,
};

fn play_all(scenes: &[Scene], rules: &str, arguments: &[&str]) {
    let mut failures = Vec::new();
    for scene in scenes {
        let lab = Lab::new().unwrap();
        lab.router.nft(rules).unwrap();
        let _gateway = Gateway::start(&lab.router, arguments).unwrap();
        if let Err(error) = (scene.play)(&lab) {
            failures.push(format!("{}: {error:#}", scene.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn odd_conversations_with_a_published_server_end_with_a_transfer() {
    let arguments = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    play_all(PUBLISHED, firewall::DROP_FORWARDED, &arguments);
}

#[test]
fn odd_conversations_of_a_client_inside_end_with_a_transfer() {
    let arguments = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    play_all(MASQUERADED, firewall::MASQUERADE, &arguments);
}
