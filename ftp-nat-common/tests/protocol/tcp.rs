//! Two TCPs and a gateway between them, on a network that loses, repeats and delays segments.
//!
//! A small model of what real senders do: congestion windows counted in segments, Nagle's
//! algorithm, retransmissions that start at the first unacknowledged byte and are cut anew,
//! delayed segments that overtake each other, receivers that put what comes out of order in order
//! and answer keep-alives. The gateway is [`host::pass`], and whatever it drops or cuts is dropped
//! and cut here.

use crate::conversation::TIMEOUT;
use bytemuck::Zeroable as _;
use ftp_nat_common::abi::{Lines, Session};
use ftp_nat_common::host::{self, Limits, Recorder, Segment};
use std::collections::BTreeMap;

/// What can go wrong, and how the senders behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Seeds everything that is random.
    pub(crate) seed: u64,
    /// Of a hundred segments, how many are lost before and again behind the gateway.
    pub(crate) loss: u64,
    /// Of a hundred segments, how many arrive twice.
    pub(crate) repeats: u64,
    /// Of a hundred segments, how many are late.
    pub(crate) late: u64,
    /// The longest segment that a sender makes.
    pub(crate) segment: usize,
    /// Segments that may be under way at once.
    pub(crate) window: usize,
    /// Whether small segments wait until nothing is under way.
    pub(crate) nagle: bool,
    /// Milliseconds for which the gateway holds a line.
    pub(crate) timeout: u64,
}

/// Nothing goes wrong.
pub(crate) const FAIR: Weather = Weather {
    seed: 1,
    loss: 0,
    repeats: 0,
    late: 0,
    segment: 1400,
    window: 10,
    nagle: false,
    timeout: TIMEOUT,
};

/// Splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// Below `sides`.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.throw() % sides.max(1)
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One end of the connection. Bytes are counted from 0, numbers from the initial one.
struct End {
    /// The first byte's sequence number, and that of the other end as it is seen here.
    first: u32,
    others_first: u32,
    /// All that it has to say, and the ends of the pieces in which it was written.
    out: Vec<u8>,
    writes: Vec<usize>,
    /// Bytes acknowledged, and sent.
    acked: usize,
    sent: usize,
    /// It says no more, and that was acknowledged.
    closed: bool,
    close_acked: bool,
    /// What arrived in order, what out of it, and where the other end's stream ends.
    heard: Vec<u8>,
    early: BTreeMap<usize, Vec<u8>>,
    others_end: Option<usize>,
    /// When it sends again what was not acknowledged, and how long it waits then.
    timer: Option<u64>,
    patience: u64,
}

/// Milliseconds of a sender's first wait.
const PATIENCE: u64 = 200;

impl End {
    fn new(first: u32, others_first: u32) -> Self {
        Self {
            first,
            others_first,
            out: Vec::new(),
            writes: Vec::new(),
            acked: 0,
            sent: 0,
            closed: false,
            close_acked: false,
            heard: Vec::new(),
            early: BTreeMap::new(),
            others_end: None,
            timer: None,
            patience: PATIENCE,
        }
    }

    fn has_heard_the_end(&self) -> bool {
        self.others_end == Some(self.heard.len())
    }

    fn is_waiting(&self) -> bool {
        self.acked < self.sent || (self.closed && !self.close_acked && self.acked == self.out.len())
    }

    /// Takes a segment's bytes; the end of the stream counts once all before it came.
    fn hear(&mut self, at: i64, bytes: &[u8], fin: bool) {
        if fin {
            self.others_end = Some(usize::try_from(at).unwrap() + bytes.len());
        }
        let known = self.heard.len() as i64;
        if at > known {
            self.early.insert(at as usize, bytes.to_vec());
            return;
        }
        let skip = (known - at) as usize;
        self.heard.extend(bytes.iter().skip(skip));
        while let Some((at, bytes)) = self.early.pop_first() {
            if at > self.heard.len() {
                self.early.insert(at, bytes);
                return;
            }
            let skip = self.heard.len() - at;
            self.heard.extend(bytes.iter().skip(skip));
        }
    }
}

/// A segment under way: to the gateway or behind it.
struct Packet {
    is_replies: bool,
    passed: bool,
    segment: Segment,
    ack: u32,
}

/// The whole scene.
pub(crate) struct Wire {
    pub(crate) session: Session,
    lines: [Lines; 2],
    pub(crate) gate: Recorder,
    weather: Weather,
    dice: Dice,
    now: u64,
    /// The client, and the server.
    ends: [End; 2],
    /// What is under way, by the time of its arrival.
    air: BTreeMap<(u64, u64), Packet>,
    packets: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Result {
    /// What the server and the client heard.
    pub(crate) heard: [String; 2],
    /// What was opened and not taken back.
    pub(crate) openings: Vec<(u16, u16)>,
}

impl Wire {
    pub(crate) fn new(session: Session, weather: Weather) -> Self {
        let [client, server] = [session.commands.seen, session.replies.seen];
        Self {
            session,
            lines: [Lines::zeroed(); 2],
            gate: Recorder::default(),
            weather,
            dice: Dice(weather.seed),
            now: 1_000_000,
            ends: [End::new(client, server), End::new(server, client)],
            air: BTreeMap::new(),
            packets: 0,
        }
    }

    /// Each turn is said, in these pieces, when all before it was heard: true is the server's.
    pub(crate) fn play(mut self, turns: &[(bool, Vec<Vec<u8>>)]) -> Result {
        for (is_server, pieces) in turns {
            let side = usize::from(*is_server);
            for piece in pieces {
                self.ends[side].out.extend(piece);
                let end = self.ends[side].out.len();
                self.ends[side].writes.push(end);
                self.send(side);
                if self.dice.happens(30) {
                    self.run(Some(self.dice.clone().below(400)), |_| false);
                }
            }
            // What the gateway makes of it may be longer or shorter: all is there once all is
            // acknowledged.
            self.run(None, |wire| {
                wire.ends[side].acked == wire.ends[side].out.len()
            });
        }
        for side in [0, 1] {
            self.ends[side].closed = true;
            self.send(side);
        }
        self.run(None, |wire| {
            wire.ends
                .iter()
                .all(|end| end.close_acked && end.has_heard_the_end())
        });
        let text = |end: &End| end.heard.escape_ascii().to_string();
        Result {
            heard: [text(&self.ends[1]), text(&self.ends[0])],
            openings: self.gate.openings(),
        }
    }

    /// Lets time pass, until something holds or for some milliseconds.
    fn run(&mut self, time: Option<u64>, until: impl Fn(&Self) -> bool) {
        let end = time.map(|time| self.now + time);
        let start = self.now;
        while !until(self) {
            let arrival = self.air.first_key_value().map(|((at, _), _)| *at);
            let timers = self.ends.iter().filter_map(|end| end.timer);
            let next = timers.chain(arrival).min();
            let next = next
                .unwrap_or_else(|| end.expect("nothing goes on"))
                .max(self.now);
            if end.is_some_and(|end| next >= end) {
                self.now = end.unwrap();
                return;
            }
            self.now = next;
            let hour = 3_600_000;
            assert!(self.now < start + hour, "hangs: {:?}", self.weather);
            for side in [0, 1] {
                if self.ends[side].timer.is_some_and(|at| at <= self.now) {
                    self.repeat(side);
                }
            }
            if arrival == Some(self.now) {
                let (_, packet) = self.air.pop_first().unwrap();
                self.arrive(packet);
            }
        }
    }

    /// Sends what may be sent of what was not yet.
    fn send(&mut self, side: usize) {
        loop {
            let end = &self.ends[side];
            let from = end.sent;
            let under_way = end.sent - end.acked;
            if from == end.out.len() {
                break;
            }
            let written = *end.writes.iter().find(|at| **at > from).unwrap();
            // A sender that had to wait puts together what was written apart.
            let together = if under_way > 0 || self.dice.happens(20) {
                end.out.len()
            } else {
                written
            };
            let to = together.min(from + self.weather.segment);
            let small = to - from < self.weather.segment;
            let segments = under_way.div_ceil(self.weather.segment.min(8));
            if segments >= self.weather.window || (self.weather.nagle && small && under_way > 0) {
                break;
            }
            self.ends[side].sent = to;
            self.emit(side, from, to);
        }
        let end = &self.ends[side];
        if end.closed && !end.close_acked && end.sent == end.out.len() {
            self.emit(side, end.sent, end.sent);
        }
        self.wind(side);
    }

    /// Starts the timer where something waits, and stops it where nothing does.
    fn wind(&mut self, side: usize) {
        let now = self.now;
        let end = &mut self.ends[side];
        if !end.is_waiting() {
            end.timer = None;
            end.patience = PATIENCE;
        } else if end.timer.is_none() {
            end.timer = Some(now + end.patience);
        }
    }

    /// Sends again from the first byte that was not acknowledged, cut anew.
    fn repeat(&mut self, side: usize) {
        let end = &self.ends[side];
        let from = end.acked;
        let rest = end.sent - from;
        let most = rest.min(self.weather.segment);
        let len = if self.dice.happens(50) {
            most
        } else {
            1 + self.dice.below(most as u64) as usize
        };
        let to = (from + len).min(end.sent);
        let patience = (end.patience * 2).min(10_000);
        self.ends[side].patience = patience;
        self.ends[side].timer = Some(self.now + patience);
        self.emit(side, from, to);
        // Some go on behind that at once.
        if to < self.ends[side].sent && self.dice.happens(50) {
            self.emit(
                side,
                to,
                self.ends[side].sent.min(to + self.weather.segment),
            );
        }
    }

    fn emit(&mut self, side: usize, from: usize, to: usize) {
        let end = &self.ends[side];
        let heard = end.heard.len() as u32 + u32::from(end.has_heard_the_end());
        let packet = Packet {
            is_replies: side == 1,
            passed: false,
            ack: end.others_first.wrapping_add(heard),
            segment: Segment {
                seq: end.first.wrapping_add(from as u32),
                payload: end.out[from..to].to_vec(),
                fin: end.closed && to == end.out.len(),
                ..Segment::default()
            },
        };
        self.throw(packet);
    }

    /// Puts a packet on the way, if it is not lost.
    fn throw(&mut self, packet: Packet) {
        let times = 1 + u64::from(self.dice.happens(self.weather.repeats));
        for _ in 0..times {
            if self.dice.happens(self.weather.loss) {
                continue;
            }
            let delay = if self.dice.happens(self.weather.late) {
                1 + self.dice.below(500)
            } else {
                1
            };
            self.packets += 1;
            let key = (self.now + delay, self.packets);
            let copy = Packet {
                segment: packet.segment.clone(),
                ..packet
            };
            self.air.insert(key, copy);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        if packet.passed {
            self.receive(packet);
        } else {
            self.pass(packet);
        }
    }

    /// The gateway's part.
    fn pass(&mut self, packet: Packet) {
        let limits = Limits {
            payload: self.weather.segment.max(64),
            timeout: self.weather.timeout,
        };
        self.gate.now = self.now;
        let (session, gate) = (&mut self.session, &mut self.gate);
        let Some(segment) = host::pass(
            session,
            &mut self.lines,
            gate,
            packet.is_replies,
            &packet.segment,
            self.now,
            &limits,
        ) else {
            return;
        };
        assert!(segment.payload.len() <= limits.payload);
        let ack = host::acknowledge(session, !packet.is_replies, packet.ack);
        self.throw(Packet {
            passed: true,
            segment,
            ack,
            ..packet
        });
    }

    fn receive(&mut self, packet: Packet) {
        let from = usize::from(packet.is_replies);
        let side = 1 - from;
        let end = &mut self.ends[side];
        let at = i64::from(
            packet
                .segment
                .seq
                .wrapping_sub(end.others_first)
                .cast_signed(),
        );
        let segment = &packet.segment;
        if !segment.payload.is_empty() || segment.fin {
            end.hear(at, &segment.payload, segment.fin);
        }
        // Old bytes, new ones, and a number in front of the window: all are answered.
        let wants_answer =
            !segment.payload.is_empty() || segment.fin || at < end.heard.len() as i64;
        self.take_ack(side, packet.ack);
        if wants_answer {
            let sent = self.ends[side].sent;
            let heard = &self.ends[side];
            let ack = heard.heard.len() as u32 + u32::from(heard.has_heard_the_end());
            let answer = Packet {
                is_replies: side == 1,
                passed: false,
                ack: heard.others_first.wrapping_add(ack),
                segment: Segment {
                    seq: heard.first.wrapping_add(sent as u32),
                    payload: Vec::new(),
                    fin: false,
                    ..Segment::default()
                },
            };
            self.throw(answer);
        }
    }

    fn take_ack(&mut self, side: usize, ack: u32) {
        let end = &mut self.ends[side];
        let acked = i64::from(ack.wrapping_sub(end.first).cast_signed());
        let most = end.sent as i64 + i64::from(end.closed);
        assert!(
            acked <= most,
            "acknowledged before it was sent: {acked} of {most}"
        );
        if acked > end.out.len() as i64 && end.closed {
            end.close_acked = true;
        }
        let acked = (acked.max(0) as usize).min(end.sent);
        if acked > end.acked || end.close_acked {
            end.acked = end.acked.max(acked);
            end.timer = None;
            end.patience = PATIENCE;
        }
        if end.acked < end.out.len() || end.is_waiting() {
            if end.timer.is_none() {
                self.send(side);
            }
        } else {
            end.timer = None;
        }
    }
}
