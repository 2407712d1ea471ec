//! Announcements without end: they cost the one who makes them, and nobody else.

use std::io::{Read as _, Write as _};

use super::*;

/// One client announces more ports than there is room for, on one connection and before any login;
/// then the same with a second address.
#[test]
fn a_storm_of_ports_on_one_connection_keeps_nobody_out() {
    let lab = lab();
    let server = vsftpd(&lab);
    let publisher = publish(&lab, &["--max-mappings", "4096"]);
    let second = "198.51.100.201";
    attacker(&lab)
        .namespace
        .ip(&format!("addr add {second}/24 dev eth0"))
        .unwrap();
    let mut failures = Failures::default();
    for own in [attacker(&lab).v4, second.parse().unwrap()] {
        let mut stream = attacker(&lab)
            .namespace
            .run(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.bind(&SocketAddr::from((own, 0)).into())?;
                socket.connect_timeout(&PUBLIC.into(), Duration::from_secs(5))?;
                Ok(std::net::TcpStream::from(socket))
            })
            .unwrap();
        // Its answers must be taken, or the server stops.
        let mut answers = stream.try_clone().unwrap();
        thread::spawn(move || while answers.read(&mut [0; 65536]).is_ok_and(|got| got > 0) {});
        let [a, b, c, d] = own.octets();
        let lines: Vec<String> = (1024..6144_u16)
            .map(|port| {
                let [high, low] = port.to_be_bytes();
                format!("PORT {a},{b},{c},{d},{high},{low}\r\n")
            })
            .collect();
        for (round, some) in lines.chunks(1024).enumerate() {
            // vsftpd ends a session that says too much before it logs in.
            if stream.write_all(some.concat().as_bytes()).is_err() {
                break;
            }
            let mut control = log_in(&lab, &server);
            failures.note(&format!("{own}, round {round}"), fetch(&lab, &mut control));
        }
    }
    let mut control = log_in(&lab, &server);
    failures.note("afterwards", fetch(&lab, &mut control));
    failures.assert_none();
    let mappings = publisher.count("mappings").unwrap_or_default();
    assert!(mappings <= 8, "{mappings} mappings wait for connections");
}

/// The same to a server that says yes to everything, and as fast as it can.
#[test]
fn a_storm_of_announcements_to_a_willing_server_keeps_nobody_out() {
    let lab = lab();
    let publisher = publish(&lab, &[]);
    // The server under attack shares its host with nobody; the legitimate client's is the same.
    let script = ftp_nat_tests::scripted::Script {
        content: CONTENT.to_vec(),
        ..Default::default()
    };
    let server = ftp_nat_tests::scripted::ScriptedServer::start(lab.server(), 21, script).unwrap();
    let mut failures = Failures::default();
    let [a, b, c, d] = attacker(&lab).v4.octets();
    for verb in ["PORT", "EPRT", "PASV", "EPSV"] {
        let mut stream = ftp_nat_tests::control::connect(attacker(&lab), PUBLIC).unwrap();
        let mut answers = stream.try_clone().unwrap();
        thread::spawn(move || while answers.read(&mut [0; 65536]).is_ok_and(|got| got > 0) {});
        let lines: String = (2000..5000_u16)
            .map(|port| {
                let [high, low] = port.to_be_bytes();
                match verb {
                    "PORT" => format!("PORT {a},{b},{c},{d},{high},{low}\r\n"),
                    "EPRT" => format!("EPRT |1|{}|{port}|\r\n", attacker(&lab).v4),
                    verb => format!("{verb}\r\n"),
                }
            })
            .collect();
        stream.write_all(lines.as_bytes()).unwrap();
        for _ in 0..3 {
            let target = server.target_at(PUBLIC);
            let used = Control::log_in(client(&lab), &target)
                .and_then(|mut control| fetch(&lab, &mut control));
            failures.note(verb, used);
        }
        thread::sleep(Duration::from_secs(1));
        let mappings = publisher.count("mappings").unwrap_or_default();
        println!("{verb}: {mappings} mappings");
        if mappings > 8 {
            failures.note(verb, Err(anyhow::anyhow!("{mappings} mappings")));
        }
    }
    failures.assert_none();
}
