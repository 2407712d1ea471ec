//! One client that opens connections as fast as it can, or as many as it can: it takes its own share,
//! and all others transfer.

use std::{
    io::Write as _,
    net::{Ipv6Addr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use ftp_nat_tests::{
    attack::crowd,
    lab::WAN_ADDRESS_V6,
    scripted::{Script, ScriptedServer},
};

use super::*;

/// Names how many seconds the one client goes on.
const SECONDS_VARIABLE: &str = "FTP_NAT_LAB_FLOOD_SECONDS";
/// Data connections a minute that the one client tries to open.
const A_MINUTE: f64 = 100_000.0;
/// Its sessions.
const SESSIONS: usize = 8;
/// The other clients.
const CLIENTS: usize = 50;

/// A server with a file of some size.
fn scripted(lab: &Lab, content: &[u8]) -> ScriptedServer {
    let script = Script {
        content: content.to_vec(),
        ..Script::default()
    };
    ScriptedServer::start(lab.server(), 21, script).unwrap()
}

/// Asks for a passive connection and makes it from this thread's namespace, if it is announced; then
/// it is of no use any more.
fn open(control: &mut Control) -> anyhow::Result<()> {
    let reply = control.command("PASV")?;
    if let Ok(address) = ftp_nat_tests::control::address_in_227(&reply) {
        let limit = Duration::from_millis(500);
        drop(TcpStream::connect_timeout(&address, limit));
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_openings_a_minute_by_one_client_leave_all_others_unharmed() {
    assert_others_are_unharmed(Some(A_MINUTE * 1.1));
}

#[test]
fn as_many_openings_as_one_client_can_make_leave_all_others_unharmed() {
    assert_others_are_unharmed(None);
}

/// One client opens data connections, so many a minute or as fast as it can, while the others'
/// files are compared.
fn assert_others_are_unharmed(a_minute: Option<f64>) {
    let lab = lab();
    let content: Vec<u8> = (0..200_000_u32).map(|at| (at % 249) as u8).collect();
    let server = scripted(&lab, &content);
    crowd::settle(&lab, client(&lab), CLIENTS).unwrap();
    let _publisher = publish(&lab, &[]);
    let target = server.target_at(PUBLIC);
    let seconds = std::env::var(SECONDS_VARIABLE).ok();
    let lasts = Duration::from_secs(seconds.as_ref().map_or(6, |s| s.parse().unwrap()));
    let (stop, tried) = (AtomicBool::new(false), AtomicUsize::new(0));
    let start = Instant::now();
    let visits = thread::scope(|scope| {
        for _ in 0..SESSIONS {
            let mut control = Control::log_in(attacker(&lab), &target).unwrap();
            let (lab, stop, tried) = (&lab, &stop, &tried);
            scope.spawn(move || {
                attacker(lab).namespace.run(|| {
                    while !stop.load(Ordering::Relaxed) {
                        open(&mut control)?;
                        let number = tried.fetch_add(1, Ordering::Relaxed) as f64;
                        // Ahead of its time, it rests.
                        if let Some(a_minute) = a_minute
                            && let Some(ahead) = Duration::from_secs_f64(number / a_minute * 60.0)
                                .checked_sub(start.elapsed())
                        {
                            thread::sleep(ahead);
                        }
                    }
                    Ok(())
                })
            });
        }
        let visits = crowd::visit(
            client(&lab),
            PUBLIC,
            CLIENTS,
            lasts,
            "/download/file",
            &content,
        );
        stop.store(true, Ordering::Relaxed);
        visits
    });
    let rate = tried.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64() * 60.0;
    println!("{rate:.0} openings a minute tried by one client");
    let failed: Vec<_> = visits
        .iter()
        .filter_map(|visit| visit.as_ref().err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} failed, the first: {:#}",
        failed.len(),
        failed[0]
    );
    // Beside other tests it may be less.
    let least = if seconds.is_some() {
        A_MINUTE
    } else {
        A_MINUTE / 4.0
    };
    assert!(rate >= least, "only {rate:.0} a minute");
}

/// More sessions than there is room for, all finished, from one client: from one address, or from
/// as many of one network as it has by itself (an IPv6 /64).
#[test]
fn one_client_that_opens_more_sessions_than_there_is_room_for_keeps_nobody_out() {
    const ROOM: usize = 1024;
    for v6 in [false, true] {
        let lab = lab();
        let own: Vec<IpAddr> = if v6 {
            (1..=32_u16)
                .map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0x66, 0, 0, 0, last, 1).into())
                .collect()
        } else {
            vec![attacker(&lab).v4.into()]
        };
        if v6 {
            let addresses: String = own
                .iter()
                .map(|address| format!("addr add {address}/128 dev eth0 nodad\n"))
                .collect();
            attacker(&lab).namespace.ip(&addresses).unwrap();
            let route = format!("route add 2001:db8:66::/64 via {}", attacker(&lab).v6);
            lab.router.ip(&route).unwrap();
            attacker(&lab)
                .namespace
                .ip(&format!("route add default via {WAN_ADDRESS_V6}"))
                .unwrap();
        }
        greet_all(lab.server(), v6);
        let public: SocketAddr = if v6 {
            (WAN_ADDRESS_V6, 21).into()
        } else {
            PUBLIC
        };
        let room = ROOM.to_string();
        let mut arguments = vec!["--max-sessions", &room];
        if v6 && !attacks_kernel() {
            arguments.extend(["--publish", "[2001:db8:1::1]:21=[fd00:10::5]:21"]);
        }
        let publisher = publish(&lab, &arguments);
        if v6 && attacks_kernel() {
            panic!("not applicable: its rules here are for IPv4");
        }
        let mut taken: Vec<TcpStream> = Vec::new();
        for number in 0..ROOM * 2 {
            let from = own[number % own.len()];
            let attempt = attacker(&lab).namespace.run(|| {
                let domain = socket2::Domain::for_address(public);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                socket.bind(&SocketAddr::new(from, 0).into())?;
                socket.connect_timeout(&public.into(), Duration::from_millis(200))?;
                Ok(TcpStream::from(socket))
            });
            // What is refused was beyond its share.
            taken.extend(attempt);
            // An attacker that is refused again and again has found its bound.
            if taken.len() + 20 < number {
                break;
            }
        }
        println!(
            "IPv6: {v6}: {} connections of one client, {:?} sessions",
            taken.len(),
            publisher.count("sessions")
        );
        let greeted = Control::connect(client(&lab), public);
        assert!(greeted.is_ok(), "IPv6: {v6}: {:#}", greeted.unwrap_err());
    }
}

/// A server that greets its clients and says no more: one thread for all of them, until the test
/// ends.
fn greet_all(host: &Host, v6: bool) {
    let address: SocketAddr = if v6 {
        (host.v6, 21).into()
    } else {
        host.at(21)
    };
    let listener = host
        .namespace
        .run(|| Ok(std::net::TcpListener::bind(address)?))
        .unwrap();
    thread::spawn(move || {
        let mut greeted = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // A client that has gone is greeted in vain.
            drop(stream.write_all(b"220 here\r\n"));
            greeted.push(stream);
        }
    });
}
