//! The six causes.

use std::{net::Ipv4Addr, time::Duration};

use ftp_nat_tests::{
    behind::behind,
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Lab, Plan, WAN_ADDRESS},
    server::{FtpServer, Kind, Settings},
};

use crate::{PUBLIC, Probed, code, command, run};

/// A vsftpd that announces the router's address, from ports that a rule could know.
fn well_configured(ports: std::ops::RangeInclusive<u16>) -> Settings {
    Settings {
        passive_ports: Some(ports),
        announce: Some(WAN_ADDRESS),
        ..Settings::default()
    }
}

#[test]
fn cause_1_a_nat_that_translates_port_21_only() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    let settings = well_configured(50_000..=50_009);
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    probed.assert_cause(1, "certain");
    assert_eq!(probed.verdict("PASV"), "broken");
    assert_eq!(probed.verdict("EPSV"), "broken");
    let fixes = probed.fixes();
    for part in [
        "\"vsftpd\": \"pasv_min_port",
        "--publish 198.51.100.1:21=SERVER:21",
        "inspect ftp",
        "nf_nat_ftp",
        "pfSense",
    ] {
        assert!(fixes.contains(part), "{part}: {fixes}");
    }
}

#[test]
fn cause_2_a_firewall_that_drops_inbound_high_ports() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    lab.router
        .nft("insert rule inet lab forward tcp dport 50000-50009 drop")
        .unwrap();
    let settings = well_configured(50_000..=50_009);
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(
        lab.client(),
        &["198.51.100.1", "--timeout", "2", "--samples", "1"],
    );
    probed.assert_cause(2, "certain");
    assert!(
        probed.evidence().contains("translates this port"),
        "{}",
        probed.evidence()
    );
    assert!(probed.fixes().contains("tcp dport"), "{}", probed.fixes());
}

#[test]
fn cause_2_a_firewall_that_rejects_inbound_high_ports() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    lab.router
        .nft(
            "insert rule inet lab forward tcp dport 50000-50009 \
             reject with icmpx type admin-prohibited",
        )
        .unwrap();
    let settings = well_configured(50_000..=50_009);
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(
        lab.client(),
        &["198.51.100.1", "--timeout", "2", "--samples", "1"],
    );
    probed.assert_cause(2, "certain");
    let evidence = probed.evidence();
    assert!(
        evidence.contains("administratively prohibited, says 198.51.100.1"),
        "{evidence}"
    );
}

#[test]
fn cause_3_a_server_that_announces_its_inner_address() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    let settings = Settings {
        passive_ports: Some(50_000..=50_009),
        announce: Some(Ipv4Addr::new(10, 0, 0, 5)),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    probed.assert_cause(3, "certain");
    assert_eq!(probed.verdict("PASV"), "broken");
    // It names no address.
    assert_eq!(probed.verdict("EPSV"), "works");
    let sample = &probed.json["seen"]["modes"][0]["passive"][0];
    assert_eq!(sample["relation"], "private");
    assert_eq!(sample["instead"]["reach"], "connected");
    assert!(probed.evidence().contains("announces 10.0.0.5"));
    let fixes = probed.fixes();
    assert!(fixes.contains("pasv_address=198.51.100.1"), "{fixes}");

    // The same, as people read it.
    let outcome = run(command(lab.client(), &["198.51.100.1", "--timeout", "3"]));
    assert_eq!(code(&outcome), Some(1));
    let text = outcome.text();
    assert!(
        text.contains("PASV is broken, EPSV works: cause 3"),
        "{text}"
    );
    assert!(outcome.stderr.contains("cause 3"), "{}", outcome.stderr);
}

#[test]
fn cause_3_a_server_that_announces_nothing() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    // On a socket for both families vsftpd announces 0.0.0.0.
    let settings = Settings {
        passive_ports: Some(50_000..=50_009),
        announce: Some(Ipv4Addr::UNSPECIFIED),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    probed.assert_cause(3, "certain");
    let sample = &probed.json["seen"]["modes"][0]["passive"][0];
    assert_eq!(sample["relation"], "zero");
}

#[test]
fn cause_4_a_range_of_which_only_a_part_is_forwarded() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    // 50000-50009 are; the other half is not. All of 24 ports on one side: once in 8 million.
    let settings = well_configured(50_000..=50_019);
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let words = ["198.51.100.1", "--timeout", "3", "--samples", "12"];
    let probed = Probed::on(lab.client(), &words);
    probed.assert_cause(4, "certain");
    assert!(
        probed.evidence().contains("some announced ports are open"),
        "{}",
        probed.evidence()
    );
    assert!(probed.fixes().contains("forward the very range"));
}

#[test]
fn cause_4_a_range_that_others_have_used_up() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    let settings = well_configured(50_000..=50_000);
    let server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    // Somebody else has the one port, and keeps it.
    let mut other = Control::log_in(&lab.outside[1], &server.target_at(PUBLIC)).unwrap();
    let taken = control::address_in_227(&other.command("PASV").unwrap()).unwrap();
    assert_eq!(taken.port(), 50_000);
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    probed.assert_cause(4, "certain");
    assert!(
        probed.fixes().contains("pasv_max_port"),
        "{}",
        probed.fixes()
    );
    drop(other);
}

/// A client whose own router, at 10.0.0.5, has these rules; the server is outside.
fn behind_a_strict_router(rules: &str) -> Probed {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let own_router = lab.server();
    let client = behind(own_router).unwrap();
    own_router.namespace.nft(rules).unwrap();
    let _server = FtpServer::start(Kind::Vsftpd, lab.client(), &Settings::default()).unwrap();
    let address = lab.client().v4.to_string();
    Probed::on(&client, &[&address, "--timeout", "2", "--samples", "1"])
}

/// The client's router: translates, and lets only well-known ports out.
fn strict(verdict: &str) -> String {
    format!(
        "
table inet own {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"eth0\" masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        tcp dport 1024-65535 ct state new {verdict}
    }}
}}
"
    )
}

#[test]
fn cause_5_a_client_whose_router_drops_outgoing_connections() {
    let probed = behind_a_strict_router(&strict("drop"));
    probed.assert_cause(5, "certain");
    assert_eq!(probed.json["findings"][0]["side"], "client");
    assert!(
        probed.evidence().contains("192.168.77.1"),
        "{}",
        probed.evidence()
    );
    assert!(probed.fixes().contains("another network"));
}

#[test]
fn cause_5_a_client_whose_router_rejects_outgoing_connections() {
    for (verdict, certainty) in [
        ("reject with icmpx type admin-prohibited", "certain"),
        ("reject with tcp reset", "likely"),
    ] {
        let probed = behind_a_strict_router(&strict(verdict));
        probed.assert_cause(5, certainty);
        assert!(
            probed.evidence().contains("192.168.77.1"),
            "{}",
            probed.evidence()
        );
    }
}

#[test]
fn cause_5_a_client_whose_own_firewall_forbids_outgoing_connections() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    let client = &lab.outside[1];
    client
        .namespace
        .nft(
            "table inet own {\nchain output {\ntype filter hook output priority filter\n\
             tcp dport 1024-65535 ct state new reject with icmpx type admin-prohibited\n}\n}\n",
        )
        .unwrap();
    let _server = FtpServer::start(Kind::Vsftpd, lab.client(), &Settings::default()).unwrap();
    let address = lab.client().v4.to_string();
    let probed = Probed::on(client, &[&address, "--timeout", "3"]);
    probed.assert_cause(5, "certain");
    assert!(
        probed.evidence().contains("this machine"),
        "{}",
        probed.evidence()
    );
}

#[test]
fn cause_5_a_client_that_lets_no_active_connection_in() {
    let lab = Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap();
    let client = &lab.outside[1];
    client
        .namespace
        .nft(
            "table inet own {\nchain input {\ntype filter hook input priority filter\npolicy drop\n\
             ct state established accept\n}\n}\n",
        )
        .unwrap();
    let _server = FtpServer::start(Kind::Vsftpd, lab.client(), &Settings::default()).unwrap();
    let address = lab.client().v4.to_string();
    let probed = Probed::on(client, &[&address, "--timeout", "2", "--active"]);
    probed.assert_cause(5, "likely");
    for (mode, verdict) in [
        ("PASV", "works"),
        ("EPSV", "works"),
        ("PORT", "broken"),
        ("EPRT", "broken"),
    ] {
        assert_eq!(probed.verdict(mode), verdict, "{mode}");
    }
}

#[test]
fn cause_6_two_nats_of_which_the_outer_one_is_not_announced() {
    let lab = Lab::new().unwrap();
    let inner_router = lab.server();
    let host = behind(inner_router).unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    let settings = Settings {
        passive_ports: Some(50_000..=50_009),
        announce: Some(host.v4),
        tls: true,
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, &host, &settings).unwrap();
    let run = ["--wan", "eth0", "--publish", "10.0.0.5:21=192.168.77.2:21"];
    let _gateway = Gateway::start(&inner_router.namespace, &run).unwrap();
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    probed.assert_cause(6, "certain");
    assert!(
        probed.evidence().contains("announces 10.0.0.5"),
        "{}",
        probed.evidence()
    );
    let fixes = probed.fixes();
    assert!(
        fixes.contains("advertise = \\\"198.51.100.1\\\""),
        "{fixes}"
    );
}

#[test]
fn cause_6_two_nats_that_translate_and_rewrite_nothing() {
    let lab = Lab::new().unwrap();
    let inner_router = lab.server();
    let host = behind(inner_router).unwrap();
    lab.router.nft(firewall::TRANSLATE_RANGE).unwrap();
    inner_router
        .namespace
        .nft(
            "table inet own {\nchain prerouting {\ntype nat hook prerouting priority dstnat\n\
             iifname eth0 tcp dport { 21, 50000-50009 } dnat ip to 192.168.77.2\n}\n}\n",
        )
        .unwrap();
    let settings = Settings {
        passive_ports: Some(50_000..=50_009),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Proftpd, &host, &settings).unwrap();
    let probed = Probed::on(lab.client(), &["198.51.100.1", "--timeout", "3"]);
    // That the address is wrong is certain; that a second NAT is there, the hops say.
    probed.assert_cause(3, "certain");
    let second = &probed.json["findings"][1];
    assert_eq!(second["cause"], 6, "{second:#}");
    assert_eq!(second["certainty"], "likely");
    let summary = probed.json["summary"].as_str().unwrap();
    assert!(summary.contains("likely cause 6"), "{summary}");
}

/// A client behind a router that masquerades, and a server outside; the probe in all modes.
fn active_behind_a_masquerade(gateway: bool) -> Probed {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let _server = FtpServer::start(Kind::Vsftpd, lab.client(), &Settings::default()).unwrap();
    let run = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let _gateway = gateway.then(|| Gateway::start(&lab.router, &run).unwrap());
    let address = lab.client().v4.to_string();
    let words = [&address, "--active", "--timeout", "3"];
    Probed::on(lab.server(), &words)
}

#[test]
fn cause_1_a_clients_nat_that_does_not_rewrite_port() {
    let probed = active_behind_a_masquerade(false);
    probed.assert_cause(1, "likely");
    assert_eq!(probed.json["findings"][0]["side"], "client");
    for (mode, verdict) in [
        ("PASV", "works"),
        ("EPSV", "works"),
        ("PORT", "broken"),
        ("EPRT", "broken"),
    ] {
        assert_eq!(probed.verdict(mode), verdict, "{mode}");
    }
    let fixes = probed.fixes();
    assert!(fixes.contains("--masquerade NET"), "{fixes}");

    active_behind_a_masquerade(true).assert_works(&["PASV", "EPSV", "PORT", "EPRT"]);
}

#[test]
fn a_probe_ends_in_time_whatever_is_dropped() {
    let lab = Lab::new().unwrap();
    lab.router
        .nft("table inet lab {\nchain input {\ntype filter hook input priority filter\npolicy drop\n}\n}\n")
        .unwrap();
    let outcome = run(command(lab.client(), &["198.51.100.1", "--timeout", "1"]));
    assert_eq!(code(&outcome), Some(1));
    assert!(outcome.stderr.contains("no answer"), "{}", outcome.stderr);
    assert!(outcome.took < Duration::from_secs(13), "{:?}", outcome.took);
}
