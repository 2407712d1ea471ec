//! What each kind of packet costs: nanoseconds in the daemon's own programs, by
//! BPF_PROG_TEST_RUN, above an empty program.
//!
//! A test run repeats a program on one packet, which the first turn has changed already. So what
//! is repeated is a small program that writes the packet anew and then goes on, by a tail call,
//! into the program to be measured; with an empty program behind it, the same is what measuring
//! costs. All kinds take turns, so that what disturbs one disturbs the others too, and the cost of
//! each turn is the difference within that turn.
//!
//! A reply 227 changes its session. So many sessions are prepared, each waiting for its 227, and
//! each turn reads another one's; afterwards their state is put back.

use std::{collections::HashMap as StdMap, net::SocketAddrV4};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, ProgramArray},
    programs::SchedClassifier,
};
use ftp_nat_common::{
    abi::{Flow, FlowKey4, Mapping, MappingKey, Session as State, map, side},
    addr::Port,
};
use ftp_nat_tests::lab::{LAN, Lab, WAN, WAN_ADDRESS};

use super::{
    Options,
    figure::Figure,
    frame::{self, PSH, SYN, SYN_OPTIONS, Tcp, words},
    programs::{
        self, Cell, Ran, classifier, last_cpu,
        layout::{FRAME, Plan, SMALL, flow_address, flow_port},
        pinned, run_tc, stay_on_cpu, take,
    },
    scene::{Router, Scene, Settings, at, ifindex},
    session::{self, Session},
};
use crate::progress::say;

/// TC's verdicts (linux/pkt_cls.h).
const NEXT: i32 = -1;
const REDIRECT: i32 = 7;

/// How many sessions wait for their 227.
const SESSIONS: u16 = 1024;
/// Their control connections' ports at the client.
const CONTROL_PORTS: u16 = 20_000;

/// The data port that the server of a session announces, as its reply has it: both numbers always
/// of three digits, so that all replies are of one length.
fn data_port(session: u16) -> [u8; 2] {
    [200 + (session / 156) as u8, 100 + (session % 156) as u8]
}

/// TCP's timestamps, as in nearly every segment on the internet.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0];

/// A kind of packet.
#[derive(Clone, Copy)]
struct Kind {
    key: &'static str,
    /// The program that it meets.
    program: &'static str,
    /// Whether it comes in at the WAN.
    is_outside: bool,
    verdict: i32,
    /// Whether each turn is of another flow.
    spreads: bool,
}

const fn kind(key: &'static str, program: &'static str, verdict: i32) -> Kind {
    Kind {
        key,
        program,
        is_outside: program.len() == "wan_ingress".len() && program.as_bytes()[0] == b'w',
        verdict,
        spreads: false,
    }
}

const WAN_PROGRAM: &str = "wan_ingress";
const LAN_PROGRAM: &str = "lan_ingress";

/// What is measured. `empty` must come first: the others' costs are above its.
const KINDS: [Kind; 9] = [
    kind("empty", WAN_PROGRAM, NEXT),
    kind("not_ip", WAN_PROGRAM, NEXT),
    kind("udp", WAN_PROGRAM, NEXT),
    kind("tcp_not_ours", WAN_PROGRAM, NEXT),
    kind("control_no_news", WAN_PROGRAM, REDIRECT),
    kind("rewrite_227", LAN_PROGRAM, REDIRECT),
    kind("data_hit", WAN_PROGRAM, REDIRECT),
    kind("data_hit_outbound", LAN_PROGRAM, REDIRECT),
    Kind {
        spreads: true,
        ..kind("data_hit_random", WAN_PROGRAM, REDIRECT)
    },
];

/// A gateway with so many live flows.
struct Crowd<'lab> {
    scene: Scene<'lab>,
    /// `1k` or `1m`.
    key: &'static str,
    flows: u32,
    wan: u32,
    lan: u32,
    _session: Session,
    _data: session::Pair,
    ebpf: Ebpf,
    plan: Cell<Plan>,
    frames: Array<MapData, [u64; FRAME / 8]>,
    program: ProgramArray<MapData>,
    /// The daemon's programs, by name.
    programs: StdMap<&'static str, SchedClassifier>,
    sessions: HashMap<MapData, u32, State>,
    mappings: HashMap<MapData, MappingKey, Mapping>,
    /// Every waiting session as it waits.
    waiting: Vec<(u32, State)>,
    /// The frames of each kind, by its key.
    packets: StdMap<&'static str, Vec<Vec<u8>>>,
    turns: u32,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let sizes: [(&str, u32); 2] = if options.smoke {
        [("1k", 1 << 6), ("1m", 1 << 10)]
    } else {
        [("1k", 1 << 10), ("1m", 1 << 20)]
    };
    let labs = [Lab::new()?, Lab::new()?];
    let mut crowds = Vec::new();
    for (lab, (key, flows)) in labs.iter().zip(sizes) {
        say(&format!("ns: a gateway with {flows} live connections"));
        let crowd = Crowd::gather(lab, key, flows, options)?;
        crowds.push(crowd);
    }
    let mut figures: Vec<Figure> = Vec::new();
    for crowd in &crowds {
        for kind in KINDS {
            figures.push(Figure::new(format!("ns.{}.{}", kind.key, crowd.key), "ns"));
        }
    }
    for turn in 0..=options.runs(30) {
        let mut at = 0;
        for crowd in &mut crowds {
            let costs = crowd.measure()?;
            for cost in costs {
                // The first turn warms up.
                if turn > 0 {
                    figures[at].runs.push(cost);
                }
                at += 1;
            }
        }
    }
    Ok(figures)
}

impl<'lab> Crowd<'lab> {
    fn gather(
        lab: &'lab Lab,
        key: &'static str,
        flows: u32,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let settings = Settings {
            connections: Some(flows + 4096),
            ..Settings::default()
        };
        let scene = Scene::new(lab, Router::Redirect, &settings)?;
        let mut session = Session::open(&scene)?;
        let data = session.data(&scene)?;
        let pins = scene.pins()?;
        let mut ebpf = programs::load(&options.object)?;
        let mut programs = StdMap::new();
        for name in [WAN_PROGRAM, LAN_PROGRAM] {
            let path = pins.join("programs").join(name);
            let program = SchedClassifier::from_pin(&path)
                .with_context(|| format!("cannot open the program {}", path.display()))?;
            programs.insert(name, program);
        }
        let mut crowd = Self {
            key,
            flows,
            wan: ifindex(&lab.router, WAN)?,
            lan: ifindex(&lab.router, LAN)?,
            plan: Cell::take(&mut ebpf, "PLAN")?,
            frames: take(&mut ebpf, "FRAMES")?,
            program: take(&mut ebpf, "TC_PROGRAM")?,
            ebpf,
            programs,
            sessions: pinned(&pins, map::SESSIONS, Map::HashMap)?,
            mappings: pinned(&pins, map::MAPPINGS, Map::HashMap)?,
            waiting: Vec::new(),
            packets: StdMap::new(),
            turns: options.turns(20_000),
            scene,
            _session: session,
            _data: data,
        };
        let mut flows4: HashMap<MapData, FlowKey4, Flow> =
            pinned(&pins, map::FLOWS4, Map::HashMap)?;
        crowd.make_packets()?;
        crowd.fill(&mut flows4)?;
        crowd.prepare_sessions(&flows4)?;
        Ok(crowd)
    }

    /// One packet of each kind that needs only one.
    fn make_packets(&mut self) -> anyhow::Result<()> {
        let (client, public) = session::ends(&self._data.client)?;
        let (server, _) = session::ends(&self._data.server)?;
        let (seq, ack) = session::numbers(&self._data.client)?;
        let control = session::ends(self._session.client())?;
        let control_numbers = session::numbers(self._session.client())?;
        let stranger = SocketAddrV4::new(*client.ip(), 443);
        let payload = b"ten bytes.";
        // As sent by flow number 0; the others differ in their source only.
        let crowd = SocketAddrV4::new(
            u32::from_be(flow_address(0)).into(),
            u16::from_be(flow_port(0)),
        );
        let hit = Tcp {
            payload,
            ..Tcp::new(crowd, public, seq, ack)
        };
        let packets = [
            ("empty", hit.frame(SMALL)),
            ("not_ip", frame::arp(SMALL)),
            (
                "udp",
                frame::udp(stranger, at(self.scene.lab.server(), 40_000), SMALL),
            ),
            (
                "tcp_not_ours",
                Tcp {
                    payload,
                    ..Tcp::new(stranger, SocketAddrV4::new(WAN_ADDRESS, 40_000), seq, ack)
                }
                .frame(SMALL),
            ),
            (
                "control_no_news",
                Tcp::new(control.0, control.1, control_numbers.0, control_numbers.1).frame(SMALL),
            ),
            ("data_hit", hit.frame(SMALL)),
            ("data_hit_random", hit.frame(SMALL)),
            (
                "data_hit_outbound",
                Tcp {
                    payload,
                    ..Tcp::new(server, client, ack, seq)
                }
                .frame(SMALL),
            ),
        ];
        for (key, frame) in packets {
            self.packets.insert(key, vec![frame]);
        }
        Ok(())
    }

    /// Makes the flows: both directions of every connection, copied from the one that is real, so
    /// that they carry just what the datapath itself puts into them.
    fn fill(&self, flows4: &mut HashMap<MapData, FlowKey4, Flow>) -> anyhow::Result<()> {
        let (client, public) = session::ends(&self._data.client)?;
        let (server, _) = session::ends(&self._data.server)?;
        let key = |from: SocketAddrV4, to: SocketAddrV4, side| FlowKey4 {
            src: u32::from_ne_bytes(from.ip().octets()),
            dst: u32::from_ne_bytes(to.ip().octets()),
            sport: Port::new(from.port()),
            dport: Port::new(to.port()),
            side,
        };
        let inbound_key = key(client, public, side::INBOUND);
        let outbound_key = key(server, client, side::OUTBOUND);
        let inbound = flows4.get(&inbound_key, 0).context("no inbound flow")?;
        let outbound = flows4.get(&outbound_key, 0).context("no outbound flow")?;
        for number in 0..self.flows {
            let (address, port) = (flow_address(number), Port(flow_port(number)));
            let one = FlowKey4 {
                src: address,
                sport: port,
                ..inbound_key
            };
            let other = FlowKey4 {
                dst: address,
                dport: port,
                ..outbound_key
            };
            flows4
                .insert(one, inbound, 0)
                .and_then(|()| flows4.insert(other, outbound, 0))
                .with_context(|| format!("no room for connection {number}"))?;
        }
        Ok(())
    }

    /// Makes the sessions that wait for a 227, by packets through the daemon's own programs.
    fn prepare_sessions(
        &mut self,
        flows4: &HashMap<MapData, FlowKey4, Flow>,
    ) -> anyhow::Result<()> {
        const CLIENT_ISN: u32 = 1000;
        const SERVER_ISN: u32 = 5000;
        let client = at(self.scene.lab.client(), 0);
        let server = at(self.scene.lab.server(), 21);
        let public = SocketAddrV4::new(WAN_ADDRESS, 21);
        let number = if self.turns < 1000 { 64 } else { SESSIONS };
        let mut replies = Vec::new();
        let this = &*self;
        let waiting = this.scene.lab.router.run(|| {
            let mut waiting = Vec::new();
            for index in 0..number {
                let client = SocketAddrV4::new(*client.ip(), CONTROL_PORTS + index);
                let greeting = b"220 ready\r\n";
                let pasv = b"PASV\r\n";
                let seq = SERVER_ISN + 1 + greeting.len() as u32;
                let [a, b, c, d] = server.ip().octets();
                let [high, low] = data_port(index);
                let reply = format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})\r\n");
                let inwards = |seq, ack| Tcp::new(client, public, seq, ack);
                let outwards = |seq, ack| Tcp::new(server, client, seq, ack);
                let steps = [
                    (
                        true,
                        Tcp {
                            flags: SYN,
                            options: &SYN_OPTIONS,
                            ..inwards(CLIENT_ISN, 0)
                        },
                    ),
                    (
                        false,
                        Tcp {
                            flags: SYN | frame::ACK,
                            options: &SYN_OPTIONS,
                            ..outwards(SERVER_ISN, CLIENT_ISN + 1)
                        },
                    ),
                    (true, inwards(CLIENT_ISN + 1, SERVER_ISN + 1)),
                    (
                        false,
                        Tcp {
                            flags: PSH | frame::ACK,
                            payload: greeting,
                            ..outwards(SERVER_ISN + 1, CLIENT_ISN + 1)
                        },
                    ),
                    (
                        true,
                        Tcp {
                            flags: PSH | frame::ACK,
                            payload: pasv,
                            ..inwards(CLIENT_ISN + 1, seq)
                        },
                    ),
                ];
                for (is_outside, step) in steps {
                    let ran = this.once(is_outside, &step.frame(SMALL))?;
                    ensure!(
                        ran.verdict == REDIRECT,
                        "a control connection's packet got verdict {}",
                        ran.verdict
                    );
                }
                let reply = Tcp {
                    flags: PSH | frame::ACK,
                    options: &TIMESTAMPS,
                    payload: reply.as_bytes(),
                    ..outwards(seq, CLIENT_ISN + 1 + pasv.len() as u32)
                };
                let reply = reply.frame(0);
                ensure!(reply.len() == FRAME, "a reply of {} bytes", reply.len());
                replies.push(reply);
                let key = FlowKey4 {
                    src: u32::from_ne_bytes(client.ip().octets()),
                    dst: u32::from_ne_bytes(public.ip().octets()),
                    sport: Port::new(client.port()),
                    dport: Port::new(public.port()),
                    side: side::INBOUND,
                };
                let flow = flows4.get(&key, 0).context("the SYN made no flow")?;
                waiting.push((flow.session, this.sessions.get(&flow.session, 0)?));
            }
            Ok(waiting)
        })?;
        self.waiting = waiting;
        self.packets.insert("rewrite_227", replies);
        Ok(())
    }

    /// A single packet through the daemon's program.
    fn once(&self, is_outside: bool, frame: &[u8]) -> anyhow::Result<Ran> {
        let (name, ifindex) = if is_outside {
            (WAN_PROGRAM, self.wan)
        } else {
            (LAN_PROGRAM, self.lan)
        };
        run_tc(&self.programs[name], ifindex, frame, 1)
    }

    /// One turn: every kind's cost, the empty program's own first.
    fn measure(&mut self) -> anyhow::Result<Vec<f64>> {
        let mut costs = Vec::new();
        let mut empty = StdMap::new();
        for kind in KINDS {
            let frames = self.packets[kind.key].clone();
            let cost = |this: &mut Self, is_empty: bool| {
                this.aim(&kind, &frames, is_empty)?;
                let turns = if frames.len() > 1 {
                    frames.len() as u32
                } else {
                    this.turns
                };
                let ifindex = if kind.is_outside { this.wan } else { this.lan };
                let verdict = if is_empty { NEXT } else { kind.verdict };
                let fresh = classifier(&this.ebpf, "fresh")?;
                let ran = this.scene.lab.router.run(|| {
                    stay_on_cpu(last_cpu()?)?;
                    run_tc(fresh, ifindex, &frames[0], turns)
                })?;
                ensure!(
                    ran.verdict == verdict,
                    "{}: verdict {} where {verdict} was expected",
                    kind.key,
                    ran.verdict
                );
                anyhow::Ok(ran.took.as_nanos() as f64 / f64::from(turns))
            };
            // What the empty program costs depends on how the packets are made.
            let way = (frames.len(), kind.spreads);
            let without = match empty.get(&way) {
                Some(known) => *known,
                None => {
                    let without = cost(self, true)?;
                    empty.insert(way, without);
                    without
                }
            };
            if kind.key == "empty" {
                costs.push(without);
                continue;
            }
            let with = cost(self, false)?;
            costs.push(with - without);
            if kind.key == "rewrite_227" {
                self.put_back()?;
            }
        }
        Ok(costs)
    }

    /// Puts frames and program of a kind in place.
    fn aim(&mut self, kind: &Kind, frames: &[Vec<u8>], is_empty: bool) -> anyhow::Result<()> {
        for (at, frame) in frames.iter().enumerate() {
            self.frames
                .set(at as u32, words::<{ FRAME / 8 }>(frame), 0)?;
        }
        self.plan.set(Plan {
            next: 0,
            frames: frames.len() as u32 - 1,
            flows: if kind.spreads { self.flows - 1 } else { 0 },
            pad: 0,
        })?;
        let program = if is_empty {
            classifier(&self.ebpf, "empty")?
        } else {
            &self.programs[kind.program]
        };
        self.program
            .set(0, program.fd()?, 0)
            .context("the kernel does not let the benchmark call the program")
    }

    /// Checks that every 227 was announced, and makes the sessions wait again.
    fn put_back(&mut self) -> anyhow::Result<()> {
        let keys: Vec<_> = self.mappings.keys().collect::<Result<_, _>>()?;
        ensure!(
            keys.len() == self.waiting.len(),
            "of {} replies 227, {} were rewritten",
            self.waiting.len(),
            keys.len()
        );
        for key in keys {
            self.mappings.remove(&key)?;
        }
        for (number, state) in &self.waiting {
            self.sessions.insert(number, state, 0)?;
        }
        Ok(())
    }
}
