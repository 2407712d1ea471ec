//! Clients of the daemon's socket that misbehave: nothing hangs, nothing grows.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ftp_nat_tests::{control::Control, gateway::Gateway, lab::Lab, scratch::Scratch};
use rustix::{
    process::{Signal, Uid},
    thread::set_thread_res_uid,
};

use serde_json::{Value, json};

use crate::{
    CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, audit::records, events::assert_tells, fetch,
    vsftpd, wait_for,
};

/// The socket of a daemon.
pub(crate) fn socket(gateway: &Gateway<'_>) -> PathBuf {
    let status = gateway.json(&["status"]).unwrap();
    let namespace = status["namespace"].as_str().unwrap();
    PathBuf::from("/run/ftp-nat")
        .join(namespace)
        .join("wan.sock")
}

/// A connection to a daemon.
fn connect(gateway: &Gateway<'_>) -> UnixStream {
    let stream = UnixStream::connect(socket(gateway)).unwrap();
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
fn answer(gateway: &Gateway<'_>, text: &[u8]) -> String {
    let mut stream = BufReader::new(connect(gateway));
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
        let answer = answer(&gateway, text);
        // A daemon that hangs up on what it has not read resets the connection.
        assert!(answer.contains(named) || text.len() > 4096, "{answer:?}");
    }
    // More than may talk at a time, who say and read nothing.
    let silent: Vec<_> = (0..200).map(|_| connect(&gateway)).collect();
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

    let mut slow = BufReader::new(connect(&gateway));
    slow.get_mut()
        .write_all(b"{\"request\":\"events\",\"follow\":true}\n")
        .unwrap();
    let mut greeting = String::new();
    slow.read_line(&mut greeting).unwrap();
    thread::sleep(Duration::from_millis(200));
    let before = resident(&gateway);
    // Two events each: opened and used. The second kind is never summed.
    for _ in 0..1500 {
        let port = control.announce("PASV").unwrap().port();
        let data = ftp_nat_tests::control::connect(lab.client(), (PUBLIC.ip(), port).into());
        drop(data.unwrap());
    }
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
        let event: Value = serde_json::from_str(&line).unwrap();
        match event["event"].as_str() {
            Some("lost") => lost += event["count"].as_u64().unwrap(),
            _ => told += 1,
        }
    }
    println!("told {told}, lost {lost}");
    assert!(told + lost > 500, "{told} {lost}");
}

#[test]
fn a_flood_is_summed_and_who_was_let_in_stays_on_record() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let folder = Scratch::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let gateway = file.run_with(&lab, &["--audit-log", audit.to_str().unwrap()]);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);
    let port = control.announce("PASV").unwrap().port();
    drop(ftp_nat_tests::control::connect(lab.client(), (PUBLIC.ip(), port).into()).unwrap());

    const KNOCKS: u64 = 6000;
    knock(&lab, port, KNOCKS as usize);
    assert_eq!(control.fetch(lab.client(), "EPSV", SMALL).unwrap(), CONTENT);
    let denied = |records: &[Value]| {
        let is = |record: &&Value, name: &str| record["event"] == name;
        let single = records.iter().filter(|it| is(it, "denied")).count() as u64;
        let sums = records
            .iter()
            .filter(|it| is(it, "repeated") && it["of"] == "denied");
        let summed: u64 = sums.map(|it| it["count"].as_u64().unwrap()).sum();
        (single, summed)
    };
    let written = wait_for("the flood's sums", || {
        let written = records(&audit);
        let (single, summed) = denied(&written);
        // Of too many at once the datapath tells a part, and counts the others.
        let withheld = gateway.metric("events_withheld_total", "").unwrap();
        // The kernel's own repetitions of a SYN count as well.
        (single + summed + withheld >= KNOCKS).then_some(written)
    });
    let (single, summed) = denied(&written);
    println!("{single} records, {summed} summed");
    assert!(single < 200, "{single} records of {KNOCKS} attempts");
    let sum = written.iter().find(|it| it["event"] == "repeated").unwrap();
    assert_tells(
        sum,
        &json!({"of": "denied", "reason": "unannounced", "peer": "198.51.100.20"}),
    );
    let used = written.iter().filter(|it| it["event"] == "used").count();
    assert_eq!(used, 3, "{written:#?}");
    let events = gateway
        .ask(&["events"])
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    assert!(
        events.contains("more like this in 10 s: denied, from 198.51.100.20"),
        "{events}"
    );
}

/// The mode and the owner of a file.
fn mode_and_owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.mode() & 0o7777, found.uid())
}

#[test]
fn nobody_but_root_reaches_the_socket_or_takes_its_place() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let file = ConfigFile::new(ONE_SERVER);
    let mut gateway = file.run(&lab);
    let socket = socket(&gateway);
    let folder = socket.parent().unwrap();
    assert_eq!(mode_and_owner(folder), (0o700, 0));
    let as_nobody = lab.router.run(|| {
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody)?;
        Ok([
            UnixStream::connect(&socket).map(drop).unwrap_err().kind(),
            UnixListener::bind(folder.join("other.sock"))
                .map(drop)
                .unwrap_err()
                .kind(),
            fs::remove_file(&socket).unwrap_err().kind(),
        ])
    });
    assert_eq!(as_nobody.unwrap(), [ErrorKind::PermissionDenied; 3]);

    // What another process may take, the name of an abstract socket, is of no use to it.
    let taken = lab.router.run(|| {
        let name = SocketAddr::from_abstract_name("ftp-nat/wan")?;
        Ok(UnixListener::bind_addr(&name)?)
    });
    gateway.kill().unwrap();
    gateway.restart().unwrap();
    gateway.ask(&["reload"]).unwrap().expect_success().unwrap();
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    drop(taken);

    gateway.stop().unwrap();
    assert!(!folder.exists(), "a stop leaves no socket and no lock file");
}

#[test]
fn status_tells_how_the_daemon_is_and_of_a_stopped_one_that_it_does_not_answer() {
    let lab = Lab::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run(&lab);
    assert_eq!(
        gateway.json(&["status"]).unwrap()["gateways"][0]["daemon"]["state"],
        "running"
    );
    let text = gateway
        .ask(&["status"])
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    assert!(text.contains("programs: 4 of 4 attached"), "{text}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        text.contains(&format!("programs of ftp-nat {version}, layout ")),
        "{text}"
    );
    file.write("[gateway]\nnonsense = 1\n");
    assert!(!gateway.ask(&["reload"]).unwrap().success());
    let status = gateway.json(&["status"]).unwrap();
    let daemon = &status["gateways"][0]["daemon"];
    assert_eq!(daemon["last_reload"]["applied"], false, "{daemon:#}");
    assert!(daemon["since"].as_str().unwrap() <= daemon["last_reload"]["time"].as_str().unwrap());
    let text = gateway
        .ask(&["status"])
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    assert!(
        text.contains("(refused, the old configuration stays)"),
        "{text}"
    );
    let doctor = gateway.ask(&["doctor", "--json"]).unwrap();
    assert!(doctor.text().contains("\"reload-refused\""), "{doctor:?}");

    gateway.signal(Signal::STOP).unwrap();
    let status = gateway.json(&["status"]).unwrap();
    let daemon = &status["gateways"][0]["daemon"];
    assert_eq!(daemon["state"], "hanging", "{daemon:#}");
    assert_eq!(daemon["pid"], gateway.pid().unwrap());
    let text = gateway
        .ask(&["status"])
        .unwrap()
        .expect_success()
        .unwrap()
        .text();
    assert!(
        text.contains("does not answer: it hangs or is stopped"),
        "{text}"
    );
    let doctor = gateway.ask(&["doctor", "--json"]).unwrap();
    assert!(doctor.text().contains("\"daemon-hangs\""), "{doctor:?}");
    gateway.signal(Signal::CONT).unwrap();
    wait_for("its answer", || {
        let status = gateway.json(&["status"]).unwrap();
        (status["gateways"][0]["daemon"]["state"] == "running").then_some(())
    });
}

#[test]
fn events_that_nobody_read_in_time_are_counted_and_doctor_tells() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    gateway.signal(Signal::STOP).unwrap();
    // More than the ring of 1 MiB has room for: an event of 128 bytes each.
    for _ in 0..10_000 {
        control.announce("PASV").unwrap();
    }
    gateway.signal(Signal::CONT).unwrap();
    let lost = gateway.metric("events_lost_total", "").unwrap();
    assert!(lost > 0);
    let doctor = gateway.ask(&["doctor", "--json"]).unwrap();
    assert!(doctor.text().contains("\"events-lost\""), "{doctor:?}");
}
