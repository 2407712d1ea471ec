//! Nothing that the daemon waits for makes others wait for it: a large and restless table of
//! routes, a log or a terminal that nobody reads.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, BufReader},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    gateway::Gateway,
    lab::Lab,
    process::{self, Running},
    scratch::{PinFolder, Scratch},
    tools::Tools,
};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::{CONTENT, ConfigFile, ONE_SERVER, asked::socket, fetch, vsftpd, wait_for};

/// Where systemd would listen to a daemon, which shall give a sign of life twice in this time.
struct Watchdog {
    folder: Scratch,
    is_over: Arc<AtomicBool>,
    /// Gives how many signs came, and the longest time between two of them.
    listener: JoinHandle<(u32, Duration)>,
}

impl Watchdog {
    const PATIENCE: Duration = Duration::from_secs(2);

    fn new() -> Self {
        let folder = Scratch::new().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let listener = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let (mut signs, mut longest) = (0, Duration::ZERO);
                let mut last = None;
                let mut buffer = [0; 4096];
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(length) = socket.recv(&mut buffer) else {
                        continue;
                    };
                    if !buffer[..length].starts_with(b"WATCHDOG=1") {
                        continue;
                    }
                    signs += 1;
                    let now = Instant::now();
                    if let Some(last) = last.replace(now) {
                        longest = longest.max(now.duration_since(last));
                    }
                }
                (signs, longest)
            }
        });
        Self {
            folder,
            is_over,
            listener,
        }
    }

    /// What systemd puts into the environment of a service.
    fn environment(&self) -> [(&'static str, String); 2] {
        let socket = self.folder.path().join("notify").display().to_string();
        let patience = Self::PATIENCE.as_micros().to_string();
        [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", patience)]
    }

    /// That it never had to wait for too long.
    #[track_caller]
    fn assert_was_fed(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let (signs, longest) = self.listener.join().unwrap();
        println!("{signs} signs of life, {longest:?} apart at most");
        assert!(signs > 1 && longest < Self::PATIENCE, "{signs} {longest:?}");
    }
}

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
    let path = file.path();
    let watchdog = Watchdog::new();
    let environment = watchdog.environment();
    let environment = environment.each_ref().map(|(name, it)| (*name, &**it));
    let arguments = ["--config", path.to_str().unwrap()];
    let mut gateway = Gateway::start_in(&lab.router, &arguments, &environment).unwrap();
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
    watchdog.assert_was_fed();
}

/// A pipe that is open for reading and never read: its path.
fn unread_pipe(folder: &Scratch) -> (PathBuf, OwnedFd) {
    let pipe = folder.path().join("log");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let open = File::options().read(true).write(true).open(&pipe).unwrap();
    (pipe, open.into())
}

/// A terminal that shows nothing any more, as after Ctrl-S: its path.
fn stopped_terminal(_: &Scratch) -> (PathBuf, OwnedFd) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    (PathBuf::from(path.into_string().unwrap()), terminal)
}

#[test]
fn a_log_or_a_terminal_that_nobody_reads_holds_up_nothing() {
    for unread in [unread_pipe, stopped_terminal] {
        let lab = Lab::new().unwrap();
        let server = vsftpd(lab.server(), CONTENT);
        let pins = PinFolder::new().unwrap();
        let file = ConfigFile::new(ONE_SERVER);
        let folder = Scratch::new().unwrap();
        let (log, _unread) = unread(&folder);
        println!("{}:", log.display());
        let watchdog = Watchdog::new();
        let mut command = lab.router.command("sh").unwrap();
        command
            .args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG\""])
            .arg(Tools::get().unwrap().binary)
            .args(["run", "-vv", "--config"])
            .arg(file.path())
            .arg("--state-dir")
            .arg(pins.path())
            .env("LOG", &log)
            .envs(watchdog.environment());
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
        let status: serde_json::Value =
            serde_json::from_slice(&ask(&["status", "--json"]).stdout).unwrap();
        let sockets = Path::new("/run/ftp-nat").join(status["namespace"].as_str().unwrap());
        assert_answers_promptly(&sockets.join("wan.sock"));
        assert!(ask(&["events"]).text().contains("opened by 227"));
        let start = Instant::now();
        let (ended, _) = daemon.stop(Duration::from_secs(10)).unwrap();
        let took = start.elapsed();
        println!("stopped in {took:?}");
        assert!(ended.success(), "{ended:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        watchdog.assert_was_fed();
    }
}
