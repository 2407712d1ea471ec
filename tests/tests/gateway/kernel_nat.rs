//! Where the kernel's own NAT translates the control connection: a published server behind a rule
//! for port 21 and nothing else, and a client on the gateway itself.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{Host, LAN, Lab, WAN, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

use crate::{CONTENT, PUBLIC, SMALL, kernel, vsftpd};

const CONFIG: &str = r#"
[gateway]
wan = ["wan"]

[[publish]]
public = "198.51.100.1:21"
server = "10.0.0.5:21"
control_nat = "kernel"
"#;

const MODES: [Mode; 4] = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt];

fn fetch(lab: &Lab, server: &FtpServer, mode: Mode) -> anyhow::Result<Session> {
    let target = server.target_at(PUBLIC);
    Client::Curl
        .perform(lab.client(), &target, mode, Job::Fetch(SMALL))
        .and_then(Session::expect_success)
}

#[test]
fn a_server_that_the_kernel_publishes_has_its_data_connections_opened() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    // Without ftp-nat the control connection works, and nothing else.
    assert!(fetch(&lab, &server, Mode::Pasv).is_err());
    assert!(server.log().contains("PASV"), "{}", server.log());

    let scratch = Scratch::new().unwrap();
    let config = scratch.write("ftp-nat.toml", CONFIG).unwrap();
    let gateway = Gateway::start(&lab.router, &["--config", config.to_str().unwrap()]).unwrap();
    // Data connections are ours: the inside is attached for them.
    let hooks = kernel::attached(&lab);
    assert!(hooks.iter().any(|hook| hook.starts_with(LAN)), "{hooks:?}");
    for mode in MODES {
        let session = fetch(&lab, &server, mode)
            .unwrap_or_else(|error| panic!("{mode:?}: {error:#}\n{}", gateway.log()));
        assert_eq!(session.content, CONTENT, "{mode:?}");
        if mode == Mode::Pasv {
            let reply = session.replies("227").next().unwrap();
            assert!(reply.contains("198,51,100,1,"), "{reply}");
        }
    }
    // The control connection went through the stack, the data straight on.
    let flows = gateway.json(&["flows", "--all"]).unwrap();
    assert!(flows.as_array().unwrap().len() > 1, "{flows:#}");
    for flow in flows.as_array().unwrap() {
        let path = if flow["kind"] == "control" {
            "stack"
        } else {
            "redirect"
        };
        assert_eq!(flow["inbound"]["path"], path, "{flow}");
    }
    let denied = gateway.metric("denied_packets_total", "reason=\"bounce\"");
    assert_eq!(denied.unwrap(), 0);
    // The port that the server announced is the one that was announced outside.
    assert_eq!(gateway.metric("mappings_remapped_total", "").unwrap(), 0);
}

#[test]
fn a_server_that_the_kernel_publishes_works_on_the_wan_alone() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(&lab);
    lab.router.nft(firewall::TRANSLATE_PORT_21).unwrap();
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    let scratch = Scratch::new().unwrap();
    let config = scratch.write("ftp-nat.toml", CONFIG).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--lan", "none"];
    let gateway = Gateway::start(&lab.router, &arguments).unwrap();
    let hooks = kernel::attached(&lab);
    assert!(hooks.iter().all(|hook| hook.starts_with(WAN)), "{hooks:?}");
    for mode in [Mode::Pasv, Mode::Epsv] {
        let session = fetch(&lab, &server, mode)
            .unwrap_or_else(|error| panic!("{mode:?}: {error:#}\n{}", gateway.log()));
        assert_eq!(session.content, CONTENT, "{mode:?}");
    }
}

const MASQUERADE: [&str; 6] = [
    "--wan",
    "wan",
    "--masquerade",
    "10.0.0.0/24",
    "--masquerade",
    "fd00:10::/64",
];

/// The router as a host.
fn gateway_host(lab: &Lab) -> Host {
    Host {
        namespace: ftp_nat_tests::namespace::Namespace::existing(lab.router.name()).unwrap(),
        v4: WAN_ADDRESS,
        v6: WAN_ADDRESS_V6,
    }
}

#[test]
fn a_client_on_the_gateway_itself_announces_the_gateways_own_address() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    let gateway = Gateway::start(&lab.router, &MASQUERADE).unwrap();
    let router = gateway_host(&lab);
    let addresses: [SocketAddr; 2] = [outside.at(21), (outside.v6, 21).into()];
    for address in addresses {
        for mode in MODES {
            let job = Job::Fetch(SMALL);
            if !Client::Curl.can(address, mode, job) {
                continue;
            }
            let session = Client::Curl
                .perform(&router, &server.target_at(address), mode, job)
                .and_then(Session::expect_success)
                .unwrap_or_else(|error| panic!("{mode:?} {address}: {error:#}\n{}", gateway.log()));
            assert_eq!(session.content, CONTENT, "{mode:?} {address}");
        }
    }
    let denied = || {
        let labels = "reason=\"bounce\"";
        gateway.metric("denied_packets_total", labels).unwrap()
    };
    assert_eq!(denied(), 0);

    // Somebody else's address is still denied.
    let mut control = Control::log_in(&router, &server.target_at(outside.at(21))).unwrap();
    let [a, b, c, d] = Ipv4Addr::new(198, 51, 100, 77).octets();
    let reply = control
        .command(&format!("PORT {a},{b},{c},{d},195,80"))
        .unwrap();
    assert!(reply.starts_with('5'), "{reply}");
    assert_eq!(denied(), 1);
}

/// Both announce one port to one server: the inside client gets another, or the gateway's own does.
#[test]
fn the_gateways_own_client_and_one_behind_it_are_kept_apart() {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let outside = lab.client();
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    server.offer("small.txt", CONTENT).unwrap();
    let gateway = Gateway::start(&lab.router, &MASQUERADE).unwrap();
    let router = gateway_host(&lab);
    let inside = lab.server();
    let target = server.target_at(outside.at(21));
    let mut ends = Vec::new();
    for host in [inside, &router] {
        let mut control = Control::log_in(host, &target).unwrap();
        let listener = host
            .namespace
            .run(|| Ok(TcpListener::bind((host.v4, 50_000))?));
        let [a, b, c, d] = host.v4.octets();
        let reply = control
            .command(&format!("PORT {a},{b},{c},{d},195,80"))
            .unwrap();
        assert!(reply.starts_with("200"), "{reply}\n{}", gateway.log());
        ends.push((control, listener.unwrap()));
    }
    for (control, listener) in &mut ends {
        control.send("RETR /download/small.txt\r\n").unwrap();
        listener.set_nonblocking(true).unwrap();
        let data = crate::wait_for("the server", || listener.accept().ok()).0;
        data.set_nonblocking(false).unwrap();
        data.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(control::read_all(&data).unwrap(), CONTENT);
        control.expect("150").unwrap();
        control.expect("226").unwrap();
    }
    assert_eq!(gateway.metric("mappings_remapped_total", "").unwrap(), 1);
}
