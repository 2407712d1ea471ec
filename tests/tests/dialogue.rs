//! Conversations of public reports, in which servers or clients say something odd, through the
//! gateway: over the wire, in both roles.

use std::{
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    client::{Client, Job, Mode},
    dialogue::{CONTROL_IDLE, MASQUERADED, PUBLISHED, Scene, Version},
    firewall,
    gateway::Gateway,
    lab::{Lab, WAN_ADDRESS},
    scratch::Scratch,
    scripted::{Script, ScriptedServer},
};

/// How long a client may take to give up: below any wait for a connection.
const PATIENCE: Duration = Duration::from_secs(8);

/// Plays the scenes over both versions of IP, with this configuration.
fn play_all(scenes: &[Scene], rules: &str, entries: &str) {
    let scratch = Scratch::new().unwrap();
    let text =
        format!("[gateway]\nwan = [\"wan\"]\n[timeouts]\ncontrol_idle = {CONTROL_IDLE}\n{entries}");
    let file = scratch.write("ftp-nat.toml", text).unwrap();
    let arguments = ["--config", &*file.to_string_lossy()];
    let fails = |scene: &Scene, over: Version| {
        let lab = Lab::new().unwrap();
        lab.router.nft(rules).unwrap();
        let _gateway = Gateway::start(&lab.router, &arguments).unwrap();
        let error = (scene.play)(&lab, over).err()?;
        Some(format!("{} over {}: {error:#}", scene.name, over.name()))
    };
    let mut failures = Vec::new();
    for scene in scenes {
        // Most of the time each of them waits.
        thread::scope(|scope| {
            let played = scene.versions.iter().map(|over| {
                let over = *over;
                let fails = &fails;
                scope.spawn(move || fails(scene, over))
            });
            let played: Vec<_> = played.collect();
            failures.extend(played.into_iter().filter_map(|it| it.join().unwrap()));
        });
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn odd_conversations_with_a_published_server_end_with_a_transfer() {
    let entries = "[[publish]]\npublic = \"198.51.100.1:21\"\nserver = \"10.0.0.5:21\"\n\
                   [[publish]]\npublic = \"[2001:db8:1::1]:21\"\nserver = \"[fd00:10::5]:21\"\n";
    play_all(PUBLISHED, firewall::DROP_FORWARDED, entries);
}

#[test]
fn odd_conversations_of_a_client_inside_end_with_a_transfer() {
    let entries = "[[masquerade]]\nclients = [\"10.0.0.0/24\", \"fd00:10::/64\"]\n";
    play_all(MASQUERADED, firewall::MASQUERADE, entries);
}

/// What cannot be opened is 425 to the client: it fails at once, or finds another way.
#[test]
fn real_clients_take_425_for_an_answer() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let arguments = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    // A port of the system: nothing may be opened there.
    let script = Script {
        pasv: "227 Entering Passive Mode ({h},0,80).\r\n".into(),
        epsv: "229 Entering Extended Passive Mode (|||80|)\r\n".into(),
        ..Script::default()
    };
    let server = ScriptedServer::start(lab.server(), 21, script).unwrap();
    let target = server.target_at((WAN_ADDRESS, 21).into());
    let mut refused = 0;
    for client in Client::ALL {
        for mode in [Mode::Pasv, Mode::Epsv] {
            if !client.can(target.address, mode, Job::Fetch("/x")) {
                continue;
            }
            let start = Instant::now();
            let asked = server.commands().len();
            let session = client
                .perform(lab.client(), &target, mode, Job::Fetch("/x"))
                .unwrap();
            let took = start.elapsed();
            let commands = server.commands();
            let asked: Vec<_> = commands[asked..]
                .iter()
                .filter_map(|line| line.get(..4))
                .filter(|verb| ["PASV", "EPSV", "PORT", "EPRT"].contains(verb))
                .map(ToOwned::to_owned)
                .collect();
            let status = session.outcome.status.and_then(|status| status.code());
            println!("{client:?}, {mode:?}: {status:?} after {took:.1?}, asked by {asked:?}");
            let now = gateway
                .metric("rewritten_total", "text=\"refusal\"")
                .unwrap();
            assert!(now > refused, "{client:?}, {mode:?}: nothing was refused");
            refused = now;
            let goes_active = asked.iter().any(|verb| verb == "PORT" || verb == "EPRT");
            assert_eq!(
                session.outcome.success(),
                goes_active,
                "{:?}",
                session.outcome
            );
            assert!(took < PATIENCE, "{client:?}, {mode:?}: {took:?}");
        }
    }
}
