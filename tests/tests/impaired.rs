//! Transfers over networks that lose, double, reorder and delay packets, in both directions, data
//! and control connections alike: netem, at three strengths. What is marked as ignored needs the
//! kernel's sch_netem; `cargo xtask vm` runs it in kernels that have it.
//!
//! Numbered datagrams show first that the network does what it is to do.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, Lab, WAN_ADDRESS},
    process,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);

/// Bytes of each file.
const SIZE: usize = 300_000;

/// Rounds of PORT and RETR in one session, every one of which changes the length of a command.
const ROUNDS: u16 = 12;

/// How long a client waits for a connection or a reply: a SYN that is lost four times has come after
/// 31 s (RFC 6298).
const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(180);

/// Prints a line. Unlike `println!`, a test that succeeds shows it.
fn tell(line: &str) {
    let mut output = io::stdout();
    writeln!(output, "{line}").unwrap();
}

/// What is done to the packets that a host sends.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// So many of a hundred are lost.
    Loss(u32),
    /// So many of a hundred come 10 ms late, and others overtake them.
    Reordering(u32),
    /// So many of a hundred come twice.
    Duplication(u32),
    /// All come so many milliseconds late, give or take half of that, and overtake each other.
    Delay(u32),
}

impl Harm {
    /// As tc writes it.
    fn netem(self) -> String {
        match self {
            Self::Loss(share) => format!("loss {share}%"),
            // What is not "reordered" by netem is what waits.
            Self::Reordering(share) => format!("delay 10ms reorder {}%", 100 - share),
            Self::Duplication(share) => format!("duplicate {share}%"),
            Self::Delay(time) => format!("delay {time}ms {}ms", time.div_ceil(2)),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Loss(share) => format!("loss {share} %"),
            Self::Reordering(share) => format!("reordering {share} %"),
            Self::Duplication(share) => format!("duplication {share} %"),
            Self::Delay(time) => format!("delay {time} ms"),
        }
    }

    /// From now on, of what the host sends: single segments, as on a wire.
    fn strike(self, host: &Host) {
        firewall::single_segments(&host.namespace, HOST_INTERFACE).unwrap();
        let mut tc = host.namespace.command("tc").unwrap();
        tc.args([
            "qdisc",
            "add",
            "dev",
            HOST_INTERFACE,
            "root",
            "netem",
            "limit",
            "10000",
        ])
        .args(self.netem().split(' '));
        process::run(&mut tc, PATIENCE)
            .unwrap()
            .expect_success()
            .unwrap();
    }
}

/// What a run came to.
#[derive(Default)]
struct Tally {
    transfers: u32,
    slowest: Duration,
}

fn survives(harm: Harm) {
    let mut tally = Tally::default();
    let start = Instant::now();
    files(
        harm,
        true,
        &[Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt],
        &mut tally,
    );
    files(harm, false, &[Mode::Port, Mode::Eprt], &mut tally);
    let files_took = start.elapsed();
    let start = Instant::now();
    one_long_session(harm);
    tell(&format!(
        "impaired {}: {} of {} files whole in {:.0} s, the slowest {:.1} s; {ROUNDS} of {ROUNDS} \
         adjusted rounds in {:.0} s",
        harm.name(),
        tally.transfers,
        tally.transfers,
        files_took.as_secs_f64(),
        tally.slowest.as_secs_f64(),
        start.elapsed().as_secs_f64()
    ));
}

/// All modes at once, each stores and fetches.
fn files(harm: Harm, publish: bool, modes: &[Mode], tally: &mut Tally) {
    let lab = Lab::new().unwrap();
    let (client, server_host, rules) = if publish {
        (lab.client(), lab.server(), firewall::DROP_FORWARDED)
    } else {
        (lab.server(), lab.client(), firewall::MASQUERADE)
    };
    lab.router.nft(rules).unwrap();
    let server = FtpServer::start(Kind::Vsftpd, server_host, &Settings::default()).unwrap();
    let content: Vec<u8> = (0..SIZE as u32)
        .flat_map(|at| (at / 3).to_le_bytes())
        .collect();
    let content = &content[..SIZE];
    server.offer("file.bin", content).unwrap();
    let scratch = Scratch::new().unwrap();
    let local = scratch.write("local.bin", content).unwrap();
    let (role, address) = if publish {
        (["--publish", "198.51.100.1:21=10.0.0.5:21"], PUBLIC)
    } else {
        (["--masquerade", "10.0.0.0/24"], server_host.at(21))
    };
    let gateway = Gateway::start(&lab.router, &[&["--wan", "wan"][..], &role].concat()).unwrap();
    let ends = [client, server_host];
    ends.into_iter().for_each(|host| harm.strike(host));
    if publish {
        is_done(harm, &lab);
    }
    let run_one = |mode: Mode, stores: bool| {
        let start = Instant::now();
        let name = format!("{mode:?}.bin");
        let path = format!("/upload/{name}");
        let job = if stores {
            Job::Store(&local, &path)
        } else {
            Job::Fetch("/download/file.bin")
        };
        let target = server.target_at(address);
        let session = Client::Curl
            .perform_within(PATIENCE, LIMIT, client, &target, mode, job)
            .and_then(Session::expect_success)
            .unwrap_or_else(|error| panic!("{harm:?} {mode:?}: {error:#}\n{}", gateway.log()));
        let is_same = if stores {
            server.stored(&name).unwrap() == content
        } else {
            session.content == content
        };
        assert!(is_same, "{harm:?} {mode:?} {job:?}: another content");
        start.elapsed()
    };
    let times: Vec<Duration> = thread::scope(|scope| {
        let jobs = modes
            .iter()
            .flat_map(|mode| [(*mode, false), (*mode, true)]);
        let run_one = &run_one;
        let threads: Vec<_> = jobs
            .map(|(mode, stores)| scope.spawn(move || run_one(mode, stores)))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    tally.transfers += times.len() as u32;
    tally.slowest = tally.slowest.max(times.into_iter().max().unwrap());
}

/// One session whose every command is replaced by a longer or shorter one.
fn one_long_session(harm: Harm) {
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let (client, outside) = (lab.server(), lab.client());
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    server.offer("file.txt", b"again").unwrap();
    let run = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let target = server.target_at(outside.at(21));
    let mut control = Control::log_in(client, &target).unwrap();
    control.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    [client, outside]
        .into_iter()
        .for_each(|host| harm.strike(host));
    for round in 0..ROUNDS {
        let port = 2000 + round * 4243;
        let listener = client
            .namespace
            .run(|| Ok(TcpListener::bind((client.v4, port))?))
            .unwrap();
        let [high, low] = port.to_be_bytes();
        let reply = control
            .command(&format!("PORT 10,0,0,5,{high},{low}"))
            .unwrap();
        assert!(reply.starts_with("200"), "{harm:?}, round {round}: {reply}");
        control.send("RETR /download/file.txt\r\n").unwrap();
        control.expect("150").unwrap();
        let (data, _) = listener.accept().unwrap();
        assert_eq!(control::read_all(&data).unwrap(), b"again");
        control.expect("226").unwrap();
    }
    assert!(control.command("NOOP").unwrap().starts_with("200"));
    drop(gateway);
}

/// Numbered datagrams from the client to the router, and how they came.
fn is_done(harm: Harm, lab: &Lab) {
    const DATAGRAMS: u32 = 2000;
    const UNCOUNTED: u32 = u32::MAX;
    let open = |address| move || Ok(UdpSocket::bind((address, 0))?);
    let receiver = lab.router.run(open(WAN_ADDRESS)).unwrap();
    let sender = lab.client().namespace.run(open(lab.client().v4)).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut bytes = [0; 4];
    // Until the router's hardware address is known: asking for it may be lost as well.
    loop {
        sender.send(&UNCOUNTED.to_be_bytes()).unwrap();
        if receiver.recv(&mut bytes).is_ok() {
            break;
        }
    }
    let start = Instant::now();
    let came = thread::spawn(move || {
        let mut came = Vec::new();
        while receiver.recv(&mut bytes).is_ok() {
            came.push((u32::from_be_bytes(bytes), start.elapsed()));
        }
        came.retain(|(number, _)| *number != UNCOUNTED);
        came
    });
    let mut sent = Vec::new();
    for number in 0..DATAGRAMS {
        sent.push(start.elapsed());
        sender.send(&number.to_be_bytes()).unwrap();
        thread::sleep(Duration::from_micros(200));
    }
    let came = came.join().unwrap();
    let mut times = vec![0_u32; DATAGRAMS as usize];
    let mut late = Duration::ZERO;
    for (number, at) in &came {
        times[*number as usize] += 1;
        late += at.saturating_sub(sent[*number as usize]);
    }
    let lost = times.iter().filter(|times| **times == 0).count();
    let doubled = times.iter().filter(|times| **times > 1).count();
    let overtaken = came.windows(2).filter(|two| two[0].0 > two[1].0).count();
    let late = late / came.len() as u32;
    tell(&format!(
        "{harm:?}: of {DATAGRAMS} datagrams {lost} lost, {doubled} doubled, {overtaken} overtaken; \
         {:.1} ms on average",
        late.as_secs_f64() * 1000.0
    ));
    let is_near = |seen: usize, share: u32| {
        let wanted = f64::from(DATAGRAMS * share) / 100.0;
        // Far beyond what chance may do.
        (seen as f64 - wanted).abs() < 6.0 * wanted.sqrt()
    };
    assert!(match harm {
        Harm::Loss(share) => is_near(lost, share),
        Harm::Reordering(share) => overtaken > 0 && overtaken <= (DATAGRAMS * share / 50) as usize,
        Harm::Duplication(share) => is_near(doubled, share),
        Harm::Delay(time) => late >= Duration::from_millis(time.into()) * 9 / 10,
    });
}

macro_rules! cases {
    ($($name:ident: $harm:ident $strength:literal;)*) => {
        $(
            #[test]
            #[ignore = "needs the kernel's sch_netem; `cargo xtask vm` runs it"]
            fn $name() {
                survives(Harm::$harm($strength));
            }
        )*
    };
}

cases! {
    packets_are_lost_1: Loss 1;
    packets_are_lost_5: Loss 5;
    packets_are_lost_20: Loss 20;
    packets_are_overtaken_1: Reordering 1;
    packets_are_overtaken_5: Reordering 5;
    packets_are_overtaken_20: Reordering 20;
    packets_come_twice_1: Duplication 1;
    packets_come_twice_5: Duplication 5;
    packets_come_twice_20: Duplication 20;
    packets_come_late_1: Delay 1;
    packets_come_late_5: Delay 5;
    packets_come_late_20: Delay 20;
}
