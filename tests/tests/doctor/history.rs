//! What only shows once clients have come.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, TlsSession},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Lab, Plan, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use serde_json::json;

use crate::{PUBLIC, RUN, config, examine, vsftpd};

/// A client's own firewall that lets out to port 21 and nowhere else.
const NO_HIGH_PORTS: &str = "
table inet lab {
    chain output {
        type filter hook output priority filter; policy accept;
        tcp dport >= 1024 reject with tcp reset
    }
}
";

/// More than the mappings of these tests live.
const TOO_LATE: Duration = Duration::from_millis(1500);

#[test]
fn announced_connections_that_never_come_are_the_clients_side() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    let server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "", "[timeouts]\nmapping = 1");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    lab.client().namespace.nft(NO_HIGH_PORTS).unwrap();
    let mut client = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    for _ in 0..4 {
        let address = client.announce("PASV").unwrap();
        assert!(control::connect(lab.client(), address).is_err());
    }
    thread::sleep(TOO_LATE);
    let examined = examine(&gateway, &arguments);
    let said = examined.expect("announced-never-came", "warning", 5);
    assert!(said.contains("4 of 4"), "{said}");
    examined.expect_only(&["announced-never-came"]);

    // And another client's data connections come from another address than its session.
    let mut other = Control::log_in(&lab.outside[1], &server.target_at(PUBLIC)).unwrap();
    lab.client().namespace.nft("delete table inet lab").unwrap();
    for _ in 0..4 {
        let address = other.announce("PASV").unwrap();
        assert!(control::connect(lab.client(), address).is_err());
    }
    thread::sleep(TOO_LATE);
    examine(&gateway, &arguments).expect("came-from-elsewhere", "warning", 6);
}

/// A server's own firewall that lets nothing out but answers.
const NO_DIALLING: &str = "
table inet lab {
    chain output {
        type filter hook output priority filter; policy accept;
        ct direction original tcp dport >= 1024 drop
    }
}
";

#[test]
fn a_server_that_never_dials_what_clients_announce_is_the_servers_side() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "", "[timeouts]\nmapping = 1");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    lab.server().namespace.nft(NO_DIALLING).unwrap();
    let mut client = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    for port in 1..=4 {
        let [a, b, c, d] = lab.client().v4.octets();
        let reply = client.command(&format!("PORT {a},{b},{c},{d},200,{port}"));
        assert!(reply.unwrap().starts_with("200"));
    }
    thread::sleep(TOO_LATE);
    let examined = examine(&gateway, &arguments);
    let said = examined.expect("server-never-dialled", "warning", 2);
    assert!(said.contains("4 of 4"), "{said}");
    examined.expect_only(&["server-never-dialled"]);
}

/// PORT inside TLS, with a real server and a real client: nobody can read it, and the server dials.
#[test]
fn a_server_that_dials_uninvited_is_noted() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::DROP_FORWARDED).unwrap();
    let settings = Settings {
        tls: true,
        passive_ports: Some(50_000..=50_099),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    };
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    server.offer("small.txt", b"small").unwrap();
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "passive_ports = \"50000-50099\"", "");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let fetch = Job::Fetch("/download/small.txt");
    let target = server.target_at(PUBLIC);
    let [patience, limit] = [2, 6].map(Duration::from_secs);
    let session = Client::Curl
        .perform_within(patience, limit, lab.client(), &target, Mode::Port, fetch)
        .unwrap();
    assert!(!session.outcome.success());
    let labels = "reason=\"uninvited\"";
    assert!(gateway.metric("denied_packets_total", labels).unwrap() > 0);
    let events = gateway
        .ask(&["events", "--json", "--reason", "uninvited"])
        .unwrap()
        .text();
    assert!(events.contains("\"inside\":\"10.0.0.5\""), "{events}");
    assert!(events.contains("\"peer\":\"198.51.100.20\""), "{events}");
    examine(&gateway, &arguments).expect("server-dials-uninvited", "note", 2);
}

#[test]
fn ports_outside_the_servers_range_are_found() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    let scratch = Scratch::new().unwrap();
    // vsftpd was given another range, namely none.
    let file = config(&scratch, "passive_ports = \"1024-1100\"", "");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut client = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    for _ in 0..3 {
        assert!(client.command("PASV").unwrap().starts_with("425"));
    }
    let said = examine(&gateway, &arguments).expect("port-out-of-range", "warning", 4);
    assert!(said.contains("3 times"), "{said}");
}

#[test]
fn the_range_that_a_server_uses_is_learned_and_proposed() {
    for (passive_ports, proposes) in [(Some(50_000..=50_099), true), (None, false)] {
        let lab = Lab::new().unwrap();
        let settings = Settings {
            passive_ports,
            ..Settings::default()
        };
        let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
        let gateway = Gateway::start(&lab.router, &RUN).unwrap();
        let mut client = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        let mut announce = |times: u32| -> Vec<u16> {
            let ports = (0..times).map(|_| {
                let address = client.announce("PASV").unwrap();
                control::connect(lab.client(), address).unwrap();
                address.port()
            });
            ports.collect()
        };
        let mut ports = announce(10);
        examine(&gateway, &RUN).expect_health();
        ports.extend(announce(30));
        let (first, last) = (ports.iter().min().unwrap(), ports.iter().max().unwrap());

        let status = gateway.json(&["status"]).unwrap();
        let announced = &status["gateways"][0]["announced"];
        let wanted = json!([{"server": "10.0.0.5", "first": first, "last": last, "times": 40}]);
        assert_eq!(*announced, wanted, "{status:#}");
        let said = examine(&gateway, &RUN).expect("passive-ports-seen", "note", 4);
        let proposal = format!("passive_ports = \"{first}-{last}\"");
        assert_eq!(said.contains(&proposal), proposes, "{said}");
        assert_eq!(said.contains("no range of its own"), !proposes, "{said}");

        // Where a range is set, nothing is proposed.
        let scratch = Scratch::new().unwrap();
        let file = config(&scratch, "passive_ports = \"50000-50099\"", "");
        let examined = examine(&gateway, &["--config", &*file]);
        assert!(examined.named("passive-ports-seen").is_none());
    }
}

#[test]
fn what_is_no_fault_is_noted() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut client = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    // Somebody else's address.
    client.command("PORT 198,51,100,77,200,1").unwrap();
    let examined = examine(&gateway, &RUN);
    examined.expect("bounce-denied", "note", 0);
    examined.expect_only(&["bounce-denied"]);
}

#[test]
fn sessions_by_tls_without_a_range_are_found() {
    let lab = Lab::new().unwrap();
    let settings = Settings {
        tls: true,
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let mut encrypted = Control::connect(lab.client(), PUBLIC).unwrap();
    assert!(encrypted.command("AUTH TLS").unwrap().starts_with("234"));
    let examined = examine(&gateway, &RUN);
    let said = examined.expect("tls-without-passive-ports", "warning", 4);
    assert!(said.contains("1 sessions went over to TLS"), "{said}");
    examined.expect_only(&["tls-without-passive-ports"]);
}

#[test]
fn a_range_that_is_not_the_servers_is_found_by_clients_with_tls() {
    let lab = Lab::new().unwrap();
    let settings = Settings {
        tls: true,
        passive_ports: Some(40_000..=40_099),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    };
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let scratch = Scratch::new().unwrap();
    let file = config(&scratch, "passive_ports = \"50000-50099\"", "");
    let arguments = ["--config", &*file];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let mut session = TlsSession::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let port = session.passive_port().unwrap();
    let address = SocketAddr::new(WAN_ADDRESS.into(), port);
    let attempt = lab
        .client()
        .namespace
        .run(|| Ok(TcpStream::connect(address)));
    assert!(attempt.unwrap().is_err());
    let said = examine(&gateway, &arguments).expect("tls-outside-passive-ports", "warning", 4);
    assert!(said.contains("1 times"), "{said}");
}

#[test]
fn a_table_without_room_is_found() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    let arguments = [&RUN[..], &["--max-sessions", "4"]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let _sessions = [(); 4].map(|()| Control::log_in(lab.client(), &server.target_at(PUBLIC)));
    let said = examine(&gateway, &arguments).expect("table-nearly-full", "warning", 0);
    assert!(said.contains("sessions is 100 % full"), "{said}");
    assert!(said.contains("most are of 198.51.100.20 (4)"), "{said}");
    // Its segments are dropped until a session ends: nothing greets it.
    assert!(Control::connect(lab.client(), PUBLIC).is_err());
    examine(&gateway, &arguments).expect("table-was-full", "warning", 0);
}
