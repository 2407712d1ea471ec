//! Nothing that the daemon waits for makes others wait for it: a large and restless table of
//! routes, a log that nobody reads.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    lab::Lab,
    process::{self, Running},
    scratch::{PinFolder, Scratch},
    tools::Tools,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{CONTENT, ConfigFile, ONE_SERVER, asked::socket, fetch, vsftpd, wait_for};

/// How long the daemon takes to greet a client.
fn greeting(socket: &Path) -> Duration {
    let start = Instant::now();
    let stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.contains("\"gateway\""), "{line}");
    start.elapsed()
}

/// Greets again and again; most of the times must be short, and none long.
#[track_caller]
fn assert_answers_promptly(socket: &Path) {
    let mut times: Vec<_> = (0..60)
        .map(|_| {
            thread::sleep(Duration::from_millis(50));
            greeting(socket)
        })
        .collect();
    times.sort_unstable();
    println!(
        "greeted in {:?} (median), {:?} (most)",
        times[30], times[59]
    );
    // Others use this machine too: one in ten may be late.
    assert!(times[54] < Duration::from_millis(100), "{times:?}");
    assert!(times[59] < Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_large_table_of_routes_that_never_rests_keeps_nobody_waiting() {
    const ROUTES: u32 = 400_000;
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let folder = Scratch::new().unwrap();
    let mut batch = String::new();
    for number in 0..ROUTES {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(batch, "route add 20.{a}.{b}.{c}/32 dev wan").unwrap();
    }
    folder.write("routes", batch).unwrap();
    let mut ip = lab.router.command("ip").unwrap();
    ip.arg("-batch").arg(folder.path().join("routes"));
    process::run(&mut ip, Duration::from_secs(120))
        .unwrap()
        .expect_success()
        .unwrap();

    // Masqueraded clients are found by reading all routes.
    let text = format!(
        "{ONE_SERVER}\n[[masquerade]]\nclients = [\"10.0.0.0/24\"]\ncontrol_ports = [2121]\n"
    );
    let file = ConfigFile::new(&text);
    let mut gateway = file.run(&lab);
    let socket = socket(&gateway);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                lab.router
                    .ip("route add 21.0.0.1/32 dev wan\nroute del 21.0.0.1/32 dev wan")
                    .unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_answers_promptly(&socket);
        assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
        let start = Instant::now();
        gateway.stop().unwrap();
        let took = start.elapsed();
        println!("stopped in {took:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let pins = PinFolder::new().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    // Its log goes into a pipe that is open for reading and never read.
    let folder = Scratch::new().unwrap();
    let pipe = folder.path().join("log");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _unread = File::options().read(true).write(true).open(&pipe).unwrap();
    let mut command = lab.router.command("sh").unwrap();
    command
        .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""])
        .arg(Tools::get().unwrap().binary)
        .args(["run", "-vv", "--config"])
        .arg(file.path())
        .arg("--state-dir")
        .arg(pins.path())
        .env("LOG", &pipe);
    let daemon = Running::start(&mut command).unwrap();
    let ask = |words: &[&str]| {
        let mut command = lab.router.command(Tools::get().unwrap().binary).unwrap();
        command.args(words).arg("--state-dir").arg(pins.path());
        process::run(&mut command, Duration::from_secs(20)).unwrap()
    };
    wait_for("the daemon", || ask(&["events"]).success().then_some(()));
    // Far more than a pipe holds.
    for _ in 0..400 {
        assert!(ask(&["reload"]).success());
    }
    assert_eq!(fetch(&lab, &server, "PASV").unwrap(), CONTENT);
    let start = Instant::now();
    assert!(ask(&["events"]).text().contains("opened by 227"));
    println!("events in {:?}", start.elapsed());
    let start = Instant::now();
    let (ended, _) = daemon.stop(Duration::from_secs(10)).unwrap();
    let took = start.elapsed();
    println!("stopped in {took:?}");
    assert!(ended.success(), "{ended:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
