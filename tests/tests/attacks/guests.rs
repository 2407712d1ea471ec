//! A client inside names an address that is not its own: nobody opens it for the outside.

use std::net::{IpAddr, TcpListener};

use ftp_nat_tests::{
    behind,
    control::read_all,
    namespace::Namespace,
    scripted::{Script, ScriptedServer, address_in_port},
};

use super::{
    recorder::Recorder,
    secret::{Secret, knock},
    *,
};

/// The port of inside hosts that nobody outside may reach: `31,144` in a PORT.
const SECRET: u16 = 8080;

/// Serves the clients of 10.0.0.0/24.
pub(super) fn masquerade<'lab>(lab: &'lab Lab, arguments: &[&str]) -> Publisher<'lab> {
    if attacks_kernel() {
        lab.router.nft(firewall::MASQUERADE_WITH_HELPER).unwrap();
        return Publisher { gateway: None };
    }
    lab.router.nft(firewall::MASQUERADE).unwrap();
    lab.router.nft(firewall::ACCEPT_MARKED).unwrap();
    let run = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let gateway = Gateway::start(&lab.router, &[&run[..], arguments].concat()).unwrap();
    Publisher {
        gateway: Some(gateway),
    }
}

/// A legitimate client inside fetches in active mode.
fn fetch_actively(host: &Host, control: &mut Control) -> anyhow::Result<()> {
    let listener = host
        .namespace
        .run(|| Ok(TcpListener::bind((host.v4, 0))?))?;
    let [high, low] = listener.local_addr()?.port().to_be_bytes();
    let [a, b, c, d] = host.v4.octets();
    let reply = control.command(&format!("PORT {a},{b},{c},{d},{high},{low}"))?;
    ensure!(reply.starts_with("200"), "{reply}");
    control.send(format!("RETR {SMALL}\r\n"))?;
    control.expect("150")?;
    listener.set_nonblocking(true)?;
    let (data, _) = listener.accept().context("the server did not come")?;
    data.set_nonblocking(false)?;
    ensure!(read_all(&data)? == CONTENT, "another content");
    control.expect("226")?;
    Ok(())
}

/// What `host` says to its accomplice outside, and where the accomplice then knocks.
fn assert_nothing_opens(lab: &Lab, host: &Host, secrets: &[&Secret], publisher: &Publisher) {
    let accomplice = attacker(lab);
    let server = ScriptedServer::start(accomplice, 21, Script::default()).unwrap();
    let mut failures = Failures::default();
    let [neighbour, gateway] = [neighbour(lab).v4, ftp_nat_tests::lab::LAN_ADDRESS];
    for named in [neighbour, gateway, WAN_ADDRESS] {
        let [a, b, c, d] = named.octets();
        for line in [
            format!("PORT {a},{b},{c},{d},31,144"),
            format!("EPRT |1|{named}|{SECRET}|"),
            format!("LPRT 4,4,{a},{b},{c},{d},2,31,144"),
        ] {
            let target = server.target_at(accomplice.at(21));
            let mut control = Control::log_in(host, &target).unwrap();
            control.command(&line).unwrap();
            let mut doors = vec![SocketAddr::from((WAN_ADDRESS, SECRET))];
            // What the server heard, if it is an address.
            doors.extend(
                server
                    .commands()
                    .last()
                    .and_then(|heard| address_in_port(heard.split(' ').nth(1)?)),
            );
            for door in doors {
                knock(accomplice, door);
            }
            for secret in secrets {
                failures.note(&line, secret.keep());
            }
        }
    }
    failures.assert_none();
    publisher.assert_count("mappings", 0);
}

/// The secrets of the neighbour and of the gateway itself.
fn secrets(lab: &Lab) -> [Secret; 2] {
    let inside = IpAddr::from(ftp_nat_tests::lab::LAN_ADDRESS);
    [
        Secret::at(
            &neighbour(lab).namespace,
            neighbour(lab).at(SECRET),
            "neighbour",
        ),
        Secret::at(&lab.router, (inside, SECRET).into(), "gateway"),
    ]
}

/// A host of a guest network on an interface of its own, which may go out.
fn guest(lab: &Lab) -> Host {
    let guest = behind::beside(lab, "guest").unwrap();
    let_guest_out(lab);
    guest
}

/// The firewall's leave for the guest network to go out.
fn let_guest_out(lab: &Lab) {
    lab.router
        .nft(
            "table inet lab {
                chain forward {
                    iifname \"guest\" oifname \"wan\" accept
                }
            }",
        )
        .unwrap();
}

#[test]
fn a_guest_network_opens_nobody_elses_hosts() {
    let lab = lab();
    let publisher = masquerade(&lab, &[]);
    let guest = guest(&lab);
    let [neighbour, gateway] = secrets(&lab);
    assert_nothing_opens(&lab, &guest, &[&neighbour, &gateway], &publisher);
}

#[test]
fn a_guest_network_opens_nobody_elses_hosts_through_the_stack() {
    let lab = lab();
    let publisher = masquerade(&lab, &["--lan", "none"]);
    let guest = guest(&lab);
    let [neighbour, gateway] = secrets(&lab);
    assert_nothing_opens(&lab, &guest, &[&neighbour, &gateway], &publisher);
}

#[test]
fn an_inside_host_opens_no_other_and_its_neighbour_is_served_meanwhile() {
    for arguments in [&[][..], &["--lan", "none"]] {
        let lab = lab();
        let vsftpd = FtpServer::start(Kind::Vsftpd, client(&lab), &Settings::default()).unwrap();
        vsftpd.offer("small.txt", CONTENT).unwrap();
        let publisher = masquerade(&lab, arguments);
        let [neighbours, gateways] = secrets(&lab);
        let target = vsftpd.target_at(client(&lab).at(21));
        let mut legitimate = Control::log_in(neighbour(&lab), &target).unwrap();
        fetch_actively(neighbour(&lab), &mut legitimate).unwrap();
        let secrets = [&neighbours, &gateways];
        assert_nothing_opens(&lab, lab.server(), &secrets, &publisher);
        fetch_actively(neighbour(&lab), &mut legitimate).unwrap();
    }
}

#[test]
fn a_session_from_before_the_gateway_opens_nobody_elses_hosts() {
    // Nobody has seen who began it.
    let lab = lab();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let accomplice = attacker(&lab);
    let server = ScriptedServer::start(accomplice, 21, Script::default()).unwrap();
    let target = server.target_at(accomplice.at(21));
    let mut control = Control::log_in(lab.server(), &target).unwrap();
    lab.router.nft("flush ruleset").unwrap();
    let publisher = masquerade(&lab, &["--lan", "none"]);
    let [neighbours, gateways] = secrets(&lab);
    let [a, b, c, d] = neighbour(&lab).v4.octets();
    control
        .command(&format!("PORT {a},{b},{c},{d},31,144"))
        .unwrap();
    knock(accomplice, (WAN_ADDRESS, SECRET).into());
    neighbours.keep().unwrap();
    gateways.keep().unwrap();
    publisher.assert_count("mappings", 0);
}

#[test]
fn clients_of_every_interface_open_themselves_and_nobody_else() {
    // With a program on one inside interface only, on both of them, or on none.
    for arguments in [&["--lan", "lan"][..], &[], &["--lan", "none"]] {
        let lab = lab();
        let vsftpd = FtpServer::start(Kind::Vsftpd, client(&lab), &Settings::default()).unwrap();
        vsftpd.offer("small.txt", CONTENT).unwrap();
        let clients = ["--masquerade", "10.0.9.0/24"];
        let other = behind::beside(&lab, "guest").unwrap();
        let publisher = masquerade(&lab, &[arguments, &clients].concat());
        let_guest_out(&lab);
        let gateway = Host {
            namespace: Namespace::existing(lab.router.name()).unwrap(),
            v4: WAN_ADDRESS,
            v6: ftp_nat_tests::lab::WAN_ADDRESS_V6,
        };
        let target = vsftpd.target_at(client(&lab).at(21));
        for host in [neighbour(&lab), &other, &gateway] {
            let mut control = Control::log_in(host, &target).unwrap();
            fetch_actively(host, &mut control)
                .with_context(|| format!("{arguments:?}: {}", host.v4))
                .unwrap();
        }
        let [neighbours, gateways] = secrets(&lab);
        assert_nothing_opens(&lab, &other, &[&neighbours, &gateways], &publisher);
    }
}

#[test]
fn a_guest_who_is_no_client_is_denied_for_being_unknown() {
    let lab = lab();
    let publisher = masquerade(&lab, &["--lan", "lan"]);
    let guest = guest(&lab);
    let [neighbours, _gateways] = secrets(&lab);
    let accomplice = attacker(&lab);
    let server = ScriptedServer::start(accomplice, 21, Script::default()).unwrap();
    let mut control = Control::log_in(&guest, &server.target_at(accomplice.at(21))).unwrap();
    let [a, b, c, d] = neighbour(&lab).v4.octets();
    let line = format!("PORT {a},{b},{c},{d},31,144");
    control.command(&line).unwrap();
    knock(accomplice, (WAN_ADDRESS, SECRET).into());
    neighbours.keep().unwrap();
    publisher.assert_count("mappings", 0);
    if let Some(gateway) = &publisher.gateway {
        let denied = gateway.metric("denied_packets_total", "reason=\"unknown_client\"");
        assert_eq!(denied.unwrap(), 1);
    }
}

#[test]
fn a_guest_network_opens_nobody_elses_hosts_over_ipv6() {
    // With a program on the inside's interfaces, and through the stack.
    needs_judgement_of_ports();
    for arguments in [&[][..], &["--lan", "none"]] {
        let lab = lab();
        let clients = ["--masquerade", "fd00:10::/64"];
        let publisher = masquerade(&lab, &[arguments, &clients].concat());
        let guest = guest(&lab);
        let inside = IpAddr::from(ftp_nat_tests::lab::LAN_ADDRESS_V6);
        let [neighbours, gateways] = [
            Secret::at(
                &neighbour(&lab).namespace,
                (neighbour(&lab).v6, SECRET).into(),
                "neighbour",
            ),
            Secret::at(&lab.router, (inside, SECRET).into(), "gateway"),
        ];
        let accomplice = attacker(&lab);
        let at = SocketAddr::from((accomplice.v6, 21));
        let server = Recorder::start_at(accomplice, at, false);
        let mut failures = Failures::default();
        let gateway = ftp_nat_tests::lab::WAN_ADDRESS_V6;
        for host in [&guest, lab.server()] {
            for named in [
                neighbour(&lab).v6.to_string(),
                inside.to_string(),
                gateway.to_string(),
            ] {
                let mut control = Control::connect(host, at).unwrap();
                control.command("USER x").unwrap();
                server.heard();
                let line = format!("EPRT |2|{named}|{SECRET}|");
                control.command(&line).unwrap();
                for door in [gateway, neighbour(&lab).v6] {
                    knock(accomplice, (door, SECRET).into());
                }
                for secret in [&neighbours, &gateways] {
                    failures.note(&format!("{} {line}, {arguments:?}", host.v6), secret.keep());
                }
            }
        }
        failures.assert_none();
        publisher.assert_count("mappings", 0);
    }
}
