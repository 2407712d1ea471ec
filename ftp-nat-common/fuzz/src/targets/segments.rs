//! Any segments in any order: what a receiver gets of one number is always the same byte, nothing
//! is longer than it may be, and nothing is acknowledged that was not sent.

use crate::conversation::{masquerade, publish, publish_v6};
use bytemuck::Zeroable;
use ftp_nat_common::abi::direction;
use ftp_nat_common::abi::{Lines, Session};
use ftp_nat_common::host::{self, Limits, Recorder, Segment};
use ftp_nat_common::stream::window;
use std::collections::HashMap;

/// Bytes that describe one segment.
const STEP: usize = 5;

/// First a byte for the role, one for the longest segment, one for the number of steps; then the
/// steps; then what the client says, a zero, and what the server says.
pub fn run(data: &[u8]) {
    let [role, longest, steps, rest @ ..] = data else {
        return;
    };
    let Some((steps, texts)) = rest.split_at_checked(usize::from(*steps) * STEP) else {
        return;
    };
    let texts = &texts[..texts.len().min(2000)];
    let middle = texts.iter().position(|byte| *byte == 0);
    let (commands, replies) = texts.split_at(middle.unwrap_or(texts.len()));
    let replies = replies.get(1..).unwrap_or_default();
    // Numbers that wrap on the way.
    let isn = [u32::MAX - 20, u32::MAX - 40];
    let session = [publish, masquerade, publish_v6][usize::from(*role) % 3](isn);
    let mut scene = Scene {
        has_timestamps: role & 0x80 != 0,
        firsts: [session.commands.seen, session.replies.seen],
        session,
        lines: [Zeroable::zeroed(); 2],
        gate: Recorder::default(),
        limits: Limits {
            timeout: 5000,
            payload: 1 + usize::from(*longest),
        },
        now: 1,
        heard: [HashMap::new(), HashMap::new()],
        sent: [0, 0],
    };
    for step in steps.chunks_exact(STEP) {
        scene.step(step, [commands, replies]);
    }
}

struct Scene {
    /// Whether segments have a TCP timestamp: the time.
    has_timestamps: bool,
    session: Session,
    lines: [Lines; 2],
    gate: Recorder,
    limits: Limits,
    now: u64,
    firsts: [u32; 2],
    /// What left, by its number.
    heard: [HashMap<u32, u8>; 2],
    /// How far each sender is.
    sent: [u32; 2],
}

impl Scene {
    fn step(&mut self, step: &[u8], texts: [&[u8]; 2]) {
        let [what, from, from_high, len, wait] = *step else {
            return;
        };
        let side = usize::from(what & 1);
        let is_replies = side == 1;
        let text = texts[side];
        self.now += u64::from(wait) * 64;
        let from = usize::from(u16::from_le_bytes([from, from_high & 7])).min(text.len());
        let to = (from + usize::from(len)).min(text.len());
        let fin = what & 0xf0 == 0xf0 && to == text.len();
        if what & 2 != 0 {
            // The receiver acknowledges what it could have.
            let ack = self.firsts[side].wrapping_add(from as u32);
            let told = host::acknowledge(&mut self.session, is_replies, ack);
            // At most what was held or sent.
            let told = told.wrapping_sub(self.firsts[side]);
            assert!(told as usize <= text.len() + 600 || told > u32::MAX - 600);
            return;
        }
        let segment = Segment {
            seq: self.firsts[side].wrapping_add(from as u32),
            payload: text[from..to].to_vec(),
            fin,
            timestamp: if self.has_timestamps {
                self.now as u32
            } else {
                0
            },
            ..Segment::default()
        };
        if what & 0x0c == 0x0c {
            self.forge(side, &segment, what >> 4);
            return;
        }
        self.sent[side] = self.sent[side].max(to as u32);
        let passed = host::pass(
            &mut self.session,
            &mut self.lines,
            &mut self.gate,
            is_replies,
            &segment,
            self.now,
            &self.limits,
        );
        let Some(passed) = passed else {
            return;
        };
        // What is encrypted is not cut: it never grows.
        let most = self.limits.payload.max(segment.payload.len());
        assert!(passed.payload.len() <= most);
        assert!(!passed.fin || segment.fin);
        self.hear(side, &passed);
    }

    /// Somebody else sends a SYN, RST or FIN between the same ends: what TCP would not believe passes and
    /// changes nothing.
    fn forge(&self, side: usize, like: &Segment, what: u8) {
        let mut session = self.session;
        window::track(&mut session.commands, 7);
        window::track(&mut session.replies, 7);
        let forged = Segment {
            syn: what & 1 != 0,
            rst: what & 2 != 0,
            fin: what & 4 != 0,
            ack: (what & 8 != 0).then_some(self.firsts[side ^ 1]),
            ..like.clone()
        };
        let own = *direction(&session, side as u8);
        let forged = Segment {
            timestamp: own.timestamp.wrapping_sub(u32::from(what >> 2)),
            ..forged
        };
        let end = forged
            .seq
            .wrapping_add(forged.payload.len() as u32 + u32::from(forged.fin));
        let is_older = own.timestamp != 0 && forged.timestamp != own.timestamp;
        let is_new = end != forged.seq && end.wrapping_sub(own.seen).cast_signed() > 0;
        // What was acknowledged early is not in the receiver's window yet.
        let slack = if own.owed == 0 { 0 } else { 512 };
        let is_beyond = forged.seq.wrapping_sub(own.window).cast_signed() > slack;
        let is_exact = [own.end, own.acked, own.seen].contains(&forged.seq);
        let is_believable = !forged.syn && if forged.rst { is_exact } else { !is_beyond };
        let before = session;
        let mut lines = self.lines;
        let mut gate = self.gate.clone();
        let passed = host::pass(
            &mut session,
            &mut lines,
            &mut gate,
            side == 1,
            &forged,
            self.now,
            &self.limits,
        );
        if !is_believable {
            assert!(session == before, "{forged:?}");
            assert_eq!(passed.map(|it| it.payload), Some(forged.payload));
            assert_eq!(gate.openings(), self.gate.openings());
        } else if is_older && is_new && !forged.rst && session.answered.encrypted == 0 {
            // Its receiver may drop it for its timestamp.
            assert!(session == before, "{forged:?}");
            assert_eq!(gate.openings(), self.gate.openings());
        }
    }

    fn hear(&mut self, side: usize, passed: &Segment) {
        let edits = &direction(&self.session, side as u8).edits;
        // Edits that are forgotten were acknowledged, and what is repeated of them is ignored.
        let oldest = (0..4).rev().find_map(|age| edits.recent(age));
        let forgotten = (edits.count > 4).then(|| {
            let oldest = oldest.expect("there are four");
            oldest.start.wrapping_add_signed(oldest.before)
        });
        for (at, byte) in passed.payload.iter().enumerate() {
            let seq = passed.seq.wrapping_add(at as u32);
            if forgotten.is_some_and(|oldest| seq.wrapping_sub(oldest).cast_signed() < 0) {
                continue;
            }
            let before = self.heard[side].insert(seq, *byte);
            assert!(
                before.is_none_or(|before| before == *byte),
                "{seq}: {before:?}, {byte}"
            );
        }
    }
}
