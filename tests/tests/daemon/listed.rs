//! What the commands list: by whom, of which kind and state, since when, and how many.

use std::net::TcpStream;

use ftp_nat_tests::{
    control::Control,
    gateway::Gateway,
    lab::{Lab, Plan},
    server::FtpServer,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, vsftpd, wait_for};

fn two_clients() -> Lab {
    Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap()
}

/// A session of the first client with a data connection that is open, and one of the second client
/// with an announcement that waits.
struct Scene {
    first: Control,
    _data: TcpStream,
    _second: Control,
}

fn scene(lab: &Lab, server: &FtpServer) -> Scene {
    let mut first = Control::log_in(&lab.outside[0], &server.target_at(PUBLIC)).unwrap();
    let announced = first.announce("PASV").unwrap();
    let data = ftp_nat_tests::control::connect(&lab.outside[0], announced).unwrap();
    let mut second = Control::log_in(&lab.outside[1], &server.target_at(PUBLIC)).unwrap();
    second.announce("EPSV").unwrap();
    Scene {
        first,
        _data: data,
        _second: second,
    }
}

fn listed(gateway: &Gateway<'_>, words: &[&str]) -> usize {
    gateway.json(words).unwrap().as_array().unwrap().len()
}

/// What is listed and what is counted; both are asked for one after the other, so nothing may be
/// changing meanwhile.
fn count(gateway: &Gateway<'_>, words: &[&str]) -> usize {
    let counted = gateway.ask(&[words, &["--count"]].concat()).unwrap();
    let counted = counted.expect_success().unwrap().text();
    let listed = listed(gateway, words);
    assert_eq!(counted, format!("{listed}\n"), "{words:?}");
    listed
}

#[test]
fn each_filter_leaves_what_fits() {
    let lab = two_clients();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut scene = scene(&lab, &server);
    let [one, other] = [0, 1].map(|at| lab.outside[at].v4.to_string());
    let sessions = gateway.json(&["sessions", "--peer", &one]).unwrap();
    let number = sessions[0]["session"].as_str().unwrap().to_owned();
    let cases: &[(&[&str], usize)] = &[
        (&["sessions"], 2),
        (&["sessions", "--peer", &one], 1),
        (&["sessions", "--peer", &one, "--peer", &other], 2),
        (&["sessions", "--peer", "198.51.100.0/24"], 2),
        (&["sessions", "--peer", "2001:db8::/32"], 0),
        (&["sessions", "--server", "10.0.0.5"], 2),
        // A client's address is no server's.
        (&["sessions", "--server", &one], 0),
        (&["sessions", "--state", "established"], 2),
        (&["sessions", "--state", "closed", "--state", "reset"], 0),
        (&["sessions", "--since", "1h"], 2),
        (&["sessions", "--since", "2100-01-01T00:00:00Z"], 0),
        (&["flows"], 3),
        (&["flows", "--kind", "passive"], 1),
        (&["flows", "--kind", "control", "--kind", "passive"], 3),
        (&["flows", "--kind", "control", "--peer", &other], 1),
        (&["flows", "--session", &number], 2),
        (
            &["flows", "--server", "10.0.0.0/8", "--state", "established"],
            3,
        ),
        (&["flows", "--server", &other], 0),
        (&["flows", "--since", "0s"], 0),
        (&["mappings"], 1),
        (&["mappings", "--peer", &other], 1),
        (&["mappings", "--peer", &one], 0),
        (&["mappings", "--kind", "active"], 0),
        (&["mappings", "--session", &number], 0),
        (&["mappings", "--server", "10.0.0.5", "--since", "5m"], 1),
    ];
    for (words, fitting) in cases {
        assert_eq!(count(&gateway, words), *fitting, "{words:?}");
    }

    // What has ended is known for a while, and shown to who asks.
    scene.first.send("QUIT\r\n").unwrap();
    drop(scene.first);
    wait_for("the end of the first", || {
        (listed(&gateway, &["sessions"]) == 1).then_some(())
    });
    assert_eq!(count(&gateway, &["sessions", "--all"]), 2);
    assert_eq!(
        count(&gateway, &["sessions", "--closed", "--peer", &one]),
        1
    );
    assert_eq!(count(&gateway, &["flows", "--kind", "control"]), 1);
    assert_eq!(count(&gateway, &["flows", "--kind", "control", "--all"]), 2);
}

#[test]
fn events_are_chosen_by_what_whom_and_why() {
    let lab = two_clients();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    for host in &lab.outside {
        let mut control = Control::log_in(host, &server.target_at(PUBLIC)).unwrap();
        assert_eq!(control.fetch(host, "PASV", SMALL).unwrap(), CONTENT);
        // Somebody else's address: denied.
        control.command("PORT 203,0,113,9,200,1").unwrap();
    }
    let one = lab.outside[0].v4.to_string();
    let told = |words: &[&str]| -> Vec<Value> {
        let text = gateway
            .ask(&[&["events", "--json"], words].concat())
            .unwrap();
        let text = text.expect_success().unwrap().text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let all = wait_for("both denials", || {
        let all = told(&[]);
        let denied = all.iter().filter(|it| it["event"] == "denied").count();
        (denied == 2).then_some(all)
    });
    for (words, fits) in [
        (
            &["--event", "used"][..],
            &(|it: &Value| it["event"] == "used") as &dyn Fn(&Value) -> bool,
        ),
        (&["--reason", "bounce"], &|it| it["reason"] == "bounce"),
        (&["--peer", &one], &|it| it["peer"] == one.as_str()),
        (&["--kind", "passive", "--peer", &one], &|it| {
            it["kind"] == "passive" && it["peer"] == one.as_str()
        }),
        (&["--server", "10.0.0.5", "--event", "session"], &|it| {
            it["event"] == "session"
        }),
        (&["--since", "1h"], &|_| true),
        (&["--since", "2100-01-01T00:00:00Z"], &|_| false),
    ] {
        let expected: Vec<_> = all.iter().filter(|it| fits(it)).cloned().collect();
        assert_eq!(told(words), expected, "{words:?}");
        let counted = gateway
            .ask(&[&["events", "--count"], words].concat())
            .unwrap();
        assert_eq!(counted.text(), format!("{}\n", expected.len()), "{words:?}");
    }
    assert!(!told(&["--event", "used"]).is_empty());
}

#[test]
fn a_filter_that_nothing_can_fit_is_refused() {
    let lab = Lab::new().unwrap();
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    for (words, told) in [
        (
            &["sessions", "--peer", "client"][..],
            "\"client\" is not an IP address",
        ),
        (&["flows", "--server", "10.0.0.0/40"], "0 to 32"),
        (
            &["flows", "--kind", "data"],
            "possible values: control, passive, active",
        ),
        (&["sessions", "--state", "open"], "half_closed"),
        (
            &["mappings", "--since", "tomorrow"],
            "neither a time span (90s, 15m, 2h, 1d) nor",
        ),
        (&["events", "--follow", "--count"], "cannot be used with"),
    ] {
        let outcome = gateway.ask(words).unwrap();
        assert_eq!(outcome.status.unwrap().code(), Some(2), "{words:?}");
        assert!(
            outcome.stderr.contains(told),
            "{words:?}: {}",
            outcome.stderr
        );
    }
}
