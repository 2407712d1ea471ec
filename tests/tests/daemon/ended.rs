//! `ftp-nat end`: both ends' sockets close at once, whatever they are doing.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    control::{self, Control},
    gateway::Gateway,
    lab::Lab,
    process,
    server::FtpServer,
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, vsftpd, wait_for};

/// Enough for a transfer to last.
const LARGE: usize = 1 << 30;
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections of the server that are established, by its own kernel.
fn servers_connections(lab: &Lab) -> usize {
    let mut ss = lab.server().namespace.command("ss").unwrap();
    ss.args(["-Htn", "state", "established"]);
    let listed = process::run(&mut ss, Duration::from_secs(10)).unwrap();
    listed.expect_success().unwrap().text().lines().count()
}

/// How reading ends: by a reset.
fn is_reset(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
    false
}

fn session(gateway: &Gateway<'_>) -> String {
    let sessions = gateway.json(&["sessions"]).unwrap();
    sessions[0]["session"].as_str().unwrap().to_owned()
}

/// The lab, a server with a large file, and a gateway with these arguments.
fn serve(lab: &Lab) -> FtpServer {
    let server = vsftpd(lab.server(), CONTENT);
    server.offer("large.bin", vec![0; LARGE / 16]).unwrap();
    server
}

fn download(lab: &Lab, control: &mut Control) -> TcpStream {
    let announced = control.announce("PASV").unwrap();
    let mut data = control::connect(lab.client(), announced).unwrap();
    control.send("RETR /download/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    data.read_exact(&mut vec![0; 1 << 20]).unwrap();
    data
}

#[test]
fn a_session_ends_with_all_its_connections_at_both_ends() {
    for arguments in [&[][..], &["--lan", "none"]] {
        let lab = Lab::new().unwrap();
        let server = serve(&lab);
        let gateway = ConfigFile::new(ONE_SERVER).run_with(&lab, arguments);
        let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
        // It reads on while it is ended, so slowly that the file lasts until then.
        let mut reader = download(&lab, &mut control);
        let is_ended = Arc::new(AtomicBool::new(false));
        let reading = thread::spawn({
            let is_ended = Arc::clone(&is_ended);
            move || {
                let mut buffer = [0; 1 << 14];
                while !is_ended.load(Ordering::Relaxed) {
                    if let Err(error) = reader.read(&mut buffer) {
                        return error.kind() == ErrorKind::ConnectionReset;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                is_reset(&reader)
            }
        });
        assert_eq!(servers_connections(&lab), 2);
        let number = session(&gateway);
        let started = Instant::now();
        let ended = gateway.json(&["end", &number]).unwrap();
        println!("{arguments:?}: {:?}", started.elapsed());
        is_ended.store(true, Ordering::Relaxed);
        for connection in ended.as_array().unwrap() {
            assert_eq!(connection["reset"], true, "{ended:#}");
            assert_eq!(connection["session"], number.as_str());
        }
        assert_eq!(ended.as_array().unwrap().len(), 2, "{ended:#}");
        assert!(reading.join().unwrap(), "{arguments:?}");
        assert!(is_reset(control.stream()), "{arguments:?}");
        assert_eq!(servers_connections(&lab), 0, "{arguments:?}");
        assert_eq!(
            gateway
                .json(&["sessions"])
                .unwrap()
                .as_array()
                .unwrap()
                .len(),
            0
        );

        // It is told who has ended it, and others begin as ever.
        assert_eq!(crate::fetch(&lab, &server, "PASV").unwrap(), CONTENT);
        let told = wait_for("the ends", || {
            let text = gateway.ask(&["events", "--json", "--event", "ended", "--session", &number]);
            let text = text.unwrap().expect_success().unwrap().text();
            let told: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            (told.len() == 2).then_some(told)
        });
        for event in told {
            assert_eq!(event["reason"], "operator", "{event:#}");
        }
    }
}

#[test]
fn one_connection_ends_and_its_session_goes_on() {
    let lab = Lab::new().unwrap();
    let server = serve(&lab);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let data = download(&lab, &mut control);
    // Its receiver has stopped reading: no window, and nothing moves.
    let end = data.local_addr().unwrap().to_string();
    let ended = gateway
        .ask(&["end", &end])
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    assert!(
        ended.contains("passive") && ended.contains("fallen silent"),
        "{ended}"
    );
    assert!(is_reset(&data));
    control.expect("426").unwrap();
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
    assert_eq!(servers_connections(&lab), 1);
}

#[test]
fn an_upload_and_a_session_over_ipv6_end() {
    let lab = Lab::new().unwrap();
    let server = serve(&lab);
    let config = ONE_SERVER
        .replace("198.51.100.1:21", "[2001:db8:1::1]:21")
        .replace("10.0.0.5:21", "[fd00:10::5]:21");
    let gateway = ConfigFile::new(&config).run(&lab);
    let public = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1), 21));
    let mut control = Control::log_in(lab.client(), &server.target_at(public)).unwrap();
    let announced = control.announce("EPSV").unwrap();
    let data = control::connect(lab.client(), announced).unwrap();
    control.send("STOR /upload/large.bin\r\n").unwrap();
    control.expect("150").unwrap();
    let mut writer = data.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Err(error) = writer.write_all(&[7; 1 << 16]) {
                return Some(error.kind());
            }
        }
        None
    });
    thread::sleep(Duration::from_millis(300));
    let number = session(&gateway);
    let ended = gateway.json(&["end", &number]).unwrap();
    assert!(
        ended
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["reset"] == true),
        "{ended:#}"
    );
    assert_eq!(writing.join().unwrap(), Some(ErrorKind::ConnectionReset));
    assert!(is_reset(control.stream()));
    assert_eq!(servers_connections(&lab), 0);
}

#[test]
fn silently_nobody_hears_of_it_and_nothing_arrives() {
    let lab = Lab::new().unwrap();
    let server = serve(&lab);
    let mut gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    let number = session(&gateway);
    // Without a daemon, too.
    gateway.kill().unwrap();
    let text = gateway.ask(&["end", &number, "--silently"]).unwrap();
    let text = text.expect_success().unwrap().text();
    assert!(text.contains("its packets are dropped"), "{text}");
    control.send("NOOP\r\n").unwrap();
    control
        .stream()
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let error = control.stream().read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(servers_connections(&lab), 1);
    assert!(
        gateway
            .metric("dropped_packets_total", "reason=\"ended\"")
            .unwrap()
            > 0
    );
    let flows = gateway.json(&["flows", "--all"]).unwrap();
    assert_eq!(flows[0]["state"], "cut", "{flows:#}");
    // Its client begins anew from the same port, as one that never noticed.
    for (words, told) in [
        (&["end", "00000000"][..], "there is no session 00000000"),
        (
            &["end", "192.0.2.1:5"],
            "no connection with 192.0.2.1:5 outside",
        ),
    ] {
        let outcome = gateway.ask(words).unwrap();
        assert_eq!(outcome.status.unwrap().code(), Some(1), "{words:?}");
        assert!(
            outcome.stderr.contains(told),
            "{words:?}: {}",
            outcome.stderr
        );
    }
    let outcome = gateway.ask(&["end", "everything"]).unwrap();
    assert_eq!(outcome.status.unwrap().code(), Some(2));
}
