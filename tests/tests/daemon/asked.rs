//! Clients of the daemon's socket that misbehave: nothing hangs, nothing grows.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixStream},
    },
    thread,
    time::Duration,
};

use ftp_nat_tests::{control::Control, gateway::Gateway, lab::Lab};

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, fetch, vsftpd, wait_for};

/// A connection to the daemon of the router.
fn connect(lab: &Lab) -> UnixStream {
    let stream = lab.router.run(|| {
        let name = SocketAddr::from_abstract_name("ftp-nat/wan")?;
        Ok(UnixStream::connect_addr(&name)?)
    });
    let stream = stream.unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

/// The daemon's resident memory, in KiB.
fn resident(gateway: &Gateway<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let words = line.unwrap().split_whitespace().next();
    words.unwrap().parse().unwrap()
}

/// What the daemon answers to a text, behind its greeting.
fn answer(lab: &Lab, text: &[u8]) -> String {
    let mut stream = BufReader::new(connect(lab));
    let mut greeting = String::new();
    stream.read_line(&mut greeting).unwrap();
    assert!(greeting.contains("\"gateway\":\"wan\""), "{greeting}");
    // The daemon may have heard enough before all is sent.
    drop(stream.get_mut().write_all(text));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8(answer).unwrap()
}

#[test]
fn garbage_and_silence_cost_nothing() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    let before = resident(&gateway);
    for (text, named) in [
        (&b"what?\n"[..], "this is no request"),
        (b"\n", "this is no request"),
        (b"{\"request\":\"unload\"}\n", "this is no request"),
        (&[0xff; 4096], "one line of at most 4096 bytes"),
        (&[b'x'; 1 << 20], "one line of at most 4096 bytes"),
    ] {
        let answer = answer(&lab, text);
        // A daemon that hangs up on what it has not read resets the connection.
        assert!(answer.contains(named) || text.len() > 4096, "{answer:?}");
    }
    // More than may talk at a time, who say and read nothing.
    let silent: Vec<_> = (0..200).map(|_| connect(&lab)).collect();
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    gateway.json(&["status"]).unwrap();
    drop(silent);
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    let after = resident(&gateway);
    assert!(after < before + 4096, "{before} KiB grew to {after} KiB");
}

/// Somebody tries an announced port, again and again, and is not let in: an event each.
fn knock(lab: &Lab, port: u16, times: usize) {
    let address = (PUBLIC.ip(), port).into();
    lab.client()
        .namespace
        .run(|| {
            for _ in 0..times {
                drop(TcpStream::connect_timeout(&address, Duration::from_secs(5)));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_follower_that_does_not_read_is_told_how_much_it_missed() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    let port = control.announce("PASV").unwrap().port();
    let data = ftp_nat_tests::control::connect(lab.client(), (PUBLIC.ip(), port).into());
    drop(data.unwrap());

    let mut slow = BufReader::new(connect(&lab));
    slow.get_mut()
        .write_all(b"{\"request\":\"events\",\"follow\":true}\n")
        .unwrap();
    let mut greeting = String::new();
    slow.read_line(&mut greeting).unwrap();
    thread::sleep(Duration::from_millis(200));
    let before = resident(&gateway);
    const KNOCKS: usize = 6000;
    knock(&lab, port, KNOCKS);
    // Others are served as ever, and the daemon has not grown with what is not read.
    assert_eq!(fetch(&lab, &server, "EPSV").unwrap(), CONTENT);
    gateway.json(&["status"]).unwrap();
    let after = resident(&gateway);
    assert!(after < before + 4096, "{before} KiB grew to {after} KiB");
    // Then it reads: what it missed is told where it is missing.
    let (mut told, mut lost) = (0, 0);
    let mut line = String::new();
    while lost == 0 {
        line.clear();
        assert_ne!(slow.read_line(&mut line).unwrap(), 0, "told {told}");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        match event["event"].as_str() {
            Some("lost") => lost += event["count"].as_u64().unwrap(),
            _ => told += 1,
        }
    }
    println!("told {told}, lost {lost}");
    assert!(told + lost > 500, "{told} {lost}");
    wait_for("what the log has left out", || {
        gateway
            .log()
            .contains("more events were not logged")
            .then_some(())
    });
}
