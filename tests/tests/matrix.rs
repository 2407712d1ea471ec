//! Every server with every client, in every mode that the client knows, over IPv4 and IPv6: servers
//! behind the gateway and clients behind it. The router's firewall forwards nothing for the one,
//! and lets nothing in for the other.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use ftp_nat_tests::{
    client::{Client, Job, Mode, Session},
    firewall,
    gateway::Gateway,
    lab::{Host, Lab, WAN_ADDRESS, WAN_ADDRESS_V6},
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};

/// Which end is behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Publish,
    Masquerade,
}

const PUBLISH: &[&str] = &[
    "--wan",
    "wan",
    "--publish",
    "198.51.100.1:21=10.0.0.5:21",
    "--publish",
    "[2001:db8:1::1]:21=[fd00:10::5]:21",
];

const MASQUERADE: &[&str] = &[
    "--wan",
    "wan",
    "--masquerade",
    "10.0.0.0/24",
    "--masquerade",
    "fd00:10::/64",
];

const MODES: [Mode; 4] = [Mode::Pasv, Mode::Epsv, Mode::Port, Mode::Eprt];

/// A transfer: who, how, what.
struct Case<'a> {
    client: Client,
    mode: Mode,
    address: SocketAddr,
    job: Job<'a>,
}

fn all_pass(kind: Kind, role: Role) {
    let lab = Lab::new().unwrap();
    let (rules, arguments, host, server_host) = match role {
        Role::Publish => (
            firewall::DROP_FORWARDED,
            PUBLISH,
            lab.client(),
            lab.server(),
        ),
        Role::Masquerade => (firewall::MASQUERADE, MASQUERADE, lab.server(), lab.client()),
    };
    let dialled: [IpAddr; 2] = match role {
        Role::Publish => [WAN_ADDRESS.into(), WAN_ADDRESS_V6.into()],
        Role::Masquerade => [server_host.v4.into(), server_host.v6.into()],
    };
    lab.router.nft(rules).unwrap();
    let server = FtpServer::start(kind, server_host, &Settings::default()).unwrap();
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    server.offer("file.bin", &content).unwrap();
    let scratch = Scratch::new().unwrap();
    let local = scratch.write("local.bin", &content).unwrap();
    let gateway = Gateway::start(&lab.router, arguments).unwrap();

    // The clients side by side, each one's transfers one after the other. But pyftpdlib (1.5.7)
    // forgets a connection now and then when several come at once, without a gateway too.
    let side_by_side = kind != Kind::Pyftpdlib;
    let of_client = |client: Client| {
        let mut failures = Vec::new();
        let mut done = 0;
        for address in dialled.map(|ip| SocketAddr::new(ip, 21)) {
            for mode in MODES {
                let name = format!("{client:?}-{mode:?}-{}.bin", address.is_ipv4());
                let path = format!("/upload/{name}");
                let case = |job| Case {
                    client,
                    mode,
                    address,
                    job,
                };
                let fetch = case(Job::Fetch("/download/file.bin"));
                // Which way the bytes go is no matter of the mode: once each is enough.
                let other = match mode {
                    Mode::Epsv | Mode::Eprt => case(Job::Store(&local, &path)),
                    Mode::Pasv | Mode::Port => case(Job::List("/download")),
                };
                for case in [fetch, other] {
                    if !client.can(address, mode, case.job) {
                        continue;
                    }
                    failures.extend(fails(host, &server, &case, &name, &content));
                    done += 1;
                }
            }
        }
        assert!(done >= 4, "{client:?} did {done} transfers");
        failures
    };
    let failures: Vec<String> = if side_by_side {
        thread::scope(|scope| {
            let of_client = &of_client;
            let threads = Client::ALL.map(|client| scope.spawn(move || of_client(client)));
            let results = threads.into_iter().map(|it| it.join().unwrap());
            results.flatten().collect()
        })
    } else {
        Client::ALL.into_iter().flat_map(of_client).collect()
    };
    assert!(
        failures.is_empty(),
        "{}\nthe gateway said:\n{}\nthe server said:\n{}",
        failures.join("\n\n"),
        gateway.log(),
        server.log()
    );
    for reason in ["bounce", "port", "unreadable", "no_free_port"] {
        let labels = format!("reason=\"{reason}\"");
        assert_eq!(gateway.metric("denied_packets_total", &labels).unwrap(), 0);
    }
}

/// What is wrong with a transfer, if anything is.
fn fails(
    host: &Host,
    server: &FtpServer,
    case: &Case<'_>,
    name: &str,
    content: &[u8],
) -> Option<String> {
    let Case {
        client,
        mode,
        address,
        job,
    } = case;
    let what = format!("{client:?} {mode:?} {address} {job:?}");
    let result = client
        .perform(host, &server.target_at(*address), *mode, *job)
        .and_then(Session::expect_success);
    let session = match result {
        Ok(session) => session,
        Err(error) => return Some(format!("{what}: {error:#}")),
    };
    let is_right = match job {
        Job::Store(..) => server.stored(name).is_ok_and(|stored| stored == content),
        Job::List(_) => String::from_utf8_lossy(&session.content).contains("file.bin"),
        Job::Fetch(_) => session.content == content,
    };
    // Whether the client did what it was asked to, and not what it likes better. (tnftp shows no
    // commands.)
    let told = |code| session.replies(code).next().is_some();
    let sent = |verb| session.transcript.contains(verb) || *client == Client::Tnftp;
    let passive = [told("227"), told("229")];
    let took_the_way = match mode {
        Mode::Pasv => passive == [true, false],
        Mode::Epsv => passive == [false, true],
        Mode::Port => passive == [false, false] && sent("PORT"),
        Mode::Eprt => passive == [false, false] && sent("EPRT"),
    };
    (!is_right || !took_the_way).then(|| {
        format!(
            "{what}: right content {is_right}, its own mode {took_the_way}\n{}",
            session.transcript
        )
    })
}

macro_rules! cases {
    ($($name:ident: $kind:ident, $role:ident;)*) => {
        $(
            #[test]
            fn $name() {
                all_pass(Kind::$kind, Role::$role);
            }
        )*
    };
}

cases! {
    vsftpd_behind_the_gateway_serves_every_client_in_every_mode: Vsftpd, Publish;
    proftpd_behind_the_gateway_serves_every_client_in_every_mode: Proftpd, Publish;
    pure_ftpd_behind_the_gateway_serves_every_client_in_every_mode: PureFtpd, Publish;
    pyftpdlib_behind_the_gateway_serves_every_client_in_every_mode: Pyftpdlib, Publish;
    every_client_behind_the_gateway_reaches_vsftpd_in_every_mode: Vsftpd, Masquerade;
    every_client_behind_the_gateway_reaches_proftpd_in_every_mode: Proftpd, Masquerade;
    every_client_behind_the_gateway_reaches_pure_ftpd_in_every_mode: PureFtpd, Masquerade;
    every_client_behind_the_gateway_reaches_pyftpdlib_in_every_mode: Pyftpdlib, Masquerade;
}
