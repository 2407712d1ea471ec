//! Large files through the gateway while five of a hundred packets are lost in each direction, on
//! the control connection as well. How many were lost is counted: a test without loss would show
//! nothing.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::Instant,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    control::{self, Control},
    firewall,
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, Lab, WAN_ADDRESS},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(WAN_ADDRESS), 21);
const SIZE: usize = 50_000_000;

/// Bytes that repeat nowhere near: a lost or doubled piece cannot hide.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// All modes at once, each stores and fetches, with every packet's chance to be lost.
fn survives(publish: bool) {
    let lab = Lab::new().unwrap();
    let (client, server_host) = if publish {
        lab.router.nft(firewall::DROP_FORWARDED).unwrap();
        (lab.client(), lab.server())
    } else {
        lab.router.nft(firewall::MASQUERADE).unwrap();
        (lab.server(), lab.client())
    };
    let server = FtpServer::start(Kind::Vsftpd, server_host, &Settings::default()).unwrap();
    let content = noise(SIZE);
    server.offer("file.bin", &content).unwrap();
    let scratch = Scratch::new().unwrap();
    let local = scratch.write("local.bin", &content).unwrap();
    let (run, address, modes): (_, _, &[Mode]) = if publish {
        (
            ["--publish", "198.51.100.1:21=10.0.0.5:21"],
            PUBLIC,
            &[Mode::Pasv, Mode::Epsv, Mode::Port],
        )
    } else {
        (
            ["--masquerade", "10.0.0.0/24"],
            server_host.at(21),
            &[Mode::Port, Mode::Eprt],
        )
    };
    let gateway = Gateway::start(&lab.router, &[&["--wan", "wan"][..], &run].concat()).unwrap();
    let ends = [client, server_host];
    ends.into_iter().for_each(lose_five_percent);
    let run_one = |mode: Mode, stores: bool| {
        let start = Instant::now();
        let name = format!("{mode:?}.bin");
        let path = format!("/upload/{name}");
        let job = if stores {
            Job::Store(&local, &path)
        } else {
            Job::Fetch("/download/file.bin")
        };
        let session = Client::Curl
            .perform(client, &server.target_at(address), mode, job)
            .and_then(Session::expect_success)
            .unwrap_or_else(|error| panic!("{mode:?}: {error:#}\n{}", gateway.log()));
        let is_same = if stores {
            server.stored(&name).unwrap() == content
        } else {
            session.content == content
        };
        assert!(is_same, "{mode:?} {job:?}: another content");
        println!(
            "{} {mode:?} {}: {} MB in {:.1} s",
            if publish { "publish" } else { "masquerade" },
            if stores { "stored" } else { "fetched" },
            SIZE / 1_000_000,
            start.elapsed().as_secs_f64()
        );
    };
    thread::scope(|scope| {
        for &mode in modes {
            let run_one = &run_one;
            scope.spawn(move || run_one(mode, false));
            scope.spawn(move || run_one(mode, true));
        }
    });
    for host in ends {
        assert_lossy(host, 5_000);
    }
}

/// From now on, of what comes to the host: single segments, as on a wire.
fn lose_five_percent(host: &Host) {
    host.namespace.nft(firewall::LOSE_FIVE_PERCENT).unwrap();
    firewall::single_segments(&host.namespace, HOST_INTERFACE).unwrap();
}

/// About five of a hundred packets that came to the host were lost, of `least` or more.
fn assert_lossy(host: &Host, least: u64) {
    let [seen, lost] = firewall::losses(&host.namespace).unwrap();
    println!("{}: {lost} of {seen} packets lost", host.v4);
    assert!(seen >= least, "{seen}");
    let share = lost as f64 / seen as f64;
    // Far beyond what chance may do with that many.
    let chance = 5.0 * (0.05 * 0.95 / seen as f64).sqrt();
    assert!((share - 0.05).abs() < chance, "{lost} of {seen}");
}

#[test]
fn published_files_survive_five_percent_loss() {
    survives(true);
}

#[test]
fn masqueraded_files_survive_five_percent_loss() {
    survives(false);
}

#[test]
fn a_control_connection_with_many_adjustments_survives_five_percent_loss() {
    const ROUNDS: u16 = 60;
    let lab = Lab::new().unwrap();
    lab.router.nft(firewall::MASQUERADE).unwrap();
    let (client, outside) = (lab.server(), lab.client());
    let server = FtpServer::start(Kind::Vsftpd, outside, &Settings::default()).unwrap();
    server.offer("file.txt", b"again").unwrap();
    let run = ["--wan", "wan", "--masquerade", "10.0.0.0/24"];
    let gateway = Gateway::start(&lab.router, &run).unwrap();
    let target = server.target_at(outside.at(21));
    let mut control = Control::log_in(client, &target).unwrap();
    let ends = [client, outside];
    ends.into_iter().for_each(lose_five_percent);
    let start = Instant::now();
    for round in 0..ROUNDS {
        // Ports of three to five digits' worth of text: every command grows by another length.
        let port = 2000 + round * 977 % 50_000;
        let listener = client
            .namespace
            .run(|| Ok(TcpListener::bind((client.v4, port))?))
            .unwrap();
        let [high, low] = port.to_be_bytes();
        let reply = control.command(&format!("PORT 10,0,0,5,{high},{low}"));
        let reply = reply.unwrap_or_else(|error| panic!("round {round}: {error:#}"));
        assert!(reply.starts_with("200"), "round {round}: {reply}");
        control.send("RETR /download/file.txt\r\n").unwrap();
        control.expect("150").unwrap();
        let (data, _) = listener.accept().unwrap();
        assert_eq!(control::read_all(&data).unwrap(), b"again");
        control.expect("226").unwrap();
    }
    assert!(control.command("NOOP").unwrap().starts_with("200"));
    println!(
        "{ROUNDS} rounds of PORT and RETR in one connection: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    for host in ends {
        assert_lossy(host, 300);
    }
    drop(gateway);
}
