//! Somebody else writes to the engine: that opens nothing which is not published.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ftp_nat_tests::{
    fleet::{
        CLIENT, Fleet, PUBLIC, SERVER,
        speaker::{Bytes, ConnectionRecord, MappingRecord, SessionRecord, Speaker},
    },
    gateway::Gateway,
};
use serde_json::Value;

/// How many records are forged.
const RECORDS: usize = 10_000;
const RANGE: std::ops::RangeInclusive<u16> = 50_000..=50_999;
/// Another host inside, and another address of the client.
const OTHER: &str = "10.0.0.77";
const SECOND: &str = "198.51.100.9";
/// A client that is on the deny list.
const BANNED: &str = "198.51.100.66";

/// Numbers at random, the same ones in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn address(&mut self) -> IpAddr {
        let all = [
            "198.51.100.20",
            SECOND,
            BANNED,
            BANNED,
            "198.51.100.1",
            "198.51.100.2",
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.5",
            OTHER,
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "2001:db8::1",
            "fd00:10::5",
            "::",
        ];
        self.one_of(&all).parse().unwrap()
    }

    fn port(&mut self) -> u16 {
        let all = [
            0, 1, 20, 21, 22, 80, 1023, 1024, 3306, 8080, 40_000, 49_999, 50_000, 50_500, 50_999,
            51_000, 65_535,
        ];
        self.one_of(&all)
    }

    /// Mostly this; else any.
    fn end(&mut self, usual: SocketAddr) -> SocketAddr {
        match self.below(8) {
            0 => (self.address(), self.port()).into(),
            1 => (self.address(), usual.port()).into(),
            2 | 3 => (usual.ip(), self.port()).into(),
            _ => usual,
        }
    }
}

/// A record that is right but for some of its fields.
fn forge(random: &mut Random) -> Bytes {
    let session = 0x0c00_0000 + random.below(64) as u32;
    let clients: [IpAddr; 2] = [CLIENT.into(), SECOND.parse().unwrap()];
    // A session has the same client in each of its records, if nothing was changed.
    let client: IpAddr = clients[session as usize % 2];
    let port = 40_000 + (session & 63) as u16;
    let usual_kind = [2, 3][random.below(2)];
    let kind = if random.below(8) == 0 {
        random.below(6) as u8
    } else {
        usual_kind
    };
    let mut bytes = match random.below(3) {
        0 => SessionRecord {
            session,
            role: [1, 1, 1, 2, 0, 3][random.below(6)],
            inside: random.end((SERVER, 21).into()),
            outside: random.end((client, port).into()),
            public: random.end((PUBLIC, 21).into()),
            seen: 1000 + random.below(1000) as u32,
        }
        .bytes(),
        1 => ConnectionRecord {
            session,
            kind,
            is_untranslated: random.below(8) == 0,
            outside: random.end((client, 40_000).into()),
            public: random.end((PUBLIC, 50_500).into()),
            seen: (random.below(8) == 0).then(|| random.end((SERVER, 21).into())),
            inside: random.end((SERVER, 50_500).into()),
        }
        .bytes(),
        _ => MappingRecord {
            session,
            kind,
            is_outward: if random.below(8) == 0 {
                random.below(2) == 0
            } else {
                kind == 3
            },
            outside: (random.below(8) != 0).then(|| random.end((client, 40_000).into())),
            public: random.end((PUBLIC, 50_500).into()),
            inside: random.end((SERVER, 50_500).into()),
        }
        .bytes(),
    };
    if random.below(16) == 0 {
        let place = random.below(bytes.0.len());
        bytes.0[place] ^= 1 << random.below(8);
    }
    bytes
}

fn known(gateway: &Gateway<'_>) -> Value {
    gateway.json(&["cluster", "status"]).unwrap()[0].clone()
}

fn sum(status: &Value) -> usize {
    let results = ["installed", "stale", "refused", "unknown", "no_room"];
    let counts = results.map(|name| status[name].as_u64().unwrap());
    counts.iter().sum::<u64>() as usize
}

/// Listeners inside, by address and port, and how many connections each has had.
fn listen(fleet: &Fleet, addresses: &[SocketAddr]) -> BTreeMap<SocketAddr, Arc<AtomicUsize>> {
    let host = &fleet.server.namespace;
    let mut counts = BTreeMap::new();
    for address in addresses {
        let count = Arc::<AtomicUsize>::default();
        let its = Arc::clone(&count);
        let listener = host.run(|| Ok(TcpListener::bind(address)?)).unwrap();
        thread::spawn(move || {
            for _ in listener.incoming() {
                its.fetch_add(1, Ordering::SeqCst);
            }
        });
        counts.insert(*address, count);
    }
    counts
}

/// Which ends behind the gateway the entries lead to that are not allowed.
fn beyond_the_policy(gateway: &Gateway<'_>) -> Vec<String> {
    let mut beyond = Vec::new();
    // A client may be anybody outside, but nobody whom a list here keeps out.
    let nobody = [SERVER.to_string(), PUBLIC.to_string(), BANNED.to_owned()];
    let nobody = |client: &Value| nobody.iter().any(|it| client == it.as_str());
    for session in gateway.json(&["sessions"]).unwrap().as_array().unwrap() {
        let is_allowed = session["public"] == PUBLIC.to_string().as_str()
            && session["public_port"] == 21
            && session["server"] == SERVER.to_string().as_str()
            && session["server_port"] == 21
            && !nobody(&session["client"]);
        if !is_allowed {
            beyond.push(session.to_string());
        }
    }
    for what in ["mappings", "flows"] {
        for entry in gateway.json(&[what]).unwrap().as_array().unwrap() {
            let port = |name: &str| entry[name].as_u64().unwrap_or(0) as u16;
            let kind = entry["kind"].as_str().unwrap();
            let (peer, peer_port) = if what == "mappings" {
                ("peer", "peer_port")
            } else {
                ("outside", "outside_port")
            };
            let fits = match kind {
                "control" => port("inside_port") == 21 && port("public_port") == 21,
                "passive" => RANGE.contains(&port("inside_port")) && port("public_port") >= 1024,
                _ => {
                    port(peer_port) >= 1024
                        && ["inside_port", "public_port"]
                            .iter()
                            .all(|name| matches!(port(name), 0 | 20 | 1024..))
                }
            };
            let is_allowed = fits
                && entry["public"] == PUBLIC.to_string().as_str()
                && entry["inside"] == SERVER.to_string().as_str()
                && !nobody(&entry[peer]);
            if !is_allowed {
                beyond.push(format!("{what}: {entry}"));
            }
        }
    }
    beyond
}

#[test]
fn forged_records_open_no_port_beyond_the_policy() {
    let fleet = Fleet::new().unwrap();
    let host = &fleet.server.namespace;
    host.ip(&format!("addr add {OTHER}/24 dev eth0")).unwrap();
    let client = &fleet.client.namespace;
    client
        .ip(&format!("addr add {SECOND}/24 dev eth0"))
        .unwrap();
    let more = format!(
        "passive_ports = \"{}-{}\"\ndeny = [\"{BANNED}\"]\n",
        RANGE.start(),
        RANGE.end()
    );
    let gateway = fleet.gateway(0, &more).unwrap();
    fleet.routers[0]
        .ip(&format!(
            "addr add {PUBLIC}/24 dev wan\naddr add 10.0.0.1/24 dev lan"
        ))
        .unwrap();
    let ports = [20, 22, 80, 1024, 3306, 8080, 40_000, 49_999, 51_000, 65_535];
    let mut closed: Vec<SocketAddr> = ports.map(|port| (SERVER, port).into()).to_vec();
    let other: IpAddr = OTHER.parse().unwrap();
    closed.extend([21, 22, 8080, 50_000, 50_500, 50_999].map(|port| SocketAddr::new(other, port)));
    let closed = listen(&fleet, &closed);
    let open = listen(&fleet, &[(SERVER, 50_777).into()]);

    let mut speaker = Speaker::join(&fleet, 3).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for _ in 0..RECORDS / 500 {
        let records: Vec<_> = (0..500).map(|_| forge(&mut random)).collect();
        speaker.tell(&records).unwrap();
        assert_eq!(beyond_the_policy(&gateway), [""; 0]);
    }
    // And what is no batch at all.
    for length in 0..200 {
        let noise: Vec<_> = (0..length).map(|_| random.below(256) as u8).collect();
        speaker.write(&noise).unwrap();
    }
    let start = Instant::now();
    while sum(&known(&gateway)) < RECORDS {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{}",
            known(&gateway)
        );
        thread::sleep(Duration::from_millis(20));
    }
    let status = known(&gateway);
    for (result, least) in [("installed", 200), ("refused", 1000)] {
        assert!(status[result].as_u64().unwrap() > least, "{status}");
    }
    assert_eq!(beyond_the_policy(&gateway), [""; 0]);
    // One that is allowed, to see that the way is open at all.
    let outside: SocketAddr = (CLIENT, 41_000).into();
    let record = SessionRecord {
        session: 0x0c00_0100,
        role: 1,
        inside: (SERVER, 21).into(),
        outside,
        public: (PUBLIC, 21).into(),
        seen: 1000,
    };
    let mapping = MappingRecord {
        session: record.session,
        kind: 2,
        is_outward: false,
        outside: Some(outside),
        public: (PUBLIC, 50_777).into(),
        inside: (SERVER, 50_777).into(),
    };
    let before = known(&gateway)["installed"].as_u64().unwrap();
    speaker.tell(&[record.bytes(), mapping.bytes()]).unwrap();
    while known(&gateway)["installed"].as_u64().unwrap() < before + 2 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{}",
            known(&gateway)
        );
        thread::sleep(Duration::from_millis(20));
    }
    let dial = |from: &str, port: u16| {
        let connected = client.run(|| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from.parse()?, 0).into())?;
            let to = SocketAddr::new(PUBLIC.into(), port).into();
            Ok(socket
                .connect_timeout(&to, Duration::from_millis(60))
                .is_ok())
        });
        connected.unwrap()
    };
    let own = CLIENT.to_string();
    assert!(dial(&own, 50_777));
    for from in [own.as_str(), SECOND] {
        for port in (1..=65_535).filter(|port| port % 1024 < 2 || ports.contains(port)) {
            dial(from, port);
        }
        for port in [50_000, 50_500, 50_999] {
            dial(from, port);
        }
    }
    let met: Vec<_> = closed
        .iter()
        .filter(|(_, count)| count.load(Ordering::SeqCst) > 0)
        .collect();
    println!(
        "| {RECORDS} forged records | 0 ports open beyond the policy | {} |",
        met.len()
    );
    assert!(met.is_empty(), "{met:?}");
    assert!(open.values().all(|count| count.load(Ordering::SeqCst) > 0));
}
