//! The ways to an engine: with a user of few rights and TLS, by a unix socket, by a sentinel's word.

use std::{process::Command, time::Duration};

use ftp_nat_tests::{
    fleet::{ENGINE, Fleet, client::eventually},
    gateway::Gateway,
    process,
};

/// The rights that docs/fleet.md gives the gateways' user of the cluster `lab`.
const RIGHTS: &str =
    "on >secret ~ftpnat:{lab}:* resetchannels -@all +xadd +xread +xrevrange +set +role";

/// Both know of each other by the engine.
#[track_caller]
fn are_joined(gateways: &[Gateway<'_>; 2]) {
    for gateway in gateways {
        let joined = eventually("both have caught up", || {
            let status = gateway.json(&["cluster", "status"])?[0].take();
            Ok(status["is_connected"] == true
                && status["is_ready"] == true
                && status["peers"][0]["is_alive"] == true)
        });
        if let Err(error) = joined {
            panic!("{error}\n{}", gateway.log());
        }
    }
}

fn start<'lab>(fleet: &'lab Fleet, engine: &str) -> [Gateway<'lab>; 2] {
    [0, 1].map(|place| fleet.gateway_by(place, place + 1, engine, "").unwrap())
}

/// A user in the engine that may do what gateways do, and nothing else.
fn allow(fleet: &Fleet, user: &str) {
    let rights: Vec<_> = RIGHTS.split_whitespace().collect();
    let words = [&["ACL", "SETUSER", user][..], &rights].concat();
    assert_eq!(fleet.engine(&words).unwrap().trim(), "OK");
}

#[test]
fn the_documented_rights_are_enough_and_no_more_than_needed() {
    let fleet = Fleet::new().unwrap();
    allow(&fleet, "ftpnat");
    fleet
        .engine(&["CONFIG", "SET", "requirepass", "other"])
        .unwrap();
    let gateways = start(&fleet, &format!("redis://ftpnat:secret@{ENGINE}:6379"));
    are_joined(&gateways);
    let guide = include_str!("../../../docs/fleet.md");
    assert!(
        guide.contains(
            &RIGHTS
                .replace("{lab}", "{edge}")
                .replace(">secret", ">PASSWORD")
        )
    );
}

#[test]
fn an_engine_by_tls_is_believed_by_its_authority_only() {
    let fleet = Fleet::new().unwrap();
    let path = |name: &str| fleet.folder().join(name).display().to_string();
    let openssl = |words: String| {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace());
        process::run(&mut command, Duration::from_secs(30))
            .unwrap()
            .expect_success()
            .unwrap();
    };
    for (name, more) in [
        ("authority", String::from("-subj /CN=authority")),
        ("other", String::from("-subj /CN=other")),
        (
            "engine",
            format!(
                "-subj /CN=engine -CA {} -CAkey {} -addext basicConstraints=critical,CA:FALSE -addext \
                 subjectAltName=IP:{ENGINE}",
                path("authority.pem"),
                path("authority.key")
            ),
        ),
    ] {
        openssl(format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -out {} -keyout {} {more}",
            path(&format!("{name}.pem")),
            path(&format!("{name}.key"))
        ));
    }
    let _engine = fleet
        .redis(&[
            "--port",
            "0",
            "--tls-port",
            "6390",
            "--tls-cert-file",
            &path("engine.pem"),
            "--tls-key-file",
            &path("engine.key"),
            "--tls-auth-clients",
            "no",
        ])
        .unwrap();
    let engine = |authority: &str| {
        format!(
            "rediss://{ENGINE}:6390\nca = \"{}\"\n",
            path(&format!("{authority}.pem"))
        )
    };
    let gateways = start(&fleet, &engine("authority"));
    are_joined(&gateways);
    drop(gateways);
    let distrustful = fleet.gateway_by(0, 1, &engine("other"), "").unwrap();
    eventually("it says why", || {
        let status = distrustful.json(&["cluster", "status"])?[0].take();
        Ok(status["engine_error"]
            .as_str()
            .is_some_and(|error| error.contains("certificate")))
    })
    .unwrap();
}

#[test]
fn an_engine_by_a_unix_socket() {
    let fleet = Fleet::new().unwrap();
    let socket = fleet.folder().join("redis.sock").display().to_string();
    let _engine = fleet
        .redis(&["--port", "0", "--unixsocket", &socket])
        .unwrap();
    let gateways = start(&fleet, &format!("unix://{socket}"));
    are_joined(&gateways);
}

#[test]
fn a_sentinel_names_the_engine_and_the_next_one_when_that_dies() {
    let fleet = Fleet::new().unwrap();
    let first = fleet.redis(&["--port", "6401"]).unwrap();
    let replica_of = format!("{ENGINE} 6401");
    let _second = fleet
        .redis(&["--port", "6402", "--replicaof", &replica_of])
        .unwrap();
    let sentinel = fleet.sentinel(26401, 6401).unwrap();
    eventually("the sentinel knows the replica", || {
        Ok(sentinel.log().contains("+slave"))
    })
    .unwrap();
    let gateways = start(&fleet, &format!("sentinel://{ENGINE}:26401/edge"));
    are_joined(&gateways);
    drop(first);
    eventually("the sentinel has made the replica the master", || {
        Ok(sentinel.log().contains("+switch-master"))
    })
    .unwrap();
    are_joined(&gateways);
}
