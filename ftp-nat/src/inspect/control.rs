//! One control connection of a capture, run through the gateway's own reader.

use std::net::{IpAddr, SocketAddr};

use bytemuck::Zeroable as _;
use ftp_nat_common::{
    abi::{Lines, Session, begin, direction, role},
    counter::Counter,
    ftp::tls,
    host::{self, Limits, Segment},
    wire::{
        addr::{Addr, Endpoint, Port},
        seq::distance,
    },
};

use super::{
    direction::Stream,
    gate::{Decision, Pinholes, RecordingGate},
    packet::Tcp,
};
use crate::model::address::is_inner;

/// What the gateway goes by; times are milliseconds here.
const LIMITS: Limits = Limits {
    timeout: 10_000,
    // Captures hold what was sent, not what fits a link.
    payload: 1 << 20,
};

/// Segments beyond a gap that are kept until it is filled.
const EARLY: usize = 1024;

/// Which end the gateway is in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The server's.
    Publish,
    /// The client's.
    Masquerade,
}

/// A line, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its end came, in nanoseconds.
    pub time: u64,
    /// It is the server's.
    pub is_reply: bool,
    /// The line as it was sent.
    pub said: Vec<u8>,
    /// What arrives of it.
    pub arrives: Vec<u8>,
    /// Its start is missing from the capture.
    pub is_fragment: bool,
    /// Its end is missing.
    pub is_unfinished: bool,
    /// In how many segments it came.
    pub segments: u32,
    /// What happened because of it.
    pub decisions: Vec<Decision>,
}

/// An announced connection that was let through, and whether it came.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// The line, and which of its decisions.
    pub line: usize,
    /// Its place in the line's decisions.
    pub decision: usize,
    /// The announced address, if any, and port.
    to: (Option<IpAddr>, u16),
    /// How many nanoseconds later it came; none: not at all.
    pub came: Option<u64>,
}

/// A control connection.
pub struct Control {
    /// Its ends.
    pub client: SocketAddr,
    /// Its ends.
    pub server: SocketAddr,
    /// Which of them is behind the gateway.
    pub role: Role,
    /// The address that is announced.
    pub public: IpAddr,
    /// Its lines.
    pub lines: Vec<Line>,
    /// What it announced.
    pub awaited: Vec<Awaited>,
    /// Segments that are encrypted.
    pub encrypted: u64,
    /// Segments beyond a gap of the capture that was never filled.
    pub lost: u64,
    session: Box<Session>,
    kept: Box<[Lines; 2]>,
    /// The client's and the server's.
    streams: [Stream; 2],
    early: [Vec<Segment>; 2],
    decisions: [Vec<Decision>; 2],
    /// What the client has said from a line on that is withheld: it would repeat that.
    withheld: Vec<Piece>,
    /// Milliseconds by which the gateway's clock is ahead of the capture's: those that its repetitions
    /// would have taken.
    delay: u64,
}

/// A part of a segment, up to a line's end.
struct Piece {
    seq: u32,
    bytes: Vec<u8>,
    fin: bool,
    /// When it was captured, in nanoseconds.
    time: u64,
}

/// Milliseconds after which a client repeats what was withheld.
const REPETITION: u64 = 200;

impl Control {
    /// A connection of which nothing was seen yet.
    pub fn new(client: SocketAddr, server: SocketAddr, role: Role, public: IpAddr) -> Self {
        let mut session = Box::new(Session::zeroed());
        let end = |it: SocketAddr| Endpoint::new(Addr::from(it.ip()), Port::new(it.port()));
        let [inside, outside] = match role {
            Role::Publish => [server, client],
            Role::Masquerade => [client, server],
        };
        session.role = match role {
            Role::Publish => role::PUBLISH,
            Role::Masquerade => role::MASQUERADE,
        };
        session.inside = end(inside);
        session.outside = end(outside);
        session.alias = session.outside;
        session.public = end(SocketAddr::new(public, inside.port()));
        session.advertise = session.public.addr;
        if role == Role::Masquerade && !is_inner(client.ip()) {
            // Captured behind the kernel's NAT: what is announced tells who the client is.
            session.inside = Endpoint::default();
        }
        Self {
            client,
            server,
            role,
            public,
            lines: Vec::new(),
            awaited: Vec::new(),
            encrypted: 0,
            lost: 0,
            session,
            kept: Box::new([Lines::zeroed(); 2]),
            streams: [Stream::default(), Stream::default()],
            early: [Vec::new(), Vec::new()],
            decisions: [Vec::new(), Vec::new()],
            withheld: Vec::new(),
            delay: 0,
        }
    }

    /// Whether a SYN with this number is one that began this connection.
    pub fn began_with(&self, is_replies: bool, isn: u32) -> bool {
        let direction = direction(&self.session, u8::from(is_replies));
        !self.streams[usize::from(is_replies)].is_started() || direction.isn == isn
    }

    /// Takes a segment of it.
    pub fn see(&mut self, tcp: &Tcp, time: u64, pinholes: &mut Pinholes) {
        let is_replies = tcp.source == self.server;
        let side = usize::from(is_replies);
        if tcp.syn || tcp.ack.is_some() {
            self.pass_head(is_replies, tcp, time, pinholes);
        }
        if tcp.syn {
            if !self.streams[side].is_started() {
                self.streams[side].start(tcp.seq);
            }
            return;
        }
        if tcp.ack.is_some() {
            self.catch_up(!is_replies, time, pinholes);
        }
        if tcp.payload.is_empty() && !tcp.fin {
            return;
        }
        let segment = Segment {
            seq: tcp.seq,
            payload: tcp.payload.clone(),
            fin: tcp.fin,
            ..Segment::default()
        };
        if !self.streams[side].is_started() {
            // The capture began later than the connection.
            self.streams[side].skip_to(tcp.seq);
            self.session.asked.begin = begin::FTP;
            self.session.answered.begin = begin::FTP;
        }
        if self.streams[side].is_ahead(tcp.seq) && !segment.payload.is_empty() {
            if self.early[side].len() < EARLY {
                self.early[side].push(segment);
            } else {
                self.lost += 1;
            }
        } else {
            self.feed(is_replies, &segment, time, pinholes);
        }
        self.catch_up(is_replies, time, pinholes);
        self.repeat_withheld(time, pinholes);
    }

    /// Sends a segment's head through the gateway: its SYN, and what it acknowledges. Its text follows
    /// line by line.
    fn pass_head(&mut self, is_replies: bool, tcp: &Tcp, time: u64, pinholes: &mut Pinholes) {
        let side = usize::from(is_replies);
        // The receiver's number, as it would be behind the gateway.
        let edits = &direction(&self.session, u8::from(!is_replies)).edits;
        let head = Segment {
            seq: tcp.seq,
            syn: tcp.syn,
            ack: tcp.ack.map(|ack| edits.sent(ack)),
            ..Segment::default()
        };
        self.drive(side, &head, time, pinholes);
    }

    /// Drives a segment through the gateway, as the datapath does: gives what leaves.
    fn drive(
        &mut self,
        side: usize,
        segment: &Segment,
        time: u64,
        pinholes: &mut Pinholes,
    ) -> Option<Segment> {
        let mut gate = RecordingGate {
            pinholes,
            decisions: &mut self.decisions[side],
            now: time / 1_000_000 + self.delay,
        };
        host::pass(
            &mut self.session,
            &mut self.kept,
            &mut gate,
            side == 1,
            segment,
            0,
            &LIMITS,
        )
    }

    /// The client repeats what was withheld, once it has acknowledged all that the server has said.
    fn repeat_withheld(&mut self, time: u64, pinholes: &mut Pinholes) {
        let replies = &self.session.replies;
        if distance(replies.acked, replies.seen) < 0 {
            return;
        }
        // The first look is at what the server has said meanwhile, the second one lets it pass.
        for _ in 0..2 {
            if self.withheld.is_empty() {
                return;
            }
            self.delay += REPETITION;
            let pieces = std::mem::take(&mut self.withheld);
            for piece in pieces {
                self.take(false, piece, time, pinholes);
            }
        }
    }

    /// What came too early and no longer is, or what the other end has although the capture has
    /// not: its sender repeats the one, and nobody the other.
    fn catch_up(&mut self, is_replies: bool, time: u64, pinholes: &mut Pinholes) {
        let side = usize::from(is_replies);
        loop {
            let stream = &self.streams[side];
            let ready = self.early[side]
                .iter()
                .position(|it| !stream.is_ahead(it.seq));
            let direction = direction(&self.session, u8::from(is_replies));
            let went_by = distance(direction.acked, direction.seen) > 0;
            let place = match ready {
                Some(place) => place,
                None if went_by && !self.early[side].is_empty() => {
                    let base = direction.seen;
                    let order = |it: &(usize, &Segment)| distance(it.1.seq, base);
                    let first = self.early[side].iter().enumerate().min_by_key(order);
                    first.map_or(0, |(place, _)| place)
                }
                None => return,
            };
            let segment = self.early[side].swap_remove(place);
            self.feed(is_replies, &segment, time, pinholes);
        }
    }

    /// Sends a segment through the gateway, a line at a time, so that each line's decisions are
    /// known.
    fn feed(&mut self, is_replies: bool, segment: &Segment, time: u64, pinholes: &mut Pinholes) {
        let side = usize::from(is_replies);
        self.streams[side].segments += 1;
        let mut seq = segment.seq;
        let mut rest = segment.payload.as_slice();
        loop {
            let is_encrypted = tls::is_encrypted(&self.session, is_replies);
            let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let len = end.filter(|_| !is_encrypted).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at(len);
            let fin = segment.fin && behind.is_empty();
            let bytes = piece.to_vec();
            let piece = Piece {
                seq,
                bytes,
                fin,
                time,
            };
            self.take(is_replies, piece, time, pinholes);
            if behind.is_empty() {
                break;
            }
            seq = seq.wrapping_add(len as u32);
            rest = behind;
            self.streams[side].segments = self.streams[side].segments.max(1);
        }
        if segment.fin {
            self.end(is_replies, time);
        }
    }

    /// Sends a piece through the gateway, and notes what becomes of it; `time`: now.
    fn take(&mut self, is_replies: bool, piece: Piece, time: u64, pinholes: &mut Pinholes) {
        let side = usize::from(is_replies);
        let is_encrypted = tls::is_encrypted(&self.session, is_replies);
        let waits = !is_replies && !self.withheld.is_empty();
        let (seq, bytes) = (piece.seq, piece.bytes.as_slice());
        if waits || !self.pass(is_replies, seq, bytes, piece.fin, time, pinholes) {
            self.withheld.push(piece);
        } else if is_encrypted && tls::is_encrypted(&self.session, is_replies) {
            self.encrypted += u64::from(!bytes.is_empty());
            self.streams[side].skip_to(seq.wrapping_add(bytes.len() as u32));
        } else {
            self.read(is_replies, seq, bytes, piece.time);
        }
    }

    /// The gateway's own code; false: the piece, or its end, is withheld.
    fn pass(
        &mut self,
        is_replies: bool,
        seq: u32,
        piece: &[u8],
        fin: bool,
        time: u64,
        pinholes: &mut Pinholes,
    ) -> bool {
        let side = usize::from(is_replies);
        let end = seq.wrapping_add(piece.len() as u32);
        let mut from = seq;
        // What is cut off is repeated by its sender.
        for _ in 0..=piece.len() {
            let skip = from.wrapping_sub(seq) as usize;
            let segment = Segment {
                seq: from,
                payload: piece[skip..].to_vec(),
                fin,
                ..Segment::default()
            };
            let sent = self.drive(side, &segment, time, pinholes);
            let seen = direction(&self.session, u8::from(is_replies)).seen;
            let is_withheld = self.session.asked.withheld_since != 0;
            if !is_replies && is_withheld && (seen == from || seen == end.wrapping_sub(1)) {
                if let Some(sent) = sent {
                    self.streams[side].arrive(sent.seq, &sent.payload);
                }
                return false;
            }
            let Some(sent) = sent else { return true };
            self.streams[side].arrive(sent.seq, &sent.payload);
            let is_cut = distance(seen, from) > 0 && distance(seen, end) < 0;
            if !is_cut || !piece.ends_with(b"\n") {
                return true;
            }
            from = seen;
        }
        true
    }

    /// Notes the lines that end in a piece.
    fn read(&mut self, is_replies: bool, seq: u32, piece: &[u8], time: u64) {
        let side = usize::from(is_replies);
        let mut seq = seq;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let stream = &mut self.streams[side];
            if stream.is_ahead(seq) {
                stream.skip_to(seq);
            }
            let is_new = stream.take(seq, part);
            seq = seq.wrapping_add(part.len() as u32);
            if is_new && part.ends_with(b"\n") {
                self.end_line(is_replies, false, time);
            }
        }
    }

    fn end_line(&mut self, is_replies: bool, is_unfinished: bool, time: u64) {
        let side = usize::from(is_replies);
        let (said, arrives, is_fragment, segments) = self.streams[side].end_line();
        let decisions = std::mem::take(&mut self.decisions[side]);
        for (place, decision) in decisions.iter().enumerate() {
            if let Decision::Opened(opening, _) = decision {
                self.awaited.push(Awaited {
                    line: self.lines.len(),
                    decision: place,
                    to: (
                        (!opening.addr.is_none()).then(|| opening.addr.to_ip()),
                        opening.port.number(),
                    ),
                    came: None,
                });
            }
        }
        self.lines.push(Line {
            time,
            is_reply: is_replies,
            said,
            arrives,
            is_fragment,
            is_unfinished,
            segments,
            decisions,
        });
    }

    /// A direction, or the capture, ends.
    pub fn end(&mut self, is_replies: bool, time: u64) {
        let side = usize::from(is_replies);
        self.lost += self.early[side].len() as u64;
        self.early[side].clear();
        let has_news = self.decisions[side]
            .iter()
            .any(|it| !matches!(it, Decision::Counted(Counter::PassedEncrypted, _)));
        if !self.streams[side].line.is_empty() || has_news {
            self.end_line(is_replies, true, time);
        }
    }

    /// Whether a connection from `source` to `destination` is one that was announced here.
    pub fn is_awaited(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        time: u64,
        pinholes: &mut Pinholes,
    ) -> bool {
        let ends = [self.client.ip(), self.server.ip(), self.public];
        if !ends.contains(&source.ip()) {
            return false;
        }
        let Some(awaited) = self.awaited.iter_mut().rev().find(|it| {
            let is_there = ends.contains(&destination.ip()) || it.to.0 == Some(destination.ip());
            it.came.is_none() && it.to.1 == destination.port() && is_there
        }) else {
            return false;
        };
        awaited.came = Some(time.saturating_sub(self.lines[awaited.line].time));
        let target = (self.session.inside.addr, Port::new(awaited.to.1));
        pinholes.used(self.session.outside.addr, target);
        true
    }
}
