//! A conversation that both sides of the comparison follow.

use ftp_nat_common::{
    abi::{HalfOpen, HandshakeSegment, Lines, Session, begin, direction, kind},
    host::{Limits, Segment, pass},
    stream::handshake::{self, Handshake, Offer},
};

use super::{
    model::{Model, ModelGate},
    random::Random,
    stream::Stream,
    text,
};
use crate::{
    fixture::without_return_path,
    loaded::{DROP, Datapath, Hook, NEVER, NEXT, Outcome, REDIRECT},
    packet::{ACK, FIN, PSH, Packet, RST, SYN, WINDOW, hex},
    scene::{Ends, hop},
    talk::{
        Sender::{self, Client, Server},
        timestamp_options,
    },
};

/// The model's time; only what passes between two segments matters.
const NOW: u64 = 1 << 50;

/// The longest payload that the datapath writes anew.
const LONGEST: usize = 1400;

/// A number that may be anywhere, or near the right one.
fn forged(random: &mut Random, right: u32) -> u32 {
    let distance = random.below(1 << 31) as u32 >> random.below(31);
    if random.chance(50) {
        right.wrapping_add(distance)
    } else {
        right.wrapping_sub(distance)
    }
}

/// The handshake of [`Packet::syn`], and an answer without options.
fn half_open(isns: [u32; 2]) -> HalfOpen {
    let mut half_open = HalfOpen::default();
    let syn = Offer {
        isn: isns[0],
        window: WINDOW.into(),
        scale: Some(7),
        timestamp: 0x0102_0304,
    };
    let answer = Offer {
        isn: isns[1],
        window: WINDOW.into(),
        ..Offer::default()
    };
    handshake::offer(&mut half_open, &syn);
    handshake::answer(&mut half_open, &answer);
    half_open
}

/// Where the value of the first TCP option of this kind stands.
fn option(options: &[u8], kind: u8) -> Option<usize> {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            1 => at += 1,
            found if found == kind => return Some(at + 2),
            _ => at += usize::from(options[at + 1]),
        }
    }
    None
}

pub(super) struct Connection {
    ends: Ends,
    is_published: bool,
    pub(super) number: u32,
    /// What the model knows.
    pub(super) session: Session,
    pub(super) lines: [Lines; 2],
    streams: [Stream; 2],
    /// Whether its ends have TCP timestamps, and the latest of them.
    has_timestamps: bool,
    timestamp: u32,
}

impl Connection {
    /// Both ends' SYNs, which both sides of the comparison take from the kernel.
    pub(super) fn begin(datapath: &mut Datapath, random: &mut Random, index: usize) -> Self {
        let (ends, is_published) = text::ends(random, index);
        let isns = [(); 2].map(|()| {
            let far = random.number() as u32;
            if random.chance(50) {
                far
            } else {
                // Wraps soon.
                u32::MAX - far % 2000
            }
        });
        if is_published {
            ends.publish(datapath, 0);
        } else {
            datapath.masquerade(ends.outside.port());
        }
        let known: Vec<_> = datapath
            .sessions
            .all()
            .iter()
            .map(|(number, _)| *number)
            .collect();
        if !is_published && random.chance(80) {
            // The client's own SYN, before the kernel's NAT: otherwise only its network is known.
            let own = Packet::new(ends.inside, ends.outside);
            datapath.run(Hook::LanIngress, &own.syn().seq(isns[0]).bytes());
        }
        let mut connection = Self {
            ends,
            is_published,
            number: 0,
            session: bytemuck::Zeroable::zeroed(),
            lines: bytemuck::Zeroable::zeroed(),
            streams: isns.map(Stream::new),
            has_timestamps: random.chance(60),
            // Wraps soon.
            timestamp: u32::MAX - random.below(3000) as u32,
        };
        let syn = connection.plain(Client).syn().seq(isns[0]);
        datapath.run(connection.hook(Client), &syn.bytes());
        let answer = connection
            .plain(Server)
            .flags(SYN | ACK)
            .seq(isns[1])
            .ack(isns[0].wrapping_add(1));
        datapath.run(connection.hook(Server), &answer.bytes());
        let half_open = half_open(isns);
        for _ in 0..random.below(5) {
            connection.forge_handshake(datapath, random, &half_open, isns);
        }
        assert_eq!(datapath.sessions.len(), known.len(), "{ends:?}");
        let ack = connection
            .plain(Client)
            .flags(ACK)
            .seq(isns[0].wrapping_add(1))
            .ack(isns[1].wrapping_add(1));
        datapath.run(connection.hook(Client), &ack.bytes());
        let (number, _) = datapath
            .sessions
            .all()
            .into_iter()
            .find(|(number, _)| !known.contains(number))
            .unwrap();
        connection.number = number;
        connection.session = datapath.sessions.get(&number).unwrap();
        let kernel = connection.session;
        let Session {
            commands, replies, ..
        } = &mut connection.session;
        handshake::establish(&half_open, commands, replies);
        let mut model = Model::new(datapath);
        let leaves = connection.expect(&mut model, Client, &ack);
        assert!(leaves.is_some() && connection.session == kernel, "{ends:?}");
        if random.chance(90) {
            // As if both had said how FTP begins.
            connection.session.asked.begin = begin::FTP;
            connection.session.answered.begin = begin::FTP;
            datapath.sessions.set(number, connection.session);
        }
        assert!(
            connection
                .flow_kind(datapath)
                .is_some_and(|found| found == kind::CONTROL),
            "{ends:?}"
        );
        connection
    }

    /// A segment that does not finish the handshake, as the model judges it.
    fn forge_handshake(
        &self,
        datapath: &Datapath,
        random: &mut Random,
        half_open: &HalfOpen,
        isns: [u32; 2],
    ) {
        let sender = if random.chance(50) { Client } else { Server };
        let (own, other) = (sender as usize, 1 - sender as usize);
        let near = |random: &mut Random, right: u32| {
            let right = right.wrapping_add(1);
            if random.chance(30) {
                right
            } else {
                forged(random, right)
            }
        };
        let segment = HandshakeSegment {
            seq: near(random, isns[own]),
            ack: near(random, isns[other]),
            flags: random
                .pick(&[
                    ACK,
                    ACK | FIN,
                    RST,
                    RST | ACK,
                    SYN | ACK,
                    SYN | FIN | ACK,
                    FIN,
                    0,
                ])
                .into(),
        };
        if handshake::judge(half_open, &segment, sender == Server) != Handshake::Passes {
            return;
        }
        let packet = self.plain(sender).flags(segment.flags as u8);
        let packet = packet.seq(segment.seq).ack(segment.ack);
        datapath.run(self.hook(sender), &packet.bytes());
    }

    fn flow_kind(&self, datapath: &Datapath) -> Option<u8> {
        let mut ends = self.ends;
        if !self.is_published {
            ends.inside = ends.public;
        }
        ends.flows(datapath).map(|(inbound, _)| inbound.kind)
    }

    /// Where the sender's packets are looked at.
    pub(super) fn hook(&self, sender: Sender) -> Hook {
        match (sender, self.is_published) {
            (Client, true) | (Server, false) => Hook::WanIngress,
            (Server, true) => Hook::LanIngress,
            (Client, false) => Hook::WanEgress,
        }
    }

    /// A packet of the sender as the gateway gets it.
    fn plain(&self, sender: Sender) -> Packet {
        let Ends {
            outside,
            public,
            inside,
        } = self.ends;
        match (sender, self.is_published) {
            (Client, true) | (Server, false) => Packet::new(outside, public),
            (Server, true) => Packet::new(inside, outside),
            (Client, false) => Packet::new(public, outside),
        }
    }

    /// The same packet as it must leave, all but its text and numbers.
    fn translated(&self, sender: Sender, packet: Packet) -> Packet {
        match (sender, self.is_published) {
            (Client, true) => hop(self.ends.inwards(&packet)),
            (Server, true) => hop(self.ends.outwards(&packet)),
            (_, false) => packet,
        }
    }

    /// Lets time pass since something was held, missing or withheld, for both.
    pub(super) fn age(&mut self, datapath: &mut Datapath, time: u64, milliseconds: u64) {
        let mut kernel = datapath.sessions.get(&self.number).unwrap();
        for session in [&mut kernel, &mut self.session] {
            for direction in [&mut session.commands, &mut session.replies] {
                for since in [&mut direction.held_since, &mut direction.gap_since] {
                    if *since != 0 {
                        *since = since.wrapping_sub(time);
                    }
                }
            }
            let asked = &mut session.asked;
            if asked.withheld_since != 0 {
                asked.withheld_since = asked.withheld_since.wrapping_sub(milliseconds);
                asked.withheld_first = asked.withheld_first.wrapping_sub(milliseconds);
            }
        }
        datapath.sessions.set(self.number, kernel);
    }

    /// Somebody's next packet.
    pub(super) fn next_packet(&mut self, random: &mut Random) -> (Sender, Packet) {
        let sender = if random.chance(40) { Client } else { Server };
        let (own, other) = (sender as usize, 1 - sender as usize);
        if random.chance(60) && self.streams[own].waiting() < 300 {
            let line = match sender {
                Client => text::command(random, &self.ends, self.is_published),
                Server => text::reply(random, &self.ends),
            };
            self.streams[own].say(&line);
        }
        let receiver_of = direction(&self.session, other as u8);
        let ack = self.streams[other].acknowledged(random, receiver_of);
        let mut packet = self.plain(sender).flags(ACK).ack(ack);
        if random.chance(15) {
            packet.tcp_options = self.options(random, other);
        }
        if self.has_timestamps && packet.tcp_options.len() <= 28 && !random.chance(3) {
            self.timestamp = self.timestamp.wrapping_add(random.below(4) as u32);
            let mut timestamp = self.timestamp;
            if random.chance(5) {
                timestamp = timestamp.wrapping_sub(1 << random.below(31));
            }
            packet.tcp_options.splice(..0, timestamp_options(timestamp));
        }
        let piece = self.streams[own].piece(random);
        packet.seq = piece.seq;
        if !random.chance(8) {
            packet.payload = piece.bytes;
            packet.flags |= PSH;
        }
        if random.chance(1) {
            packet.flags |= FIN;
        }
        if random.chance(3) {
            packet.seq = forged(random, packet.seq);
        }
        if random.chance(3) {
            packet.ack = forged(random, packet.ack);
        }
        if random.chance(2) {
            packet.flags |= [SYN, RST, SYN | FIN][random.below(3)];
        }
        (sender, packet)
    }

    /// SACK blocks about the other side's numbers, at any place among other options.
    fn options(&self, random: &mut Random, other: usize) -> Vec<u8> {
        let mut options = vec![1; random.below(4)];
        let blocks = random.between(1, 3);
        options.extend([5, 2 + 8 * blocks as u8]);
        for _ in 0..2 * blocks {
            let known = direction(&self.session, other as u8);
            let edge = self.streams[other].acknowledged(random, known);
            options.extend(edge.wrapping_add(random.below(9) as u32).to_be_bytes());
        }
        while !options.len().is_multiple_of(4) {
            options.push(1);
        }
        options
    }

    /// What the model lets leave.
    pub(super) fn expect(
        &mut self,
        model: &mut Model,
        sender: Sender,
        packet: &Packet,
    ) -> Option<Packet> {
        let is_replies = sender == Server;
        let segment = Segment {
            seq: packet.seq,
            payload: packet.payload.clone(),
            fin: packet.flags & FIN != 0,
            syn: packet.flags & SYN != 0,
            rst: packet.flags & RST != 0,
            ack: (packet.flags & ACK != 0).then_some(packet.ack),
            window: WINDOW,
            timestamp: option(&packet.tcp_options, 8).map_or(0, |at| {
                let bytes = packet.tcp_options[at..].first_chunk();
                u32::from_be_bytes(*bytes.unwrap())
            }),
        };
        let limits = Limits {
            timeout: NEVER,
            payload: usize::MAX,
        };
        let mut doorman = ModelGate {
            model,
            session: self.number,
        };
        let session = &mut self.session;
        let leaves = pass(
            session,
            &mut self.lines,
            &mut doorman,
            is_replies,
            &segment,
            NOW,
            &limits,
        )?;
        let ack = leaves.ack.unwrap_or(packet.ack);
        let mut out = packet
            .clone()
            .seq(leaves.seq)
            .ack(ack)
            .payload(leaves.payload);
        if !leaves.fin {
            out.flags &= !FIN;
        }
        self.move_blocks(sender, &mut out.tcp_options);
        Some(self.translated(sender, out))
    }

    /// Moves the edges of SACK blocks.
    fn move_blocks(&self, sender: Sender, options: &mut [u8]) {
        let edits = direction(&self.session, 1 - sender as u8).edits;
        let Some(at) = option(options, 5) else {
            return;
        };
        let end = at - 2 + usize::from(options[at - 1]);
        for (place, edge) in options[at..end].chunks_exact_mut(4).enumerate() {
            let old = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
            let new = edits.original(old, place % 2 == 0);
            edge.copy_from_slice(&new.to_be_bytes());
        }
    }

    /// Compares what left with what the model says; gives what left.
    pub(super) fn compare(
        &self,
        outcome: &Outcome,
        expected: Option<Packet>,
    ) -> Result<Option<Packet>, String> {
        let Some(mut expected) = expected else {
            return if outcome.verdict == DROP {
                Ok(None)
            } else {
                Err(format!(
                    "left, but had to be dropped\n{}",
                    hex(&outcome.frame)
                ))
            };
        };
        let verdict = if self.is_published { REDIRECT } else { NEXT };
        if outcome.verdict != verdict {
            return Err(format!(
                "verdict {}, not {verdict}: {expected:?}",
                outcome.verdict
            ));
        }
        let left = outcome.frame.len() - expected.clone().payload("").bytes().len();
        if left < expected.payload.len() && expected.payload.len() > LONGEST {
            // Too long to be written anew: the rest will be repeated.
            if left > LONGEST || left + 64 < LONGEST {
                return Err(format!("{left} bytes left of {}", expected.payload.len()));
            }
            expected.payload.truncate(left);
            expected.flags &= !FIN;
        }
        let (mut frame, expected_frame) = (outcome.frame.clone(), expected.bytes());
        without_return_path(&mut frame, &expected_frame);
        if frame != expected_frame {
            return Err(format!(
                "what left\n{}\nand what had to\n{}",
                hex(&frame),
                hex(&expected_frame)
            ));
        }
        Ok(Some(expected))
    }

    /// The sender may go back to what did not leave.
    pub(super) fn learn(&mut self, sender: Sender, random: &mut Random) {
        if random.chance(35) {
            let known = direction(&self.session, sender as u8);
            self.streams[sender as usize].go_back(known);
        }
    }

    /// For messages: who sent what.
    pub(super) fn story(&self, sender: Sender, packet: &Packet, place: &str) -> String {
        format!(
            "{place}: {sender:?} of {:?}, published {}, sent {} seq {} ack {} flags {:x} options {:?}",
            self.ends,
            self.is_published,
            packet.payload.escape_ascii(),
            packet.seq,
            packet.ack,
            packet.flags,
            packet.tcp_options,
        )
    }
}
