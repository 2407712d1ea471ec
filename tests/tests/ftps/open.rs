//! What works.

use std::net::SocketAddr;

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session, Target, TlsVersion},
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, WAN_ADDRESS, WAN_ADDRESS_V6},
    link::like_hardware,
    namespace::Namespace,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, by_tls, lab, published, start};

/// Lists, fetches and stores.
fn transfers(client: Client, host: &Host, server: &FtpServer, target: &Target, mode: Mode) {
    let what = format!("{client:?} {mode:?} {:?}", target.tls_version);
    let run = |job| {
        let session = client.perform(host, target, mode, job);
        let session = session.and_then(Session::expect_success);
        session.unwrap_or_else(|error| panic!("{what}: {error:#}\n{}", server.log()))
    };
    let listing = run(Job::List("/download"));
    let listing = String::from_utf8_lossy(&listing.content).into_owned();
    assert!(listing.contains("small.txt"), "{what}: {listing}");
    let fetched = run(Job::Fetch("/download/small.txt"));
    assert_eq!(fetched.content, CONTENT, "{what}");
    let scratch = Scratch::new().unwrap();
    let file = scratch.write("file", CONTENT).unwrap();
    let name = format!("{client:?}-{mode:?}-{:?}", target.tls_version);
    run(Job::Store(&file, &format!("/upload/{name}")));
    assert_eq!(server.stored(&name).unwrap(), CONTENT, "{what}");
}

/// Three transfers of each client, by each version and mode.
fn every_client_of(kind: Kind, settings: &Settings) {
    let lab = lab(1, 1);
    let server = start(kind, lab.server(), settings);
    let scratch = Scratch::new().unwrap();
    let public = (settings.port, lab.server().v4, settings.port);
    let config = published(&scratch, "", &[public], "");
    let gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
    let mut transferred = 0;
    for tls_version in [TlsVersion::V12, TlsVersion::V13] {
        for client in [Client::Curl, Client::Lftp, Client::Ftplib] {
            // Python's library resumes no session on the data connection, and knows no implicit TLS.
            let cannot =
                client == Client::Ftplib && (settings.implicit_tls || settings.tls_resumption);
            if cannot || !kind.speaks_tls_with(client) {
                continue;
            }
            for mode in [Mode::Pasv, Mode::Epsv] {
                let target = Target {
                    tls_version,
                    ..server.target_at(SocketAddr::new(WAN_ADDRESS.into(), settings.port))
                };
                transfers(client, lab.client(), &server, &target, mode);
                transferred += 3;
            }
        }
    }
    let used = gateway.metric("tls_permits_used_total", "").unwrap();
    assert!(transferred >= 12);
    assert_eq!(used, transferred, "{}", gateway.log());
    assert_eq!(
        gateway
            .metric("mappings_opened_total", "kind=\"passive\"")
            .unwrap(),
        0
    );
    for reason in [
        "no_tls_session",
        "nothing_said",
        "outside_range",
        "unannounced",
    ] {
        let labels = format!("reason=\"{reason}\"");
        let denied = gateway.metric("denied_packets_total", &labels).unwrap();
        assert_eq!(denied, 0, "{reason}");
    }
}

#[test]
fn every_client_of_vsftpd() {
    every_client_of(Kind::Vsftpd, &by_tls());
}

#[test]
fn every_client_of_proftpd() {
    every_client_of(Kind::Proftpd, &by_tls());
}

#[test]
fn every_client_of_pure_ftpd() {
    every_client_of(Kind::PureFtpd, &by_tls());
}

#[test]
fn every_client_of_pyftpdlib() {
    every_client_of(Kind::Pyftpdlib, &by_tls());
}

#[test]
fn servers_that_want_resumed_sessions() {
    let insisting = Kind::ALL
        .into_iter()
        .filter(|it| it.can_insist_on_resumption());
    for kind in insisting {
        let settings = Settings {
            tls_resumption: true,
            ..by_tls()
        };
        every_client_of(kind, &settings);
    }
}

#[test]
fn implicit_tls() {
    for kind in Kind::ALL.into_iter().filter(|it| it.speaks_implicit_tls()) {
        let settings = Settings {
            implicit_tls: true,
            port: 990,
            ..by_tls()
        };
        every_client_of(kind, &settings);
    }
}

#[test]
fn packets_go_whichever_way() {
    for datapath in ["stack", "xdp"] {
        let lab = lab(1, 1);
        if datapath == "stack" {
            let marked = ftp_nat_tests::firewall::ACCEPT_MARKED;
            lab.router.nft(marked).unwrap();
            lab.router
                .nft("add rule inet lab forward ct state established,related accept")
                .unwrap();
        }
        for host in [lab.client(), lab.server()] {
            like_hardware(&host.namespace, HOST_INTERFACE).unwrap();
        }
        let server = start(Kind::Vsftpd, lab.server(), &by_tls());
        server.offer("large.bin", vec![0x5a; 8 << 20]).unwrap();
        let scratch = Scratch::new().unwrap();
        let key = format!("datapath = \"{datapath}\"\n");
        let config = published(&scratch, &key, &[(21, lab.server().v4, 21)], "");
        let gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
        let target = server.target_at(PUBLIC);
        let job = Job::Fetch("/download/large.bin");
        let session = Client::Curl.perform(lab.client(), &target, Mode::Pasv, job);
        let session = session.unwrap().expect_success().unwrap();
        assert!(session.content == vec![0x5a; 8 << 20]);
        let path = format!("path=\"{datapath}\"");
        let packets = gateway.metric("outbound_packets_total", &path).unwrap();
        assert!(packets > 100, "{packets} by {datapath}");
    }
}

/// Two servers behind one address, with the same range.
#[test]
fn a_client_reaches_the_server_that_it_has_a_session_with() {
    let lab = lab(1, 2);
    let scratch = Scratch::new().unwrap();
    let [first, second] = [0, 1].map(|number| {
        let server = start(Kind::Vsftpd, &lab.inside[number], &by_tls());
        server.offer("whose.txt", [b'0' + number as u8]).unwrap();
        server
    });
    let servers = [(21, lab.inside[0].v4, 21), (2121, lab.inside[1].v4, 21)];
    let config = published(&scratch, "", &servers, "");
    let _gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
    for _ in 0..3 {
        for (number, (server, port)) in [(&first, 21), (&second, 2121)].into_iter().enumerate() {
            let target = server.target_at(SocketAddr::new(WAN_ADDRESS.into(), port));
            let job = Job::Fetch("/download/whose.txt");
            let session = Client::Curl.perform(lab.client(), &target, Mode::Epsv, job);
            let session = session.unwrap().expect_success().unwrap();
            assert_eq!(session.content, [b'0' + number as u8]);
        }
    }
}

/// A neighbour of the server's, which the server must not see as it is, a container behind a bridge of the
/// gateway's and the gateway itself dial the public address: the range is open to them while they have a
/// session, too.
#[test]
fn clients_behind_the_gateway_reach_the_range_of_a_public_address() {
    let lab = lab(1, 2);
    let container = lab
        .attach_host(
            "veth0",
            ["172.17.0.1", "172.17.0.2"].map(|it| it.parse().unwrap()),
            ["fd00:17::1", "fd00:17::2"].map(|it| it.parse().unwrap()),
        )
        .unwrap();
    lab.router
        .ip(
            "link add docker0 type bridge\nlink set docker0 up\nlink set veth0 master docker0\n\
             addr del 172.17.0.1/24 dev veth0\naddr add 172.17.0.1/24 dev docker0",
        )
        .unwrap();
    let itself = Host {
        namespace: Namespace::existing(lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    };
    let server = start(Kind::Vsftpd, lab.server(), &by_tls());
    let scratch = Scratch::new().unwrap();
    let config = published(&scratch, "", &[(21, lab.server().v4, 21)], "");
    let gateway = Gateway::start(&lab.router, &["--config", &config]).unwrap();
    let within = (WAN_ADDRESS, 50_007).into();
    let mut used = 0;
    for client in [&lab.inside[1], &container, &itself, lab.client()] {
        // Nobody enters without a session.
        assert!(ftp_nat_tests::control::connect(client, within).is_err());
        for tls_version in [TlsVersion::V12, TlsVersion::V13] {
            for mode in [Mode::Pasv, Mode::Epsv] {
                let target = Target {
                    tls_version,
                    ..server.target_at(PUBLIC)
                };
                transfers(Client::Curl, client, &server, &target, mode);
                used += 3;
            }
        }
        let permits = gateway.metric("tls_permits_used_total", "").unwrap();
        assert_eq!(permits, used, "{}", gateway.log());
        assert!(ftp_nat_tests::control::connect(client, within).is_err());
    }
}
