//! Several servers behind one address.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    client::Mode,
    control::Control,
    gateway::Gateway,
    lab::{Host, Lab, Plan, WAN_ADDRESS, WAN_ADDRESS_V6},
    namespace::Namespace,
    scratch::Scratch,
    server::{FtpServer, Kind, Settings},
};
use serde_json::Value;

use crate::{
    PUBLIC,
    scene::Scene,
    stage::{Stage, fetches},
};

/// How long a check may take to find a server down or up again, with the interval of
/// [`Running::start`].
const NOTICED: Duration = Duration::from_secs(12);

fn settings(tls: bool) -> Settings {
    Settings {
        passive_ports: Some(50_000..=50_999),
        // What is announced inside TLS nobody rewrites.
        announce: tls.then_some(WAN_ADDRESS),
        tls,
        ..Settings::default()
    }
}

fn lab(inside: u8) -> Lab {
    Lab::with(Plan {
        inside,
        ..Plan::default()
    })
    .unwrap()
}

fn start(kind: Kind, host: &Host, tls: bool) -> FtpServer {
    let server = FtpServer::start(kind, host, &settings(tls)).unwrap();
    server.offer("small.txt", b"as it was stored\n").unwrap();
    server
}

/// ftp-nat with the scene's configuration, but more eager checks.
struct Running<'l> {
    gateway: Gateway<'l>,
    config: PathBuf,
    _scratch: Scratch,
}

impl<'l> Running<'l> {
    fn start(router: &'l Namespace, scene: &Scene) -> Self {
        let text = scene.block("toml").unwrap();
        let eager = text.replace("interval = 5", "interval = 1\ntimeout = 1");
        assert_ne!(eager, text);
        let scratch = Scratch::new().unwrap();
        let config = scratch.write("ftp-nat.toml", &eager).unwrap();
        let path = config.display().to_string();
        Self {
            gateway: Gateway::start(router, &["--config", &path]).unwrap(),
            config,
            _scratch: scratch,
        }
    }

    /// Changes the configuration, and has it read anew.
    #[track_caller]
    fn reload(&self, change: impl FnOnce(&str) -> String) {
        let text = fs::read_to_string(&self.config).unwrap();
        let changed = change(&text);
        assert_ne!(changed, text);
        fs::write(&self.config, changed).unwrap();
        let answer = self.gateway.ask(&["reload"]).unwrap();
        answer.expect_success().unwrap();
    }

    /// What `status` has of a server, by its address, in the pool of [`PUBLIC`].
    fn server(&self, ip: &str) -> Value {
        let status = self.gateway.json(&["status"]).unwrap();
        let published = status["gateways"][0]["published"].as_array().unwrap();
        let mut servers = published
            .iter()
            .filter(|it| it["public"] == "198.51.100.1")
            .flat_map(|it| it["pool"].as_array().unwrap());
        let found = servers.find(|it| it["server"] == ip);
        found
            .unwrap_or_else(|| panic!("{ip} is not in {status:#}"))
            .clone()
    }

    /// Waits until a server is in this state.
    #[track_caller]
    fn wait_for(&self, ip: &str, state: &str) -> Value {
        let start = Instant::now();
        loop {
            let server = self.server(ip);
            if server["state"] == state {
                return server;
            }
            assert!(
                start.elapsed() < NOTICED,
                "{ip} is not {state}: {server}\n{}",
                self.gateway.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The servers of the sessions that there are, by the sessions' numbers.
    fn servers(&self) -> BTreeMap<String, String> {
        let sessions = self.gateway.json(&["sessions"]).unwrap();
        let sessions = sessions.as_array().unwrap().iter();
        let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
        sessions
            .map(|it| (text(it, "session"), text(it, "server")))
            .collect()
    }

    /// A new session, and its server.
    #[track_caller]
    fn begin(&self, host: &Host, of: &FtpServer) -> (Control, String) {
        let before = self.servers();
        let session = Control::log_in(host, &of.target_at(PUBLIC)).unwrap();
        // Earlier ones may have been swept meanwhile.
        let mut new = self.servers();
        new.retain(|number, _| !before.contains_key(number));
        assert_eq!(new.len(), 1, "{new:?}");
        (session, new.into_values().next().unwrap())
    }

    /// The names of the events about servers.
    fn events(&self) -> Vec<String> {
        let answer = self.gateway.ask(&["events", "--json"]).unwrap();
        let text = answer.expect_success().unwrap().text();
        let events = text.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {}",
                event["event"].as_str().unwrap_or_default(),
                event["inside"].as_str().unwrap_or_default()
            )
        });
        events.filter(|it| it.starts_with("server_")).collect()
    }
}

/// It still transfers, in both kinds of mode.
#[track_caller]
fn goes_on(session: &mut Control, host: &Host) {
    for verb in ["PASV", "EPSV"] {
        let content = session.fetch(host, verb, "/download/small.txt").unwrap();
        assert_eq!(content, b"as it was stored\n", "{verb}");
    }
}

#[test]
fn several_servers_share_the_clients_of_one_address() {
    let scene = Scene::named("Several servers behind one address");
    let lab = lab(3);
    let client = lab.client();
    let kinds = [Kind::Vsftpd, Kind::Proftpd, Kind::Vsftpd];
    let mut servers: Vec<Option<FtpServer>> = kinds
        .iter()
        .zip(&lab.inside)
        .map(|(kind, host)| Some(start(*kind, host, false)))
        .collect();
    let names = ["10.0.0.5", "10.0.0.6", "10.0.0.7"];
    let place_of = |ip: &str| names.iter().position(|it| *it == ip).unwrap();
    let any = start(Kind::Vsftpd, &lab.outside[0], false);

    let played = scene.play(&Stage {
        router: &lab.router,
        clients: vec![(None, client, PUBLIC)],
        server: servers[0].as_ref().unwrap(),
    });
    let v6 = SocketAddr::new(WAN_ADDRESS_V6.into(), 21);
    for mode in [Mode::Pasv, Mode::Port] {
        fetches(client, servers[0].as_ref().unwrap(), v6, mode, true).unwrap();
    }
    drop(played);

    let mut running = Running::start(&lab.router, &scene);
    for ip in &names[..2] {
        let server = running.wait_for(ip, "up");
        assert_eq!(server["why_down"], Value::Null);
    }

    // All sessions of a client go to one server.
    let (first, own) = running.begin(client, &any);
    let (second, same) = running.begin(client, &any);
    assert_eq!(own, same);
    assert_eq!(running.server(&own)["sessions"], 2);

    // Its server ends in the middle of them.
    let place = place_of(&own);
    let other = names[1 - place];
    servers[place] = None;
    drop((first, second));
    let down = running.wait_for(&own, "down");
    assert_eq!(down["why_down"], "it refuses connections");
    let labels = format!("public=\"198.51.100.1:21\",server=\"{own}:21\"");
    let metric = |running: &Running<'_>, name: &str| running.gateway.metric(name, &labels).unwrap();
    assert_eq!(metric(&running, "pool_server_up"), 0);
    let (mut session, at) = running.begin(client, &any);
    assert_eq!(at, other);
    goes_on(&mut session, client);
    let doctor = running.gateway.ask(&["doctor"]).unwrap().text();
    assert!(doctor.contains("[pool-server-down]"), "{doctor}");

    // And comes back, and so do its clients; the session that is elsewhere stays there.
    servers[place] = Some(start(kinds[place], &lab.inside[place], false));
    running.wait_for(&own, "up");
    assert_eq!(metric(&running, "pool_server_up"), 1);
    let (mut back, at) = running.begin(client, &any);
    assert_eq!(at, own);
    goes_on(&mut session, client);
    drop(session);

    // It is drained: its session goes on, new ones go elsewhere.
    let end = format!("{own}:21");
    let answer = running.gateway.ask(&["pool", "drain", &end]).unwrap();
    let text = answer.expect_success().unwrap().text();
    assert!(text.contains("new sessions go elsewhere"), "{text}");
    assert_eq!(running.server(&own)["state"], "draining");
    assert_eq!(metric(&running, "pool_server_draining"), 1);
    goes_on(&mut back, client);
    let (elsewhere, at) = running.begin(client, &any);
    assert_eq!(at, other);
    drop(elsewhere);
    let wrong = running.gateway.ask(&["pool", "drain", "10.0.0.9"]).unwrap();
    assert!(!wrong.success());
    let text = wrong.stderr;
    assert!(text.contains("no pool has a server 10.0.0.9"), "{text}");

    // A third one comes, by a reload: the drained one stays drained, and its session goes on.
    running.reload(|text| text.replace("\"10.0.0.6:21\"]", "\"10.0.0.6:21\", \"10.0.0.7:21\"]"));
    running.wait_for(names[2], "up");
    assert_eq!(running.server(&own)["state"], "draining");
    goes_on(&mut back, client);
    let events = running.events();
    for (event, ip) in [
        ("server_down", &own),
        ("server_up", &own),
        ("server_drained", &own),
    ] {
        let wanted = format!("{event} {ip}");
        assert_eq!(
            events.iter().filter(|it| **it == wanted).count(),
            1,
            "{wanted}: {events:?}"
        );
    }

    // The daemon dies and comes back.
    running.gateway.kill().unwrap();
    let (mut meanwhile, at) = running.begin(client, &any);
    assert_ne!(at, own);
    running.gateway.restart().unwrap();
    assert_eq!(running.server(&own)["state"], "draining");
    goes_on(&mut back, client);
    goes_on(&mut meanwhile, client);
    let answer = running.gateway.ask(&["pool", "undrain", &own]).unwrap();
    answer.expect_success().unwrap();
    running.wait_for(&own, "up");

    // Taken out of the list, it keeps its session.
    running.reload(|text| {
        text.replace(&format!("\"{own}:21\", "), "")
            .replace(&format!(", \"{own}:21\""), "")
    });
    goes_on(&mut back, client);
    let (mut last, at) = running.begin(client, &any);
    assert_ne!(at, own);
    goes_on(&mut last, client);
}

#[test]
fn encrypted_sessions_and_their_passive_ranges_stay_with_their_server() {
    let scene = Scene::named("Several servers behind one address");
    let lab = lab(2);
    let client = lab.client();
    let kinds = [Kind::Vsftpd, Kind::Proftpd];
    let mut servers: Vec<Option<FtpServer>> = kinds
        .iter()
        .zip(&lab.inside)
        .map(|(kind, host)| Some(start(*kind, host, true)))
        .collect();
    let any = start(Kind::Vsftpd, &lab.outside[0], true);
    scene.rules(&lab.router, "nft ftp-nat");
    let running = Running::start(&lab.router, &scene);
    let names = ["10.0.0.5", "10.0.0.6"];
    let fetch = |mode| fetches(client, &any, PUBLIC, mode, true);
    for ip in names {
        running.wait_for(ip, "up");
    }
    for mode in [Mode::Pasv, Mode::Epsv] {
        fetch(mode).unwrap();
    }
    for place in 0..names.len() {
        servers[place] = None;
        running.wait_for(names[place], "down");
        for mode in [Mode::Pasv, Mode::Epsv] {
            fetch(mode).unwrap();
        }
        servers[place] = Some(start(kinds[place], &lab.inside[place], true));
        running.wait_for(names[place], "up");
    }
    let used = running
        .gateway
        .metric("tls_permits_used_total", "")
        .unwrap();
    assert!(used >= 6, "{used}");
}

#[test]
fn a_server_that_hangs_or_turns_clients_away_is_down_and_nobody_waits_for_it() {
    let scene = Scene::named("Several servers behind one address");
    let lab = lab(2);
    let client = lab.client();
    let any = start(Kind::Vsftpd, &lab.outside[0], false);
    let _server = start(Kind::Vsftpd, &lab.inside[0], false);
    scene.rules(&lab.router, "nft ftp-nat");
    // It accepts connections and says nothing.
    let silent = lab.inside[1]
        .namespace
        .run(|| Ok(std::net::TcpListener::bind("10.0.0.6:21")?))
        .unwrap();
    let running = Running::start(&lab.router, &scene);
    let down = running.wait_for("10.0.0.6", "down");
    assert_eq!(
        down["why_down"],
        "it accepts connections, but sends no greeting"
    );
    running.wait_for("10.0.0.5", "up");
    for _ in 0..3 {
        let (mut session, at) = running.begin(client, &any);
        assert_eq!(at, "10.0.0.5");
        goes_on(&mut session, client);
    }
    // It turns everybody away.
    let refusing = thread::spawn(move || {
        use std::io::Write as _;
        while let Ok((mut stream, _)) = silent.accept() {
            if stream.write_all(b"421 Too many users\r\n").is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    loop {
        let why = running.server("10.0.0.6")["why_down"].clone();
        if why == "it greets with 421 instead of 220" {
            break;
        }
        assert!(start.elapsed() < NOTICED, "{why}");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!refusing.is_finished());
    // Nobody is left: the checks are not believed, and this is said.
    drop(_server);
    running.wait_for("10.0.0.5", "down");
    let doctor = running.gateway.ask(&["doctor", "--json"]).unwrap();
    assert!(doctor.text().contains("pool-unchecked"), "{doctor:?}");
    assert!(Control::connect(client, PUBLIC).is_err());
    let unchecked = running.gateway.metric("handshakes_unchecked_total", "");
    assert!(unchecked.unwrap() >= 1);
    // All are drained: a closed port, at once.
    for ip in ["10.0.0.5", "10.0.0.6"] {
        let answer = running.gateway.ask(&["pool", "drain", ip]).unwrap();
        answer.expect_success().unwrap();
    }
    let began = Instant::now();
    assert!(Control::connect(client, PUBLIC).is_err());
    assert!(began.elapsed() < Duration::from_secs(2));
    let reason = "reason=\"no_server\"";
    let denied = running.gateway.metric("denied_packets_total", reason);
    assert!(denied.unwrap() >= 1);
}
