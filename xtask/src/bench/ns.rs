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

use std::{collections::HashMap as StdMap, net::SocketAddrV4, panic::resume_unwind, thread};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, ProgramArray, RingBuf},
    programs::{SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use ftp_nat_common::abi::{self, Mapping, MappingKey, Session as State, flow_flag, map, setting};
use ftp_nat_tests::{
    attack::numbers,
    gateway::Gateway,
    lab::{LAN, Lab, WAN, WAN_ADDRESS},
    link::ifindex,
};

use super::{
    crowd::{self, Flows},
    figure::Figure,
    frame::{self, PSH, SYN, SYN_OPTIONS, Tcp, words},
    options::Options,
    programs::{
        self, Cell, Ran, classifier, last_cpu,
        layout::{FRAME, Plan, SMALL, flow_address, flow_port},
        loaded_xdp, pinned, run_tc, run_xdp, stay_on_cpu, take,
    },
    scene::{Router, Scene, Settings, at},
    session::{self, Session},
};
use crate::progress::say;

/// How many sessions wait for their 227.
const SESSIONS: u16 = 1024;
/// Their control connections' ports at the client.
const CONTROL_PORTS: u16 = 20_000;

/// The kind of a RETR that is not told.
const UNTOLD: &str = "control_untold";
/// Of the same that is (`transfers` of the configuration).
const TOLD: &str = "control_told";
/// So many passes over all of them do not count: until connections, code and its branches are where they are
/// found at once, the second kind costs half of the first, whichever of both that is.
const WARMING: u32 = 5;
/// How many RETR a turn has: what is told of them takes less than half of the ring.
const COMMANDS: usize = 256;

/// The data port that the server of a session announces, as its reply has it: both numbers always
/// of three digits, so that all replies are of one length.
fn data_port(session: u16) -> [u8; 2] {
    [200 + (session / 156) as u8, 100 + (session % 156) as u8]
}

/// TCP's timestamps, as in nearly every segment on the internet.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0];

/// A program of the daemon's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Program {
    WanIngress,
    LanIngress,
    WanXdp,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::WanIngress => "wan_ingress",
            Self::LanIngress => "lan_ingress",
            Self::WanXdp => "wan_xdp",
        }
    }

    /// The verdict that lets a packet go on.
    const fn pass(self) -> i32 {
        match self {
            Self::WanXdp => 2,
            _ => -1,
        }
    }

    /// The verdict that sends it to the other interface.
    const fn redirect(self) -> i32 {
        match self {
            Self::WanXdp => 4,
            _ => 7,
        }
    }
}

/// A kind of packet.
#[derive(Clone, Copy)]
struct Kind {
    key: &'static str,
    /// The program that it meets.
    program: Program,
    /// Whether it is sent to the other interface.
    is_sent: bool,
    /// Whether each turn is of another flow.
    spreads: bool,
}

impl Kind {
    /// The key of its frames: XDP gets the same as TC, and so do hits at random as others.
    fn frames(&self) -> &'static str {
        if self.key == TOLD {
            return UNTOLD;
        }
        let key = self.key.strip_prefix("xdp_").unwrap_or(self.key);
        key.strip_suffix("_random").unwrap_or(key)
    }
}

const fn passed(key: &'static str, program: Program) -> Kind {
    Kind {
        key,
        program,
        is_sent: false,
        spreads: false,
    }
}

const fn sent(key: &'static str, program: Program) -> Kind {
    Kind {
        is_sent: true,
        ..passed(key, program)
    }
}

const fn spread(key: &'static str, program: Program) -> Kind {
    Kind {
        spreads: true,
        ..sent(key, program)
    }
}

/// What is measured.
const KINDS: [Kind; 15] = [
    passed("empty", Program::WanIngress),
    passed("not_ip", Program::WanIngress),
    passed("udp", Program::WanIngress),
    passed("tcp_not_ours", Program::WanIngress),
    sent("control_no_news", Program::WanIngress),
    sent(UNTOLD, Program::WanIngress),
    sent(TOLD, Program::WanIngress),
    sent("rewrite_227", Program::LanIngress),
    sent("data_hit", Program::WanIngress),
    sent("data_hit_outbound", Program::LanIngress),
    spread("data_hit_random", Program::WanIngress),
    passed("xdp_udp", Program::WanXdp),
    passed("xdp_tcp_not_ours", Program::WanXdp),
    sent("xdp_data_hit", Program::WanXdp),
    spread("xdp_data_hit_random", Program::WanXdp),
];

/// A gateway with so many live flows.
struct Crowd<'lab> {
    scene: Scene<'lab>,
    /// `1k` or `1m`.
    key: &'static str,
    flows: u32,
    wan: u32,
    lan: u32,
    session: Session,
    data: session::Pair,
    ebpf: Ebpf,
    plan: Cell<Plan>,
    frames: Array<MapData, [u64; FRAME / 8]>,
    tc_program: ProgramArray<MapData>,
    xdp_program: ProgramArray<MapData>,
    /// The daemon's programs.
    classifiers: StdMap<Program, SchedClassifier>,
    xdp: Xdp,
    sessions: HashMap<MapData, u32, State>,
    mappings: HashMap<MapData, MappingKey, Mapping>,
    settings: Array<MapData, abi::Settings>,
    events: RingBuf<MapData>,
    /// Every waiting session as it waits.
    waiting: Vec<(u32, State)>,
    /// The frames of each kind, by its key.
    packets: StdMap<&'static str, Vec<Vec<u8>>>,
    turns: u32,
    /// How many hits at random there were.
    spread: u32,
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
        let mut scene = Scene::new(lab, Router::Xdp, &settings)?;
        let mut session = Session::open(&scene)?;
        let data = session.data(&scene)?;
        let pins = scene.pins()?;
        // Its programs stay. So no sweep comes in between, nor news of the network, which make all
        // flows look their ways up again; what it does read is read here.
        if let Some(gateway) = &mut scene.gateway {
            gateway.stop()?;
        }
        let mut ebpf = programs::load(&options.object)?;
        let mut classifiers = StdMap::new();
        let pin = |program: Program| pins.join("programs").join(program.name());
        for program in [Program::WanIngress, Program::LanIngress] {
            let path = pin(program);
            let opened = SchedClassifier::from_pin(&path)
                .with_context(|| format!("cannot open the program {}", path.display()))?;
            classifiers.insert(program, opened);
        }
        let path = pin(Program::WanXdp);
        let xdp = Xdp::from_pin(&path, XdpAttachType::Interface)
            .with_context(|| format!("cannot open the program {}", path.display()))?;
        let mut crowd = Self {
            key,
            flows,
            wan: ifindex(&lab.router, WAN)?,
            lan: ifindex(&lab.router, LAN)?,
            plan: Cell::take(&mut ebpf, "PLAN")?,
            frames: take(&mut ebpf, "FRAMES")?,
            tc_program: take(&mut ebpf, "TC_PROGRAM")?,
            xdp_program: take(&mut ebpf, "XDP_PROGRAM")?,
            ebpf,
            classifiers,
            xdp,
            sessions: pinned(&pins, map::SESSIONS, Map::HashMap)?,
            mappings: pinned(&pins, map::MAPPINGS, Map::HashMap)?,
            settings: pinned(&pins, map::SETTINGS, Map::Array)?,
            events: pinned(&pins, map::EVENTS, Map::RingBuf)?,
            waiting: Vec::new(),
            packets: StdMap::new(),
            turns: options.turns(20_000),
            spread: 0,
            scene,
            session,
            data,
        };
        let mut flows4: Flows = pinned(&pins, map::FLOWS4, Map::HashMap)?;
        crowd.make_packets()?;
        let copied = crowd::fill(&mut flows4, &mut crowd.data, flows)?;
        ensure!(
            copied.flags & flow_flag::XDP != 0,
            "ftp-nat does not send data by XDP here: {}",
            crowd
                .scene
                .gateway
                .as_ref()
                .map(Gateway::log)
                .unwrap_or_default()
        );
        crowd.prepare_sessions(&flows4)?;
        crowd.read_events();
        Ok(crowd)
    }

    /// One packet of each kind that needs only one.
    fn make_packets(&mut self) -> anyhow::Result<()> {
        let (client, public) = session::ends(&self.data.client)?;
        let (server, _) = session::ends(&self.data.server)?;
        let (seq, ack) = numbers::next(&self.data.client)?;
        let control = session::ends(self.session.client())?;
        let control_numbers = numbers::next(self.session.client())?;
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

    /// Makes the sessions that wait for a 227, by packets through the daemon's own programs.
    fn prepare_sessions(&mut self, flows4: &Flows) -> anyhow::Result<()> {
        const CLIENT_ISN: u32 = 1000;
        const SERVER_ISN: u32 = 5000;
        let client = at(self.scene.lab.client(), 0);
        let server = at(self.scene.lab.server(), 21);
        let public = SocketAddrV4::new(WAN_ADDRESS, 21);
        let number = if self.turns < 1000 { 64 } else { SESSIONS };
        let mut replies = Vec::new();
        let mut commands = Vec::new();
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
                        ran.verdict == Program::WanIngress.redirect(),
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
                let command = Tcp {
                    flags: PSH | frame::ACK,
                    payload: b"RETR pub/file.bin\r\n",
                    ..inwards(CLIENT_ISN + 1 + pasv.len() as u32, seq)
                };
                commands.push(command.frame(0));
                let key = crowd::key(client, public);
                let flow = flows4.get(&key, 0).context("the SYN made no flow")?;
                waiting.push((flow.session, this.sessions.get(&flow.session, 0)?));
            }
            Ok(waiting)
        })?;
        self.waiting = waiting;
        commands.truncate(COMMANDS);
        self.packets.insert(UNTOLD, commands);
        self.packets.insert("rewrite_227", replies);
        Ok(())
    }

    /// A single packet through the daemon's program.
    fn once(&self, is_outside: bool, frame: &[u8]) -> anyhow::Result<Ran> {
        let (program, ifindex) = if is_outside {
            (Program::WanIngress, self.wan)
        } else {
            (Program::LanIngress, self.lan)
        };
        run_tc(&self.classifiers[&program], ifindex, frame, 1)
    }

    /// One turn: every kind's cost, the empty program's own first.
    fn measure(&mut self) -> anyhow::Result<Vec<f64>> {
        let mut costs = Vec::new();
        let mut empty = StdMap::new();
        for kind in KINDS {
            // What the empty program costs depends on how the packets are made.
            let is_xdp = kind.program == Program::WanXdp;
            let way = (kind.frames(), kind.spreads, is_xdp);
            let without = match empty.get(&way) {
                Some(known) => *known,
                None => {
                    let without = self.cost(&kind, true)?;
                    empty.insert(way, without);
                    without
                }
            };
            if kind.key == "empty" {
                costs.push(without);
                continue;
            }
            self.tell_commands(kind.key == TOLD)?;
            if kind.frames() == UNTOLD {
                for _ in 0..WARMING {
                    self.cost(&kind, false)?;
                    self.put_back(0)?;
                }
            }
            costs.push(self.cost(&kind, false)? - without);
            match kind.key {
                TOLD | UNTOLD => self.put_back(0)?,
                "rewrite_227" => self.put_back(self.waiting.len())?,
                _ => {}
            }
        }
        Ok(costs)
    }

    /// What a kind costs, or what measuring it costs.
    fn cost(&mut self, kind: &Kind, is_empty: bool) -> anyhow::Result<f64> {
        let frames = self.packets[kind.frames()].clone();
        self.aim(kind, &frames, is_empty)?;
        // Where each frame can be sent once only there are too few of them for the first ones, which
        // find nothing of the program in the CPU's caches, not to count: they are left out.
        let (first, turns) = if frames.len() > 1 {
            let all = frames.len() as u32;
            (all / 4, all - all / 4)
        } else {
            (0, self.turns)
        };
        let this = &*self;
        let ran = this.scene.lab.router.run(|| {
            stay_on_cpu(last_cpu()?)?;
            let run = |turns| match kind.program {
                Program::WanXdp => run_xdp(loaded_xdp(&this.ebpf, "fresh_xdp")?, &frames[0], turns),
                program => {
                    let ifindex = if program == Program::LanIngress {
                        this.lan
                    } else {
                        this.wan
                    };
                    run_tc(classifier(&this.ebpf, "fresh")?, ifindex, &frames[0], turns)
                }
            };
            if first > 0 {
                run(first)?;
            }
            run(turns)
        })?;
        let verdict = if kind.is_sent && !is_empty {
            kind.program.redirect()
        } else {
            kind.program.pass()
        };
        ensure!(
            ran.verdict == verdict,
            "{}: verdict {} where {verdict} was expected",
            kind.key,
            ran.verdict
        );
        Ok(ran.took.as_nanos() as f64 / f64::from(turns))
    }

    /// Puts frames and program of a kind in place.
    fn aim(&mut self, kind: &Kind, frames: &[Vec<u8>], is_empty: bool) -> anyhow::Result<()> {
        for (at, frame) in frames.iter().enumerate() {
            self.frames
                .set(at as u32, words::<{ FRAME / 8 }>(frame), 0)?;
        }
        // Hits at random go on where the last ones ended: none of those flows was just looked at.
        let next = if kind.spreads { self.spread } else { 0 };
        if kind.spreads {
            self.spread = self.spread.wrapping_add(self.turns);
        }
        self.plan.set(Plan {
            next,
            frames: frames.len() as u32 - 1,
            flows: if kind.spreads { self.flows - 1 } else { 0 },
            pad: 0,
        })?;
        let refused = "the kernel does not let the benchmark call the program";
        match (kind.program, is_empty) {
            (Program::WanXdp, true) => {
                let program = loaded_xdp(&self.ebpf, "empty_xdp")?.fd()?;
                self.xdp_program.set(0, program, 0).context(refused)
            }
            (Program::WanXdp, false) => {
                let program = self.xdp.fd()?;
                self.xdp_program.set(0, program, 0).context(refused)
            }
            (_, true) => {
                let program = classifier(&self.ebpf, "empty")?.fd()?;
                self.tc_program.set(0, program, 0).context(refused)
            }
            (program, false) => {
                let program = self.classifiers[&program].fd()?;
                self.tc_program.set(0, program, 0).context(refused)
            }
        }
    }

    /// Has commands told, or not, as a reload with another `transfers` does.
    fn tell_commands(&mut self, are_told: bool) -> anyhow::Result<()> {
        let mut settings = self.settings.get(&0, 0)?;
        settings.flags &= !setting::TELLS_COMMANDS;
        if are_told {
            settings.flags |= setting::TELLS_COMMANDS;
        }
        Ok(self.settings.set(0, settings, 0)?)
    }

    /// Checks that so many 227 were announced, and makes the sessions wait again: on the CPU that reads
    /// their next packets, as that of a router has read the ones before.
    fn put_back(&mut self, announced: usize) -> anyhow::Result<()> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    stay_on_cpu(last_cpu()?)?;
                    self.put_sessions_back(announced)
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn put_sessions_back(&mut self, announced: usize) -> anyhow::Result<()> {
        let keys: Vec<_> = self.mappings.keys().collect::<Result<_, _>>()?;
        ensure!(
            keys.len() == announced,
            "of {announced} replies 227, {} were rewritten",
            keys.len()
        );
        for key in keys {
            self.mappings.remove(&key)?;
        }
        for (number, state) in &self.waiting {
            self.sessions.insert(number, state, 0)?;
        }
        self.read_events();
        Ok(())
    }

    /// Makes room for the events of the next turn.
    fn read_events(&mut self) {
        while self.events.next().is_some() {}
    }
}
