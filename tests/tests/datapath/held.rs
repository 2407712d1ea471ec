//! The conversations of the protocol's own tests (`ftp-nat-common/tests/protocol/conversations`), held
//! through the programs in the kernel.

use std::net::SocketAddr;

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{
        Answered, ClientKey, Count, Event, Lines, LinesKey, PublishKey, Said, Session, Settings,
        event, kind, remark, role, setting,
    },
    counter::Counter,
    ftp::said::WINDOW,
    gate::Opening,
    host::{Call, Limits, Recorder, Segment, Spoken},
    wire::addr::{Endpoint, Port},
};
use ftp_nat_tests::lab::{LAN, Lab, WAN};

use crate::{
    loaded::{DROP, Datapath, Hook, REMAP, on_router_of},
    packet::{ACK, ETHERNET, FIN, Packet, SYN, hex},
    scene::{Ends, hop},
    talk::Sender::{self, Client, Server},
};

/// Jiffies of one millisecond of a conversation: so many that the kernel's own time hardly passes.
const JIFFIES: u64 = 1_000;

/// A port that a gate which refuses gives to nobody; [`REMAP`] is the only other one that it has.
const REFUSED: u16 = 50_000;

/// Counters of what the protocol alone does not do: choosing a packet's way, finding a port.
const NOT_MODELLED: [Counter; 8] = [
    Counter::EventsWithheld,
    Counter::InboundRedirected,
    Counter::OutboundRedirected,
    Counter::InboundStack,
    Counter::OutboundStack,
    Counter::PassiveOpened,
    Counter::ActiveOpened,
    Counter::Remapped,
];

thread_local! {
    /// The lab whose router has routes to the conversations' ends.
    static LAB: Lab = {
        let lab = Lab::new().unwrap();
        let routes = format!(
            "route add 2001:db8:1::5/128 dev {LAN}\nroute add 2001:db8:2::/64 dev {WAN}"
        );
        lab.router.ip(&routes).unwrap();
        lab
    };
}

/// [`ftp_nat_common::host::pass`] by the programs in the kernel: the session and its lines are put into
/// their maps, the segment goes through the hook that it would meet, and `gate` gets what was opened,
/// counted and told. `now` is in milliseconds.
///
/// The kernel finds ports by itself: of [`Recorder::refusal`] it knows [`Counter::DeniedNoPort`] for the port
/// [`REFUSED`], and of [`Recorder::taken`] one port.
pub(crate) fn pass(
    session: &mut Session,
    lines: &mut [Lines; 2],
    gate: &mut Recorder,
    is_replies: bool,
    segment: &Segment,
    now: u64,
    limits: &Limits,
) -> Option<Segment> {
    LAB.with(|lab| {
        on_router_of(lab, |datapath| {
            datapath.set(Settings {
                hz: (1000 * JIFFIES) as u32,
                hold_timeout: limits.timeout * JIFFIES,
                flags: if gate.spoken.is_some() {
                    setting::TELLS_COMMANDS
                } else {
                    0
                },
                ..datapath.settings()
            });
            let connection = Connection::begin(datapath, session, now);
            connection.take_ports(datapath, gate);
            connection.name_client(datapath, gate, session);
            connection.put(datapath, session, lines);
            let sender = if is_replies { Server } else { Client };
            let (before, seen) = (session.answered, gate.calls.len());
            let out = connection.send(datapath, gate, sender, segment);
            connection.take(datapath, session, lines);
            connection.note_closed(datapath, gate, seen, &before, &session.answered);
            out
        })
    })
}

/// A conversation's control connection in the kernel, for one segment.
struct Connection {
    ends: Ends,
    role: u8,
    /// The session's number.
    number: u32,
    clocks: Clocks,
}

/// What the kernel's clock shows, in jiffies, and the conversation's, in milliseconds.
#[derive(Clone, Copy)]
struct Clocks {
    jiffies: u64,
    now: u64,
}

impl Clocks {
    /// Changes the times of a session, of which 0 stands for none, by `held`, those in jiffies, and by
    /// `withheld`, those in milliseconds.
    fn change(session: &mut Session, held: impl Fn(u64) -> u64, withheld: impl Fn(u64) -> u64) {
        let asked = &mut session.asked;
        for time in [&mut asked.withheld_since, &mut asked.withheld_first] {
            if *time != 0 {
                *time = withheld(*time);
            }
        }
        for direction in [&mut session.commands, &mut session.replies] {
            for time in [&mut direction.held_since, &mut direction.gap_since] {
                if *time != 0 {
                    *time = held(*time);
                }
            }
        }
    }

    /// From the conversation's times to the kernel's.
    fn put(self, session: &mut Session) {
        let Self { jiffies, now } = self;
        Self::change(
            session,
            |time| jiffies - (now - time) * JIFFIES,
            |time| jiffies / JIFFIES - (now - time),
        );
        let window = &mut session.asked.told_window;
        *window = window.wrapping_add(self.windows());
    }

    /// And back. What is of this moment may be a tick later than what the clock showed.
    fn take(self, session: &mut Session) {
        let Self { jiffies, now } = self;
        Self::change(
            session,
            |time| now - jiffies.saturating_sub(time) / JIFFIES,
            |time| now - (jiffies / JIFFIES).saturating_sub(time),
        );
        let window = &mut session.asked.told_window;
        *window = window.wrapping_sub(self.windows());
    }

    /// How many windows of [`WINDOW`] the kernel's clock is ahead.
    fn windows(self) -> u32 {
        let [kernel, own] = [self.jiffies / JIFFIES, self.now].map(|it| (it >> WINDOW) as u32);
        kernel.wrapping_sub(own)
    }
}

impl Connection {
    /// A handshake between the ends of `session`.
    fn begin(datapath: &mut Datapath, session: &Session, now: u64) -> Self {
        let of = |it: Endpoint| SocketAddr::new(it.addr.to_ip(), it.port.number());
        let ends = Ends {
            outside: of(session.outside),
            public: of(session.public),
            inside: of(session.inside),
        };
        if session.role == role::PUBLISH {
            ends.publish(datapath, 0);
            ends.connect(datapath, [1, 2]);
        } else {
            datapath.masquerade(ends.outside.port());
            let (own, other) = (
                Packet::new(ends.public, ends.outside),
                Packet::new(ends.outside, ends.public),
            );
            let answer = other.flags(SYN | ACK).seq(2).ack(2);
            datapath.run(Hook::WanEgress, &own.clone().syn().seq(1).bytes());
            datapath.run(Hook::WanIngress, &answer.bytes());
            datapath.run(Hook::WanEgress, &own.seq(2).ack(3).bytes());
        }
        let [(number, made)] = datapath.sessions.all()[..] else {
            panic!("{} sessions of {ends:?}", datapath.sessions.len());
        };
        Self {
            ends,
            role: session.role,
            number,
            clocks: Clocks {
                jiffies: made.born,
                now,
            },
        }
    }

    /// Whoever has ports already.
    fn take_ports(&self, datapath: &mut Datapath, gate: &Recorder) {
        let mut taken = Vec::new();
        for (port, other) in gate.taken.iter().filter(|(port, other)| port != other) {
            taken.push(*port);
            datapath.set(Settings {
                remap_first: *other,
                remap_last: *other,
                ..datapath.settings()
            });
        }
        if let Some(reason) = gate.refusal {
            assert_eq!(reason, Counter::DeniedNoPort);
            taken.extend([REFUSED, REMAP]);
        }
        for port in taken {
            let key = PublishKey {
                addr: self.ends.public.ip().into(),
                port: Port::new(port),
                pad: 0,
            };
            datapath.reserve(key, Endpoint::default());
        }
    }

    /// The daemon's answer about a client that the session does not know.
    fn name_client(&self, datapath: &mut Datapath, gate: &Recorder, session: &Session) {
        let Some(addr) = gate.inside.filter(|it| !it.is_none()) else {
            return;
        };
        let key = ClientKey {
            server: session.outside,
            number: self.number,
            ifindex: 0,
        };
        datapath.clients.set(key, Endpoint::new(addr, Port::new(1)));
        datapath.add_inside(addr);
    }

    fn lines_key(&self, is_replies: usize) -> LinesKey {
        LinesKey {
            session: self.number,
            is_replies: is_replies as u32,
        }
    }

    fn put(&self, datapath: &mut Datapath, session: &Session, lines: &[Lines; 2]) {
        let mut session = *session;
        self.clocks.put(&mut session);
        datapath.sessions.set(self.number, session);
        for (is_replies, lines) in lines.iter().enumerate() {
            if *lines != Lines::zeroed() {
                datapath.lines.set(self.lines_key(is_replies), *lines);
            }
        }
    }

    fn take(&self, datapath: &Datapath, session: &mut Session, lines: &mut [Lines; 2]) {
        *session = datapath.sessions.get(&self.number).unwrap();
        self.clocks.take(session);
        for (is_replies, lines) in lines.iter_mut().enumerate() {
            if let Some(kept) = datapath.lines.get(&self.lines_key(is_replies)) {
                *lines = kept;
            }
        }
    }

    /// One segment in, and what leaves.
    fn send(
        &self,
        datapath: &Datapath,
        gate: &mut Recorder,
        sender: Sender,
        segment: &Segment,
    ) -> Option<Segment> {
        let is_published = self.role == role::PUBLISH;
        let (hook, packet) = match (sender, is_published) {
            (Client, true) => (Hook::WanIngress, self.ends.inbound()),
            (Server, false) => (Hook::WanIngress, self.ends.inbound()),
            (Server, true) => (Hook::LanIngress, self.ends.outbound()),
            (Client, false) => (
                Hook::WanEgress,
                Packet::new(self.ends.public, self.ends.outside),
            ),
        };
        let mut flags = 0;
        if segment.ack.is_some() {
            flags |= ACK;
        }
        if segment.fin {
            flags |= FIN;
        }
        let packet = packet
            .flags(flags)
            .seq(segment.seq)
            .ack(segment.ack.unwrap_or_default())
            .payload(&segment.payload);
        datapath.told();
        let before = datapath.counts();
        let outcome = datapath.run(hook, &packet.bytes());
        self.note(datapath, gate, &before);
        if outcome.verdict == DROP {
            return None;
        }
        let leaves = read(packet, &outcome.frame);
        let out = match (sender, is_published) {
            (Client, true) => hop(self.ends.inwards(&leaves)),
            (Server, true) => hop(self.ends.outwards(&leaves)),
            (_, false) => leaves.clone(),
        };
        // Addresses, lengths and checksums.
        assert_eq!(
            hex(&outcome.frame[ETHERNET..]),
            hex(&out.bytes()[ETHERNET..])
        );
        Some(Segment {
            seq: leaves.seq,
            ack: segment.ack.map(|_| leaves.ack),
            fin: leaves.flags & FIN != 0,
            payload: leaves.payload,
            ..segment.clone()
        })
    }

    /// Tells the gate what the kernel has opened, counted and told since `before`.
    fn note(&self, datapath: &Datapath, gate: &mut Recorder, before: &[Count]) {
        let (events, all_said) = datapath.told();
        let mut told = Vec::new();
        for it in &events {
            let reason = Counter::ALL[usize::from(it.reason)];
            let (opening, public) = self.opening(it);
            match it.what {
                event::OPENED => {
                    let mut opening = opening;
                    if it.kind == kind::ACTIVE && self.role == role::MASQUERADE {
                        // A client may have named the gateway's address: it is led to all the same.
                        opening.addr = it.inside.addr;
                    }
                    gate.calls.push(Call::Opened(opening, public));
                }
                event::REMAPPED => {}
                what => {
                    gate.calls.push(Call::Event(what, reason, opening));
                    told.push(reason);
                }
            }
        }
        for (counter, by) in datapath.counted_since(before) {
            if NOT_MODELLED.contains(&counter) {
                continue;
            }
            let told = told.iter().filter(|it| **it == counter).count();
            for _ in told..by.packets as usize {
                gate.calls.push(Call::Counted(counter));
            }
        }
        if datapath.permits.get(&self.number).is_some() {
            gate.calls.push(Call::Permitted);
        }
        if let Some(spoken) = &mut gate.spoken {
            spoken.extend(all_said.iter().map(|(said, line)| as_spoken(said, line)));
        }
    }

    /// Tells the gate what was closed, of which the kernel tells nothing: in one reply the port that was
    /// announced last counts, and that one is closed if it may not be.
    fn note_closed(
        &self,
        datapath: &Datapath,
        gate: &mut Recorder,
        seen: usize,
        before: &Answered,
        after: &Answered,
    ) {
        let opened = gate.calls[seen..].iter().filter_map(|call| match call {
            Call::Opened(opening, public) if opening.kind == kind::PASSIVE => Some(*public),
            _ => None,
        });
        let opened: Vec<_> = opened.collect();
        let Some(last) = opened.last() else {
            return;
        };
        let is_under_way = u32::from(after.multiline != 0);
        let answers = after.passive.wrapping_sub(before.passive) + is_under_way;
        // The one that is open may be of a line whose end is still to come.
        let mut closed = opened.len().saturating_sub(answers.max(1) as usize);
        let mappings = datapath.mappings.all();
        if !mappings.iter().any(|(key, _)| key.dport == *last) {
            closed += 1;
        }
        gate.calls
            .extend(opened.into_iter().take(closed).map(Call::Closed));
    }

    /// What an event is about, and its public port.
    fn opening(&self, event: &Event) -> (Opening, Port) {
        if event.cause == 0 {
            let opening = Opening {
                kind: event.kind,
                ..Opening::default()
            };
            return (opening, Port::default());
        }
        let client_listens = event.kind == kind::ACTIVE && self.role == role::PUBLISH;
        let port = if client_listens {
            event.peer.port
        } else {
            event.inside.port
        };
        let opening = Opening {
            addr: event.announced,
            port,
            kind: event.kind,
            cause: event.cause,
            public: Port::default(),
        };
        let public = if client_listens {
            port
        } else {
            event.public.port
        };
        (opening, public)
    }
}

/// A packet like `packet`, with the numbers, flags and text of a frame.
fn read(packet: Packet, frame: &[u8]) -> Packet {
    let tcp = packet.tcp_at();
    let word = |at: usize| u32::from_be_bytes(*frame[at..].first_chunk().unwrap());
    let (seq, ack) = (word(tcp + 4), word(tcp + 8));
    let payload = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
    packet
        .seq(seq)
        .ack(ack)
        .flags(frame[tcp + 13])
        .payload(&frame[payload..])
}

fn as_spoken(said: &Said, line: &[u8]) -> Spoken {
    if said.what == event::REPLY {
        return Spoken::Reply(said.number, said.code);
    }
    let verb: Vec<u8> = said
        .name
        .to_be_bytes()
        .into_iter()
        .filter(|byte| *byte != 0)
        .collect();
    let argument = line.get(verb.len()..).unwrap_or_default();
    Spoken::Command(
        said.number,
        [&verb, argument].concat(),
        said.remark == remark::CUT,
    )
}
