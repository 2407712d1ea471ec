//! Clients behind the gateway reach servers outside in active mode, while the kernel masquerades
//! them and the router's firewall lets nothing in.

use std::{net::SocketAddr, time::Duration};

use ftp_nat_tests::{
    client::Mode,
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS},
    server::{FtpServer, Kind, Settings},
    transfers,
};

const RUN: [&str; 6] = [
    "--wan",
    "wan",
    "--masquerade",
    "10.0.0.0/24",
    "--masquerade",
    "fd00:10::/64",
];

/// A lab whose inside is masqueraded.
fn lab(inside: u8) -> Lab {
    let lab = Lab::with(Plan { outside: 2, inside }).unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    lab
}

fn v4(host: &Host) -> SocketAddr {
    host.at(21)
}

#[test]
fn on_the_wan_alone_the_stack_forwards_and_one_rule_lets_it() {
    let lab = lab(1);
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    let (client, outside) = (&lab.inside[0], &lab.outside[0]);
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    let arguments = [&RUN[..], &["--lan", "none"]].concat();
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let modes = [Mode::Port, Mode::Eprt];
    let failures = transfers::all(client, &server, v4(outside), &modes).unwrap();
    assert!(
        failures.is_empty(),
        "{}\nthe gateway said:\n{}\nthe server said:\n{}",
        failures.join("\n\n"),
        gateway.log(),
        server.log()
    );
    let denied = gateway.metric("denied_packets_total", "reason=\"bounce\"");
    assert_eq!(denied.unwrap(), 0);
}

#[test]
fn the_announced_address_becomes_the_public_one_and_only_the_server_may_use_it() {
    let lab = lab(1);
    let server = FtpServer::start(Kind::Vsftpd, &lab.outside[0], &Settings::default()).unwrap();
    server.offer("file.txt", b"to the inside").unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let client = &lab.inside[0];
    let mut control = Control::log_in(client, &server.target_at(v4(&lab.outside[0]))).unwrap();
    let listener = client
        .namespace
        .run(|| Ok(std::net::TcpListener::bind((client.v4, 50_001))?))
        .unwrap();
    let reply = control.command("PORT 10,0,0,5,195,81").unwrap();
    assert!(reply.starts_with("200"), "{reply}");
    assert!(
        server.log().contains("PORT 198,51,100,1,195,81"),
        "{}",
        server.log()
    );
    // Another host outside finds nobody there.
    let public: SocketAddr = (WAN_ADDRESS, 50_001).into();
    let stranger = &lab.outside[1];
    let attempt = stranger.namespace.run(|| {
        Ok(std::net::TcpStream::connect_timeout(
            &public,
            Duration::from_secs(1),
        )?)
    });
    assert!(attempt.is_err());
    control.send("RETR /download/file.txt\r\n").unwrap();
    let (data, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), lab.outside[0].v4);
    assert_eq!(control::read_all(&data).unwrap(), b"to the inside");
    control.expect("150").unwrap();
    control.expect("226").unwrap();
    let flows = gateway.json(&["flows", "--all"]).unwrap();
    let data = flows
        .as_array()
        .unwrap()
        .iter()
        .find(|flow| flow["kind"] == "active")
        .unwrap();
    assert_eq!(data["public"], "198.51.100.1");
    assert_eq!(data["public_port"], 50_001);
    assert_eq!(data["inside"], "10.0.0.5");
    assert_eq!(data["inbound"]["path"], "redirect");
}

#[test]
fn a_client_that_announces_somebody_elses_address_is_denied() {
    let lab = lab(2);
    let server = FtpServer::start(Kind::Vsftpd, &lab.outside[0], &Settings::default()).unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let target = server.target_at(v4(&lab.outside[0]));
    let mut control = Control::log_in(&lab.inside[0], &target).unwrap();
    let attempts = [
        // Another client, another host outside, the router itself.
        "PORT 10,0,0,6,195,80",
        "PORT 198,51,100,21,195,80",
        "PORT 10,0,0,1,195,80",
        "EPRT |1|10.0.0.6|50000|",
        "EPRT |1|198.51.100.21|50000|",
    ];
    for attempt in attempts {
        let reply = control.command(attempt).unwrap();
        assert!(reply.starts_with('5'), "{attempt}: {reply}");
    }
    assert_eq!(
        gateway
            .metric("denied_packets_total", "reason=\"bounce\"")
            .unwrap(),
        attempts.len() as u64
    );
    let reply = control.command("PORT 10,0,0,5,0,80").unwrap();
    assert!(reply.starts_with('5'), "{reply}");
    assert_eq!(
        gateway
            .metric("denied_packets_total", "reason=\"port\"")
            .unwrap(),
        1
    );
    let mappings = gateway.json(&["mappings"]).unwrap();
    assert_eq!(mappings.as_array().map(Vec::len), Some(0), "{mappings}");
    assert!(!server.log().contains("PORT "), "{}", server.log());
}

#[test]
fn two_clients_that_announce_the_same_port_are_kept_apart() {
    let lab = lab(2);
    let server = FtpServer::start(Kind::Vsftpd, &lab.outside[0], &Settings::default()).unwrap();
    server.offer("file.txt", b"for both").unwrap();
    let gateway = Gateway::start(&lab.router, &RUN).unwrap();
    let target = server.target_at(v4(&lab.outside[0]));
    let mut ends = Vec::new();
    for client in &lab.inside {
        let mut control = Control::log_in(client, &target).unwrap();
        let listener = client
            .namespace
            .run(|| Ok(std::net::TcpListener::bind((client.v4, 50_000))?))
            .unwrap();
        let [a, b, c, d] = client.v4.octets();
        let reply = control
            .command(&format!("PORT {a},{b},{c},{d},195,80"))
            .unwrap();
        assert!(reply.starts_with("200"), "{reply}");
        ends.push((control, listener));
    }
    for (control, listener) in &mut ends {
        control.send("RETR /download/file.txt\r\n").unwrap();
        let (data, _) = listener.accept().unwrap();
        assert_eq!(control::read_all(&data).unwrap(), b"for both");
        control.expect("150").unwrap();
        control.expect("226").unwrap();
    }
    assert!(gateway.metric("mappings_remapped_total", "").unwrap() >= 1);
}
