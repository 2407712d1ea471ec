//! TLS: with real servers, and where it is in the way.

use ftp_nat_tests::{
    gateway::Gateway,
    lab::{Lab, Plan, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{PUBLIC, Probed, code, command, run};

const ALL: [&str; 4] = ["PASV", "EPSV", "PORT", "EPRT"];

/// Two hosts that see each other: the server's, and the client's.
fn lab() -> Lab {
    Lab::with(Plan {
        outside: 2,
        inside: 1,
    })
    .unwrap()
}

/// Probes a server with these settings, in all modes; its password is the lab's.
fn probe(kind: Kind, settings: &Settings, words: &[&str]) -> Probed {
    let lab = lab();
    let server = FtpServer::start(kind, &lab.outside[0], settings).unwrap();
    let target = server.target_at(lab.outside[0].at(settings.port));
    let mut words = words.to_vec();
    let address = target.address.to_string();
    words.extend([&address, "--active", "--user", &target.user]);
    let mut command = command(&lab.outside[1], &words);
    command
        .arg("--json")
        .env("FTP_NAT_PASSWORD", &target.password);
    let outcome = run(command);
    Probed {
        code: code(&outcome),
        json: serde_json::from_slice(&outcome.stdout).unwrap(),
    }
}

#[test]
fn every_server_that_speaks_tls_works_in_all_modes() {
    let settings = Settings {
        tls: true,
        ..Settings::default()
    };
    for kind in Kind::ALL {
        println!("{}", kind.name());
        let probed = probe(kind, &settings, &["--tls", "--insecure"]);
        probed.assert_works(&ALL);
        assert_eq!(probed.json["encryption"], "explicit");
    }
}

#[test]
fn data_connections_resume_the_control_connections_session_where_the_server_insists() {
    let settings = Settings {
        tls: true,
        tls_resumption: true,
        ..Settings::default()
    };
    for kind in Kind::ALL
        .into_iter()
        .filter(|kind| kind.can_insist_on_resumption())
    {
        println!("{}", kind.name());
        probe(kind, &settings, &["--tls", "--insecure"]).assert_works(&ALL);
    }
}

#[test]
fn implicit_tls_works_in_all_modes() {
    let settings = Settings {
        port: 990,
        tls: true,
        implicit_tls: true,
        ..Settings::default()
    };
    // Only where nobody says `--implicit-tls` the server must be waited for.
    let hint = probe(Kind::Vsftpd, &settings, &["--timeout", "3"]);
    assert_eq!(hint.json["verdict"], "not_ftp");
    let summary = hint.json["summary"].as_str().unwrap();
    assert!(summary.contains("--implicit-tls"), "{summary}");
    for kind in Kind::ALL
        .into_iter()
        .filter(|kind| kind.speaks_implicit_tls())
    {
        println!("{}", kind.name());
        let probed = probe(kind, &settings, &["--implicit-tls", "--insecure"]);
        probed.assert_works(&ALL);
        assert_eq!(probed.json["encryption"], "implicit");
    }
}

#[test]
fn certificates_are_checked() {
    let lab = lab();
    let settings = Settings {
        tls: true,
        ..Settings::default()
    };
    let server = FtpServer::start(Kind::Vsftpd, &lab.outside[0], &settings).unwrap();
    let address = lab.outside[0].v4.to_string();
    let trusting = |authority| {
        let mut command = command(&lab.outside[1], &[&address, "--tls"]);
        command.env("SSL_CERT_FILE", authority);
        command.env_remove("SSL_CERT_DIR");
        run(command)
    };
    assert_eq!(code(&trusting(server.authority())), Some(0));
    // Another authority's.
    let other = FtpServer::start(Kind::Vsftpd, &lab.outside[1], &settings).unwrap();
    let outcome = trusting(other.authority());
    assert_eq!(code(&outcome), Some(1));
    for part in ["certificate is not accepted", "--insecure"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    // No authority at all.
    let outcome = trusting("/dev/null".into());
    assert_eq!(code(&outcome), Some(1));
    assert!(
        outcome.stderr.contains("no certificate authorities"),
        "{}",
        outcome.stderr
    );
}

/// With the server's range, it is the announced address that decides.
#[test]
fn the_address_inside_tls_is_judged() {
    let lab = Lab::new().unwrap();
    let scratch = Scratch::new().unwrap();
    let file = scratch
        .write(
            "ftp-nat.toml",
            "[gateway]\nwan = [\"wan\"]\n[[publish]]\npublic = \"198.51.100.1:21\"\n\
             server = \"10.0.0.5:21\"\npassive_ports = \"50000-50009\"\n",
        )
        .unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", file.to_str().unwrap()]).unwrap();
    let address = PUBLIC.to_string();
    let words = [&address, "--tls", "--insecure", "--timeout", "3"];
    let probe = |announce, ports| {
        let settings = Settings {
            tls: true,
            announce: Some(announce),
            passive_ports: Some(ports),
            ..Settings::default()
        };
        let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
        Probed::on(lab.client(), &words)
    };
    let right = probe(WAN_ADDRESS, 50_000..=50_009);
    right.assert_works(&["PASV", "EPSV"]);
    let used = gateway.metric("tls_permits_used_total", "").unwrap();
    // Three listings a mode.
    assert_eq!(used, 6);
    // An inner one, and one that is somebody else's. EPSV has no address.
    for wrong in [lab.server().v4, [203, 0, 113, 77].into()] {
        let probed = probe(wrong, 50_000..=50_009);
        probed.assert_cause(3, "certain");
        assert_eq!(probed.verdict("EPSV"), "works");
        let said = format!("{}{}", probed.json["summary"], probed.evidence());
        assert!(said.contains(&wrong.to_string()), "{said}");
        let fixes = probed.fixes();
        assert!(fixes.contains("pasv_address"), "{fixes}");
    }
    // The right address, and ports that are not in the range.
    let outside = probe(WAN_ADDRESS, 40_000..=40_009);
    assert_eq!(outside.code, Some(1));
    assert!(
        outside.fixes().contains("passive_ports"),
        "{}",
        outside.fixes()
    );
}

#[test]
fn an_encrypted_session_behind_a_gateway_is_explained() {
    let lab = Lab::new().unwrap();
    let settings = Settings {
        tls: true,
        announce: Some(lab.server().v4),
        passive_ports: Some(50_000..=50_009),
        ..Settings::default()
    };
    let _server = FtpServer::start(Kind::Vsftpd, lab.server(), &settings).unwrap();
    let run = ["--wan", "wan", "--publish", "198.51.100.1:21=10.0.0.5:21"];
    let _gateway = Gateway::start(&lab.router, &run).unwrap();
    let address = PUBLIC.to_string();
    // In the clear the gateway does its work.
    Probed::on(lab.client(), &[&address]).assert_works(&["PASV", "EPSV"]);
    let words = [&address, "--tls", "--insecure", "--timeout", "3"];
    let probed = Probed::on(lab.client(), &words);
    // Neither the address nor the port was translated.
    probed.assert_cause(1, "certain");
    let summary = probed.json["summary"].as_str().unwrap();
    assert!(
        summary.contains("cause 1") && summary.contains("cause 3"),
        "{summary}"
    );
    let notes = probed.json["notes"].to_string();
    assert!(notes.contains("no gateway can read"), "{notes}");
    assert!(notes.contains("passive_ports"), "{notes}");
    assert!(
        !probed.fixes().contains("inspect ftp"),
        "{}",
        probed.fixes()
    );
}
