//! A client inside names an address that is not its own: nobody opens it for the outside.

use std::net::{IpAddr, TcpListener};

use ftp_nat_tests::{
    behind,
    control::read_all,
    scripted::{Script, ScriptedServer, address_in_port},
};

use super::{
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
    for named in [neighbour, gateway] {
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

/// A guest network on an interface of its own, and the firewall's leave to go out.
fn guest(lab: &Lab) -> Host {
    let guest = behind::beside(lab, "guest").unwrap();
    lab.router
        .nft(
            "table inet lab {
                chain forward {
                    iifname \"guest\" oifname \"wan\" accept
                }
            }",
        )
        .unwrap();
    guest
}

#[test]
#[ignore = "any client's address may be announced"]
fn a_guest_network_opens_nobody_elses_hosts() {
    let lab = lab();
    let publisher = masquerade(&lab, &[]);
    let guest = guest(&lab);
    let [neighbour, gateway] = secrets(&lab);
    assert_nothing_opens(&lab, &guest, &[&neighbour, &gateway], &publisher);
}

#[test]
#[ignore = "any client's address may be announced"]
fn a_guest_network_opens_nobody_elses_hosts_through_the_stack() {
    let lab = lab();
    let publisher = masquerade(&lab, &["--lan", "none"]);
    let guest = guest(&lab);
    let [neighbour, gateway] = secrets(&lab);
    assert_nothing_opens(&lab, &guest, &[&neighbour, &gateway], &publisher);
}

#[test]
#[ignore = "any client's address may be announced"]
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
