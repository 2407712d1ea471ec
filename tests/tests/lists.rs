//! Who is on the deny list begins no session and loses those that it has; an allow list lets nobody
//! else begin one. With real clients beside the ones that are meant.

use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::Control,
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

const SMALL: &str = "/download/small.txt";
const CONTENT: &[u8] = b"as it was stored\n";

/// Where clients find the server, by either family, and at a second port.
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 21);
const PUBLIC_V6: SocketAddr = SocketAddr::new(IpAddr::V6(WAN_ADDRESS_V6), 21);
const SECOND: SocketAddr = SocketAddr::new(IpAddr::V4(WAN_ADDRESS), 2121);

const RUN: [&str; 8] = [
    "--wan",
    "wan",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
    "--publish",
    "198.51.100.1:2121=10.0.0.5:21",
];

/// The first host outside, which is meant, and the second, which is not.
fn lab() -> Lab {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    let answers = "ct state established,related accept\n";
    let answers = format!("table inet lab {{\nchain forward {{\n{answers}}}\n}}\n");
    lab.router.nft(&answers).unwrap();
    lab
}

fn vsftpd(host: &Host) -> FtpServer {
    let server = FtpServer::start(Kind::Vsftpd, host, &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    server
}

fn start<'lab>(lab: &'lab Lab, scratch: &Scratch, arguments: &[&str]) -> Gateway<'lab> {
    let file = scratch.path().join("state/lists.json");
    let file = ["--lists-file", file.to_str().unwrap()];
    Gateway::start(&lab.router, &[&RUN[..], &file, arguments].concat()).unwrap()
}

#[track_caller]
fn does(gateway: &Gateway, words: &[&str]) -> String {
    let outcome = gateway.ask(words).unwrap();
    outcome.expect_success().unwrap().text()
}

/// Whether a host logs in and fetches, passively both ways.
fn is_served(host: &Host, server: &FtpServer, address: SocketAddr) -> bool {
    let attempt = host.namespace.run(|| {
        Ok(TcpStream::connect_timeout(
            &address,
            Duration::from_millis(700),
        ))
    });
    if attempt.unwrap().is_err() {
        return false;
    }
    let mut control = Control::log_in(host, &server.target_at(address)).unwrap();
    for verb in ["PASV", "EPSV"] {
        if verb == "PASV" && address.is_ipv6() {
            continue;
        }
        assert_eq!(control.fetch(host, verb, SMALL).unwrap(), CONTENT);
    }
    true
}

/// That the other end has reset the connection, or that it never hears anything again.
#[track_caller]
fn assert_ended(mut stream: &TcpStream, is_reset: bool) {
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let error = stream.read(&mut [0; 64]).unwrap_err();
    let wanted = if is_reset {
        ErrorKind::ConnectionReset
    } else {
        ErrorKind::WouldBlock
    };
    assert_eq!(error.kind(), wanted);
}

#[test]
fn a_denied_network_begins_nothing_and_loses_what_it_has() {
    for arguments in [&[][..], &["--lan", "none"]] {
        let lab = lab();
        let server = vsftpd(lab.server());
        let scratch = Scratch::new().unwrap();
        let gateway = start(&lab, &scratch, arguments);
        let [denied, other] = [&lab.outside[0], &lab.outside[1]];
        let mut session = Control::log_in(denied, &server.target_at(PUBLIC)).unwrap();
        let waiting = session.announce("PASV").unwrap();
        let mut others = Control::log_in(other, &server.target_at(PUBLIC)).unwrap();

        let add = ["deny", "add", "198.51.100.20/32", "2001:db8:1::20"];
        let said = does(
            &gateway,
            &[&add[..], &["--why", "guesses passwords"]].concat(),
        );
        assert!(said.contains("; ended sessions: "), "{said}");
        assert_ended(session.stream(), true);
        // What was announced before is gone as well.
        let data = denied.namespace.run(|| {
            Ok(TcpStream::connect_timeout(
                &waiting,
                Duration::from_millis(700),
            ))
        });
        assert!(data.unwrap().is_err());
        for address in [PUBLIC, PUBLIC_V6, SECOND] {
            assert!(!is_served(denied, &server, address), "{address}");
            assert!(is_served(other, &server, address), "{address}");
        }
        assert_eq!(others.fetch(other, "PASV", SMALL).unwrap(), CONTENT);

        let list = gateway.json(&["deny", "list"]).unwrap();
        assert_eq!(list[0]["network"], "198.51.100.20/32");
        assert_eq!(list[0]["why"], "guesses passwords");
        assert!(list[0]["expires_in"].is_null());
        for entry in [&list[0], &list[1]] {
            assert!(entry["hits"].as_u64().unwrap() > 0, "{entry}");
        }
        let refused = gateway.metric("denied_packets_total", "reason=\"banned\"");
        assert!(refused.unwrap() >= 3);
        let events = gateway.ask(&["events", "--reason", "banned"]).unwrap();
        let events = events.expect_success().unwrap().text();
        assert!(events.contains(&denied.v4.to_string()), "{events}");

        let remove = ["deny", "remove", "198.51.100.20/32", "2001:db8:1::20"];
        does(&gateway, &remove);
        for address in [PUBLIC, PUBLIC_V6] {
            assert!(is_served(denied, &server, address), "{address}");
        }
        // A second time there is nothing to do.
        let said = does(&gateway, &remove);
        assert!(said.contains("was not in"), "{said}");
    }
}

#[test]
fn sessions_may_be_ended_silently() {
    let lab = lab();
    let server = vsftpd(lab.server());
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, &[]);
    let mut session = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    does(&gateway, &["deny", "add", "198.51.100.20", "--silently"]);
    session.send("NOOP\r\n").unwrap();
    assert_ended(session.stream(), false);
}

#[test]
fn one_server_may_be_closed_to_those_whom_another_one_serves() {
    let lab = lab();
    let server = vsftpd(lab.server());
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, &[]);
    let client = lab.client();
    let mut session = Control::log_in(client, &server.target_at(PUBLIC)).unwrap();
    let only = ["--publish", "198.51.100.1:2121"];
    does(
        &gateway,
        &[&["deny", "add", "198.51.100.20"], &only[..]].concat(),
    );
    assert!(!is_served(client, &server, SECOND));
    assert!(is_served(client, &server, PUBLIC));
    assert_eq!(session.fetch(client, "PASV", SMALL).unwrap(), CONTENT);
    let unknown = [
        "deny",
        "add",
        "198.51.100.20",
        "--publish",
        "198.51.100.1:22",
    ];
    let said = gateway.ask(&unknown).unwrap();
    assert!(
        said.stderr.contains("there are 198.51.100.1:21"),
        "{}",
        said.stderr
    );
}

#[test]
fn an_allow_list_lets_nobody_else_begin() {
    let lab = lab();
    let server = vsftpd(lab.server());
    let scratch = Scratch::new().unwrap();
    let gateway = start(&lab, &scratch, &[]);
    let [allowed, other] = [&lab.outside[0], &lab.outside[1]];
    let mut others = Control::log_in(other, &server.target_at(PUBLIC)).unwrap();
    does(&gateway, &["allow", "add", "198.51.100.20"]);
    for address in [PUBLIC, SECOND] {
        assert!(is_served(allowed, &server, address));
        assert!(!is_served(other, &server, address));
    }
    // Nobody's IPv6 is in the list.
    assert!(!is_served(allowed, &server, PUBLIC_V6));
    // What was there goes on, data connections included.
    assert_eq!(others.fetch(other, "PASV", SMALL).unwrap(), CONTENT);
    let refused = gateway.metric("denied_packets_total", "reason=\"not_allowed\"");
    assert!(refused.unwrap() >= 3);
    // Who is denied as well stays out.
    does(&gateway, &["deny", "add", "198.51.100.0/24"]);
    assert!(!is_served(allowed, &server, PUBLIC));
    does(&gateway, &["deny", "remove", "198.51.100.0/24"]);
    does(&gateway, &["allow", "remove", "198.51.100.20"]);
    assert!(is_served(other, &server, PUBLIC));
    assert!(is_served(allowed, &server, PUBLIC_V6));
}

#[test]
fn a_ban_ends_by_itself_and_outlives_the_daemon_and_the_machine() {
    let lab = lab();
    let server = vsftpd(lab.server());
    let scratch = Scratch::new().unwrap();
    let mut gateway = start(&lab, &scratch, &[]);
    let [denied, other] = [&lab.outside[0], &lab.outside[1]];
    let add = |gateway: &Gateway, network: &str, time: &str| {
        does(gateway, &["deny", "add", network, "--for", time]);
    };
    add(&gateway, "198.51.100.21", "1h");
    add(&gateway, "198.51.100.20", "15s");
    let until = Instant::now() + Duration::from_secs(15);
    // Within a network that is denied for longer, a shorter ban lets nobody in early.
    gateway.kill().unwrap();
    assert!(!is_served(denied, &server, PUBLIC), "without a daemon");
    gateway.restart().unwrap();
    assert!(!is_served(denied, &server, PUBLIC), "after a restart");
    // What a restart of the machine leaves is the file.
    gateway.stop().unwrap();
    gateway.ask(&["unload"]).unwrap().expect_success().unwrap();
    gateway.restart().unwrap();
    let list = gateway.json(&["deny", "list"]).unwrap();
    let is_over = Instant::now() >= until;
    assert!(is_over || list.as_array().unwrap().len() == 2, "{list}");
    assert!(
        !is_served(other, &server, PUBLIC),
        "after a restart of the machine"
    );
    let is_kept_out = !is_served(denied, &server, PUBLIC);
    assert!(is_kept_out || Instant::now() >= until);
    thread::sleep((until + Duration::from_secs(2)).saturating_duration_since(Instant::now()));
    assert!(is_served(denied, &server, PUBLIC), "its time is over");
    assert!(!is_served(other, &server, PUBLIC));
    let list = gateway.json(&["deny", "list"]).unwrap();
    assert_eq!(list[0]["network"], "198.51.100.21/32");
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn the_configurations_networks_hold_and_change_with_a_reload() {
    let lab = lab();
    let server = vsftpd(lab.server());
    let scratch = Scratch::new().unwrap();
    let config = |deny: &str, allow: &str| {
        let file = scratch.path().join("state/lists.json");
        let text = format!(
            "[gateway]\nwan = [\"wan\"]\ndeny = [{deny}]\nlists_file = \"{}\"\n\
             [[publish]]\npublic = \"198.51.100.1:21\"\nserver = \"10.0.0.5:21\"\nallow = [{allow}]\n",
            file.display()
        );
        let path = scratch.write("ftp-nat.toml", text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let path = config("\"198.51.100.20\"", "");
    let gateway = Gateway::start(&lab.router, &["--config", &path]).unwrap();
    let [one, other] = [&lab.outside[0], &lab.outside[1]];
    assert!(!is_served(one, &server, PUBLIC));
    let others = Control::log_in(other, &server.target_at(PUBLIC)).unwrap();
    let kept = gateway.ask(&["deny", "remove", "198.51.100.20"]).unwrap();
    assert!(
        kept.stderr.contains("in the configuration"),
        "{}",
        kept.stderr
    );

    config("\"198.51.100.21\"", "\"198.51.100.20/31\"");
    does(&gateway, &["reload"]);
    assert!(is_served(one, &server, PUBLIC));
    assert!(!is_served(other, &server, PUBLIC));
    assert_ended(others.stream(), false);

    config("", "\"198.51.100.21\"");
    does(&gateway, &["reload"]);
    assert!(!is_served(one, &server, PUBLIC));
    assert!(is_served(other, &server, PUBLIC));
}

#[test]
fn clients_behind_the_gateway_reach_no_denied_server() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let servers = [&lab.outside[0], &lab.outside[1]].map(vsftpd);
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("lists.json");
    let run = [
        "--wan",
        "wan",
        "--masquerade",
        "10.0.0.0/24",
        "--lists-file",
    ];
    let gateway =
        Gateway::start(&lab.router, &[&run[..], &[file.to_str().unwrap()]].concat()).unwrap();
    let client = lab.server();
    let [first, second] = [lab.outside[0].at(21), lab.outside[1].at(21)];
    let session = Control::log_in(client, &servers[0].target_at(first)).unwrap();
    does(&gateway, &["deny", "add", "198.51.100.20"]);
    // An allow list is about clients of published servers.
    does(&gateway, &["allow", "add", "203.0.113.0/24"]);
    assert_ended(session.stream(), true);
    assert!(!is_served(client, &servers[0], first));
    assert!(is_served(client, &servers[1], second));
}

#[test]
fn without_a_daemon_a_change_is_refused_and_says_why() {
    let lab = lab();
    let scratch = Scratch::new().unwrap();
    let mut gateway = start(&lab, &scratch, &[]);
    gateway.stop().unwrap();
    let outcome = gateway.ask(&["deny", "add", "198.51.100.20"]).unwrap();
    let code = outcome.status.and_then(|status| status.code());
    assert_eq!(code, Some(3), "{}", outcome.stderr);
}

#[test]
fn a_file_that_cannot_be_understood_keeps_the_gateway_from_starting() {
    let lab = lab();
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("lists.json", "{").unwrap();
    let words = [&RUN[..], &["--lists-file", file.to_str().unwrap()]].concat();
    let error = Gateway::start(&lab.router, &words).unwrap_err();
    assert!(format!("{error:#}").contains("lists.json"), "{error:#}");
}
