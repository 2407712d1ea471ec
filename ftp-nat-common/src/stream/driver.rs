//! The way of one segment of a control connection, from "here is a segment" to "this leaves".
//!
//! [`drive`] is run by the datapath in the kernel, by host tests, by the fuzzer and by
//! `ftp-nat inspect`. What differs between them is behind [`Medium`]: how bytes of the payload are
//! read and written, and where held lines are kept. The kernel calls each of the [`Steps`] through a
//! function of its own, because the verifier checks such a function once and by itself; everybody
//! else runs them directly.

use crate::abi::{Session, direction, direction_flag, direction_mut};
use crate::counter::Counter;
use crate::edit::edits::{Edits, REMEMBERED};
use crate::edit::text::TEXT_MAX;
use crate::ftp::parser::Inspection;
use crate::ftp::records;
use crate::ftp::tls::{self, PlainText};
use crate::gate::Gate;
use crate::stream::segment::{self, Hold, Plan, acknowledge};
use crate::stream::{adopt, timestamp, window};
use crate::wire::seq::distance;
use crate::wire::tcp::flag;
use bytemuck::{Pod, Zeroable};

/// The longest payload that is written anew, in bytes: a longer one is cut, and its sender repeats
/// the rest.
pub const LONGEST: u32 = 1400;

/// A segment on its way. Numbers are in the machine's byte order; lengths are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    /// Sequence number of its first byte, the sender's.
    pub seq: u32,
    /// Acknowledgement number; counts if [`flag::ACK`] is set.
    pub ack: u32,
    /// Length of the payload.
    pub len: u32,
    /// The longest payload that can leave, if it is written anew.
    pub room: u32,
    /// The sender's number of the first byte that leaves: a kept one, if any is put in front.
    pub first: u32,
    /// Bytes from `first` on that were inspected before.
    pub skip: u32,
    /// Kept bytes that are put in front of the payload.
    pub merge: u32,
    /// Bytes of the payload that leave.
    pub keep: u32,
    /// How many bytes leave, with the kept ones and all edits.
    pub out: u32,
    /// Bits of [`flag`].
    pub flags: u8,
    /// 1: it is the server's.
    pub is_replies: u8,
    /// 1: a keep-alive leaves in its place (RFC 9293 section 3.8.4): empty, one number early.
    pub probe: u8,
    /// The flags that TCP believes: FIN once everything before it was seen, RST by its exact number.
    pub believed: u8,
    /// The window that it advertises, as it stands in the header.
    pub window: u32,
    /// The urgent pointer: where urgent data ends, in bytes from `seq` on (RFC 9293 section 3.8.5);
    /// 0: there is none.
    pub urgent: u32,
    /// Its timestamp (TSval of RFC 7323 section 3.2); 0: it has none.
    pub timestamp: u32,
    /// 1: its direction was silent for [`timestamp::WRAP`] before it.
    pub rested: u32,
}

impl Segment {
    /// A segment before anything was decided about it.
    #[inline(always)]
    pub const fn new(
        seq: u32,
        ack: u32,
        len: u32,
        room: u32,
        flags: u8,
        window: u32,
        is_replies: bool,
    ) -> Self {
        Self {
            seq,
            ack,
            len,
            room,
            first: seq,
            skip: 0,
            merge: 0,
            keep: len,
            out: 0,
            flags,
            is_replies: is_replies as u8,
            probe: 0,
            believed: flags & !(flag::SYN | flag::FIN | flag::RST),
            window,
            urgent: 0,
            timestamp: 0,
            rested: 0,
        }
    }

    /// Whether a flag is set.
    #[inline(always)]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where the reading of a segment is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// Bytes of the payload that are skipped: they were inspected before.
    pub known: u32,
    /// Bytes of the payload behind those.
    pub len: u32,
    /// Kept bytes in front of them that have to be read.
    pub merge: u32,
    /// How many of both were read.
    pub next: u32,
}

/// How a segment's payload is written: [`Steps::fit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fit {
    /// Nothing of it changes.
    AsItIs = 0,
    /// Edits are written over its bytes.
    InPlace = 1,
    /// It is written anew.
    Anew = 2,
}

impl Fit {
    /// From its number.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::AsItIs,
            1 => Self::InPlace,
            _ => Self::Anew,
        }
    }
}

/// What becomes of a segment, or of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// It is not sent on.
    Drop = 0,
    /// It is sent on.
    Send = 1,
    /// TCP would not believe it: it has changed nothing. Unless it belongs to another connection of
    /// the same ends, it is sent on by [`number_outside`], for its receiver to judge.
    Outside = 2,
}

impl Verdict {
    /// From its number.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::Drop,
            1 => Self::Send,
            _ => Self::Outside,
        }
    }
}

/// The parts that a step works on. They are apart from each other in memory.
pub struct Parts<'a, G> {
    /// The control connection.
    pub session: &'a mut Session,
    /// The segment.
    pub segment: &'a mut Segment,
    /// The reader of its bytes.
    pub inspection: &'a mut Inspection,
    /// Judges whether an encrypted direction is plain text again.
    pub judge: &'a mut PlainText,
    /// Opens what is announced.
    pub gate: &'a mut G,
}

/// A loop's body.
pub trait Turn<M: Medium + ?Sized> {
    /// Turn number `index`, from 0; true ends the loop.
    fn turn(medium: &mut M, index: u32) -> bool;
}

/// What a segment is, to the driver.
pub trait Medium {
    /// Opens what is announced.
    type Gate: Gate;

    /// The parts of the work.
    fn parts(&mut self) -> Parts<'_, Self::Gate>;
    /// Where the reading is.
    fn cursor(&mut self) -> &mut Cursor;
    /// The time, in any unit.
    fn now(&self) -> u64;
    /// How long a line is held at most, in the same unit.
    fn hold_timeout(&self) -> u64;
    /// Whether other gateways know the session too.
    fn is_shared(&self) -> bool {
        false
    }
    /// Whether one of them listens now ([`crate::abi::cluster::LISTENED`]).
    fn is_listened_to(&self) -> bool {
        false
    }
    /// Runs a body `times` times, or until it says true.
    fn repeat<T: Turn<Self>>(&mut self, times: u32);

    /// Byte `at` of the payload behind the cursor's known ones. Whoever reads them in order reads
    /// all. None: the packet does not hold it.
    fn byte(&mut self, at: u32) -> Option<u8>;
    /// Bytes `at` to `at + 7`, the first one lowest, right after [`Medium::byte`] gave one of them; `at` is a
    /// multiple of eight. Those behind the payload's end are of any value.
    fn word(&mut self, at: u32) -> u64;
    /// Kept byte `at` of those that [`Medium::load_kept`] has loaded.
    fn kept(&mut self, at: u32) -> u8;
    /// Loads the kept bytes at `place` of [`crate::abi::Lines`]; false: there are none.
    fn load_kept(&mut self, place: u16) -> bool;
    /// Whether there is room to keep a line.
    fn has_room_to_keep(&mut self) -> bool;
    /// Keeps the line that was read, at `place`.
    fn keep_line(&mut self, place: u16);
    /// Loads what was kept at `place` as the line under way; false: nothing was.
    fn load_line(&mut self, place: u16) -> bool;

    /// Whether the packet ends where its payload does (Ethernet pads short frames).
    fn is_exact(&mut self) -> bool;
    /// Writes `len` bytes of the text of the edit that is `age` edits old, from its byte `from` on,
    /// over the payload's byte `at` and those behind it; false: they could not be written.
    fn patch(&mut self, age: u32, at: u32, from: u32, len: u32) -> bool;
    /// Makes ready to write the payload anew: the first `keep` bytes of the old one stay readable
    /// by [`Medium::old`]; false: they cannot be read.
    fn begin_anew(&mut self) -> bool;
    /// Byte `at` of the old payload.
    fn old(&mut self, at: u32) -> u8;
    /// Sets byte `at` of the new payload.
    fn put(&mut self, at: u32, byte: u8);
    /// Makes the new payload the packet's; false: it could not be written.
    fn end_anew(&mut self) -> bool;
    /// Takes the FIN off: the stream's end comes with the rest; false: it could not be written.
    fn clear_fin(&mut self) -> bool;
    /// Sets sequence and acknowledgement number to the receiver's; false: they could not be written.
    fn set_seq(&mut self, seq: u32) -> bool;
    /// Sets the urgent pointer to the receiver's; false: it could not be written.
    fn set_urgent(&mut self, urgent: u32) -> bool;
    /// The same for the acknowledgement number.
    fn set_ack(&mut self, ack: u32) -> bool;
    /// Moves SACK blocks (RFC 2018) by the other direction's edits; false: they could not be written.
    fn move_blocks(&mut self) -> bool;

    /// Does what the byte read last asks for.
    #[inline(always)]
    fn act(&mut self) {
        let parts = self.parts();
        parts.inspection.act(parts.session, parts.gate);
    }
}

/// The driver's steps. A [`Medium`] runs them directly; the kernel calls a function of its own for
/// each.
pub trait Steps {
    /// Runs [`plan`].
    fn plan(&mut self) -> Plan;
    /// Runs [`inspect`].
    fn inspect(&mut self) -> Verdict;
    /// Runs [`fit`].
    fn fit(&mut self) -> Fit;
    /// Runs [`write_in_place`].
    fn write_in_place(&mut self) -> Verdict;
    /// Runs [`write_anew`].
    fn write_anew(&mut self) -> Verdict;
    /// Runs [`number`].
    fn number(&mut self) -> Verdict;
}

impl<M: Medium> Steps for M {
    fn plan(&mut self) -> Plan {
        plan(self)
    }

    fn inspect(&mut self) -> Verdict {
        inspect(self)
    }

    fn fit(&mut self) -> Fit {
        fit(self)
    }

    fn write_in_place(&mut self) -> Verdict {
        write_in_place(self)
    }

    fn write_anew(&mut self) -> Verdict {
        write_anew(self)
    }

    fn number(&mut self) -> Verdict {
        number(self)
    }
}

/// Drives a segment through the gateway.
#[inline(always)]
pub fn drive<S: Steps>(steps: &mut S) -> Verdict {
    match steps.plan() {
        Plan::Drop => return Verdict::Drop,
        Plan::Inspect => {
            if steps.inspect() == Verdict::Drop {
                return Verdict::Drop;
            }
        }
        Plan::Pass => {}
        Plan::Outside => return Verdict::Outside,
    }
    let written = match steps.fit() {
        Fit::AsItIs => Verdict::Send,
        Fit::InPlace => steps.write_in_place(),
        Fit::Anew => steps.write_anew(),
    };
    if written == Verdict::Drop {
        return Verdict::Drop;
    }
    steps.number()
}

/// Judges the segment by TCP's numbers, and compares it with what its direction has seen.
#[inline(always)]
pub fn plan<M: Medium + ?Sized>(medium: &mut M) -> Plan {
    match believe(medium) {
        Belief::Taken => {}
        Belief::Outside => {
            medium.parts().gate.count(Counter::PassedOutOfWindow);
            return Plan::Outside;
        }
        Belief::Stale => {
            medium.parts().gate.count(Counter::DeniedTimestamp);
            return Plan::Drop;
        }
    }
    let parts = medium.parts();
    let is_replies = parts.segment.is_replies;
    if tls::is_encrypted(parts.session, is_replies != 0) && !is_plain_again(medium) {
        believe_fin(medium);
        return Plan::Pass;
    }
    let (now, timeout) = (medium.now(), medium.hold_timeout());
    let parts = medium.parts();
    let segment = parts.segment;
    let direction = direction_mut(parts.session, is_replies);
    if segment.has(flag::SYN) {
        segment::start_by_syn(direction, segment.seq, segment.len);
        return Plan::Pass;
    }
    let is_last = segment.has(flag::FIN);
    let (plan, counter) = segment::plan(direction, segment.seq, segment.len, is_last, now, timeout);
    if let Some(counter) = counter {
        parts.gate.count(counter);
    }
    segment.skip = plan.skip;
    segment.merge = plan.merge;
    segment.first = segment.seq.wrapping_sub(plan.merge);
    if plan.merge > 0 && !medium.load_kept(plan.from) {
        // They went with their session, which the sweep took for dead.
        let segment = medium.parts().segment;
        segment.merge = 0;
        segment.first = segment.seq;
        return Plan::Pass;
    }
    if plan.verdict == Plan::Pass {
        believe_fin(medium);
    }
    plan.verdict
}

/// What the receiver does with a segment, by TCP's numbers.
enum Belief {
    /// It takes it.
    Taken,
    /// It does not.
    Outside,
    /// It may take it or not: [`timestamp::is_stale`].
    Stale,
}

/// Judges the segment; what it tells of both directions is noted if it is taken.
#[inline(always)]
fn believe<M: Medium + ?Sized>(medium: &mut M) -> Belief {
    let (now, timeout) = (medium.now(), medium.hold_timeout());
    let is_shared = medium.is_shared();
    let parts = medium.parts();
    let mut unseen = adopt::unseen(parts.session, now, timeout);
    let segment = parts.segment;
    let is_replies = segment.is_replies;
    let own = direction(parts.session, is_replies);
    let end = segment
        .seq
        .wrapping_add(segment.len)
        .wrapping_add(u32::from(segment.has(flag::FIN)));
    if own.flags & direction_flag::TRACKED == 0 {
        if is_stale(parts.session, segment, end) {
            return Belief::Stale;
        }
        note_timestamp(parts.session, segment);
        segment.believed = segment.flags & !flag::SYN;
        return Belief::Taken;
    }
    if segment.has(flag::SYN) {
        return Belief::Outside;
    }
    if segment.has(flag::RST) {
        let is_exact = window::is_exact(own, segment.seq);
        if is_exact {
            segment.believed |= flag::RST;
            return Belief::Taken;
        }
        return Belief::Outside;
    }
    let others = direction(parts.session, is_replies ^ 1);
    let acked = others.edits.original(segment.ack, false);
    if is_shared && segment.has(flag::ACK) && unseen == 0 {
        unseen = adopt::unseen_by_ack(parts.session, is_replies, acked, now, timeout);
    }
    let own = direction(parts.session, is_replies);
    let others = direction(parts.session, is_replies ^ 1);
    if !segment.has(flag::ACK) || !window::is_believed(own, others, segment.seq, end, acked, unseen)
    {
        return Belief::Outside;
    }
    let scale = own.scale;
    if is_stale(parts.session, segment, end) {
        return Belief::Stale;
    }
    note_timestamp(parts.session, segment);
    if unseen > 0 && !tls::is_encrypted(parts.session, is_replies == 0) {
        adopt::catch_up(parts.session, is_replies, acked);
    }
    // An acknowledgement alone sends nothing, whatever its number.
    if end != segment.seq {
        window::sent(direction_mut(parts.session, is_replies), end);
    }
    window::open(
        direction_mut(parts.session, is_replies ^ 1),
        acked,
        segment.window,
        scale,
    );
    Belief::Taken
}

/// Whether the segment, whose numbers end at `end`, is text that is to be read and that its receiver may
/// drop for its timestamp.
#[inline(always)]
fn is_stale(session: &Session, segment: &Segment, end: u32) -> bool {
    let own = direction(session, segment.is_replies);
    end != segment.seq
        && !segment.has(flag::SYN | flag::RST)
        && timestamp::is_stale(own, end, segment.timestamp, segment.rested != 0)
        && !tls::is_encrypted(session, segment.is_replies != 0)
}

/// Notes the segment's timestamp.
#[inline(always)]
fn note_timestamp(session: &mut Session, segment: &Segment) {
    let own = direction_mut(session, segment.is_replies);
    timestamp::note(own, segment.seq, segment.timestamp, segment.rested != 0);
}

/// Believes a FIN if everything before it was seen.
#[inline(always)]
fn believe_fin<M: Medium + ?Sized>(medium: &mut M) {
    let parts = medium.parts();
    let segment = parts.segment;
    let seen = direction(parts.session, segment.is_replies).seen;
    let end = segment.seq.wrapping_add(segment.len);
    if segment.has(flag::FIN) && distance(end, seen) <= 0 {
        segment.believed |= flag::FIN;
    }
}

/// Whether an encrypted direction's segment is plain text, and so are those behind it.
#[inline(always)]
fn is_plain_again<M: Medium + ?Sized>(medium: &mut M) -> bool {
    let parts = medium.parts();
    let (seq, len, is_replies) = (
        parts.segment.seq,
        parts.segment.len,
        parts.segment.is_replies,
    );
    if len == 0 {
        return false;
    }
    let direction = direction_mut(parts.session, is_replies);
    if tls::pass_unread(direction, seq, len) {
        *parts.judge = PlainText::resume(direction);
        *medium.cursor() = Cursor {
            len,
            ..Cursor::default()
        };
        medium.repeat::<JudgeByte>(len);
        let parts = medium.parts();
        if parts.judge.is_plain(is_replies != 0) {
            tls::clear(parts.session, parts.gate, is_replies != 0, seq, parts.judge);
            return true;
        }
        parts.judge.keep(direction_mut(parts.session, is_replies));
        if records::note(parts.session, is_replies != 0, parts.judge) {
            parts.gate.count(Counter::PermitGranted);
            parts.gate.permit(parts.session);
        }
    }
    medium.parts().gate.count(Counter::PassedEncrypted);
    false
}

/// Judges one byte of an encrypted direction.
struct JudgeByte;

impl<M: Medium + ?Sized> Turn<M> for JudgeByte {
    #[inline(always)]
    fn turn(medium: &mut M, index: u32) -> bool {
        match medium.byte(index) {
            Some(byte) => !medium.parts().judge.feed(byte),
            None => true,
        }
    }
}

/// Reads kept bytes and what is new of the payload, and decides up to where it is sent on.
#[inline(always)]
pub fn inspect<M: Medium + ?Sized>(medium: &mut M) -> Verdict {
    let parts = medium.parts();
    let segment = parts.segment;
    let is_replies = segment.is_replies != 0;
    let first = segment.first.wrapping_add(segment.skip);
    parts.inspection.begin(parts.session, is_replies, first);
    let is_told = parts.inspection.is_told(parts.gate);
    let adjusted = direction(parts.session, segment.is_replies).edits.adjusted;
    let known = segment.skip.saturating_sub(segment.merge);
    let len = segment.len.wrapping_sub(known);
    let merge = segment.merge.saturating_sub(segment.skip);
    let is_last = segment.has(flag::FIN | flag::RST);
    *medium.cursor() = Cursor {
        known,
        len,
        merge,
        next: 0,
    };
    if is_told {
        let place = segment::told_place(&medium.parts().session.commands);
        let lacks_start = !medium.load_line(place);
        medium.parts().inspection.lacks_start = u8::from(lacks_start);
    }
    medium.repeat::<ReadBytes>(len.wrapping_add(merge));
    let mut hold = Hold::No;
    let parts = medium.parts();
    if !is_last && parts.inspection.must_hold(parts.session) {
        hold = if medium.has_room_to_keep() {
            Hold::Yes
        } else {
            medium.parts().gate.count(Counter::PassedMapFull);
            Hold::Full
        };
    } else if is_last {
        parts.inspection.miss_end(parts.session, parts.gate);
    }
    let (now, timeout) = (medium.now(), medium.hold_timeout());
    let parts = medium.parts();
    let outcome = segment::finish(
        parts.session,
        parts.inspection,
        is_replies,
        hold,
        now,
        timeout,
    );
    if outcome.keeps {
        medium.keep_line(outcome.place);
    } else {
        keep_told_part(medium);
    }
    let parts = medium.parts();
    let segment = parts.segment;
    if let Some(counter) = outcome.counter {
        parts.gate.count(counter);
    }
    let is_empty = segment.len.wrapping_add(segment.merge) == 0;
    if outcome.end == segment.first && !is_empty {
        parts.gate.count(Counter::LineHeld);
        if !outcome.probe {
            return Verdict::Drop;
        }
        parts.gate.count(Counter::LineAcknowledged);
        segment.merge = 0;
        segment.keep = 0;
        segment.probe = 1;
        return Verdict::Send;
    }
    segment.keep = outcome.end.wrapping_sub(segment.seq);
    if segment.keep >= segment.len {
        segment.believed |= segment.flags & flag::FIN;
    }
    if segment.keep < segment.len {
        parts.gate.count(Counter::SegmentCut);
    } else if segment.merge > 0 {
        parts.gate.count(Counter::LineMerged);
    }
    let edits = &direction(parts.session, segment.is_replies).edits;
    if edits.adjusted != adjusted && medium.is_listened_to() {
        // Who takes the session over must know by how much the numbers are off. For its sender the
        // segment was lost: it repeats it after 0.2 s at the earliest.
        medium.parts().gate.count(Counter::HeldUntold);
        return Verdict::Drop;
    }
    Verdict::Send
}

/// Keeps the start of a client's line that is told, if the line goes on in another segment.
#[inline(always)]
fn keep_told_part<M: Medium + ?Sized>(medium: &mut M) {
    let parts = medium.parts();
    let commands = &parts.session.commands;
    let place = segment::told_place(commands);
    let is_sent_on = commands.line_len > 0 && parts.inspection.lacks_start == 0;
    if is_sent_on && parts.inspection.is_told(parts.gate) && medium.has_room_to_keep() {
        medium.keep_line(place);
    }
}

/// Reads the next byte, or as many as can be at once.
struct ReadBytes;

impl<M: Medium + ?Sized> Turn<M> for ReadBytes {
    #[inline(always)]
    fn turn(medium: &mut M, _index: u32) -> bool {
        let Cursor {
            len, merge, next, ..
        } = *medium.cursor();
        if next >= len.wrapping_add(merge) {
            return true;
        }
        let (byte, taken) = if next < merge {
            let at = next.wrapping_add(medium.parts().segment.skip);
            (medium.kept(at), 0)
        } else {
            let at = next.wrapping_sub(merge);
            let Some(byte) = medium.byte(at) else {
                return true;
            };
            let within = at % 8;
            let count = len.wrapping_sub(at).min(8_u32.wrapping_sub(within));
            let word = medium.word(at.wrapping_sub(within)) >> within.wrapping_mul(8);
            (byte, medium.parts().inspection.take(word, count))
        };
        let cursor = medium.cursor();
        cursor.next = cursor.next.wrapping_add(taken.max(1));
        let parts = medium.parts();
        if taken == 0 {
            parts.inspection.feed(parts.session, byte);
        }
        if parts.inspection.must_act() {
            medium.act();
        }
        medium.parts().inspection.stop != 0
    }
}

/// Finds out how much of the segment's own bytes can leave, and how long the payload gets.
#[inline(always)]
pub fn fit<M: Medium + ?Sized>(medium: &mut M) -> Fit {
    let parts = medium.parts();
    let segment = parts.segment;
    let edits = &direction(parts.session, segment.is_replies).edits;
    let (first, merge) = (segment.first, segment.merge);
    let touched = edits.touch(first, merge.wrapping_add(segment.keep));
    if merge == 0 && segment.keep == segment.len && !touched {
        return Fit::AsItIs;
    }
    let room = segment.room;
    let sent = edits.sent(first);
    let mut total = merge.wrapping_add(segment.keep).min(room);
    let mut out = edits.sent(first.wrapping_add(total)).wrapping_sub(sent);
    if out > room {
        total = total.saturating_sub(out.wrapping_sub(room));
        out = edits.sent(first.wrapping_add(total)).wrapping_sub(sent);
    }
    // Kept bytes in front of more than fits stay kept, and are repeated like all else.
    let merge = merge.min(total);
    let keep = total.wrapping_sub(merge);
    segment.merge = merge;
    segment.keep = keep;
    segment.out = out;
    let is_whole = merge == 0 && keep == segment.len && out == keep;
    if is_whole && keeps_lengths(edits, first, keep) && medium.is_exact() {
        Fit::InPlace
    } else {
        Fit::Anew
    }
}

/// Whether none of a segment's edits changes a length or is longer than its room, so that they can
/// be written over its bytes.
#[inline(always)]
fn keeps_lengths(edits: &Edits, first: u32, mut len: u32) -> bool {
    let mut age = 0;
    while age < REMEMBERED as u32 && len > 0 {
        let patch = edits.patch(age, first, &mut len);
        let is_long = patch.from.wrapping_add(patch.len) as usize > TEXT_MAX;
        if patch.len > 0 && (patch.growth != 0 || is_long) {
            return false;
        }
        age = age.wrapping_add(1);
    }
    true
}

/// Writes the segment's edits over its bytes.
#[inline(always)]
pub fn write_in_place<M: Medium + ?Sized>(medium: &mut M) -> Verdict {
    let len = medium.parts().segment.len;
    // The cursor's `len`: what is left for older edits; its `next`: 1, a write failed.
    *medium.cursor() = Cursor {
        len,
        ..Cursor::default()
    };
    medium.repeat::<WritePatch>(REMEMBERED as u32);
    if medium.cursor().next == 0 {
        Verdict::Send
    } else {
        Verdict::Drop
    }
}

/// Writes one edit, the latest first.
struct WritePatch;

impl<M: Medium + ?Sized> Turn<M> for WritePatch {
    #[inline(always)]
    fn turn(medium: &mut M, age: u32) -> bool {
        let mut left = medium.cursor().len;
        if left == 0 {
            return true;
        }
        let parts = medium.parts();
        let edits = &direction(parts.session, parts.segment.is_replies).edits;
        let patch = edits.patch(age, parts.segment.seq, &mut left);
        medium.cursor().len = left;
        if patch.len != 0 && !medium.patch(age, patch.at, patch.from, patch.len) {
            medium.cursor().next = 1;
            return true;
        }
        false
    }
}

/// Writes the payload anew.
#[inline(always)]
pub fn write_anew<M: Medium + ?Sized>(medium: &mut M) -> Verdict {
    let segment = medium.parts().segment;
    let out_len = segment.out;
    if out_len > LONGEST {
        return Verdict::Drop;
    }
    // All of it lies in a piece that got shorter, so the receiver has it: its acknowledgement is
    // what the sender lacks. The end of a stream asks for one by itself.
    let is_end = segment.has(flag::FIN) && segment.keep >= segment.len;
    if out_len == 0 && !is_end {
        segment.probe = 1;
    }
    let cuts_fin = segment.keep < segment.len && segment.has(flag::FIN);
    let (first, is_replies) = (segment.first, segment.is_replies);
    let edits = &direction(medium.parts().session, is_replies).edits;
    // The cursor's `known`: the receiver's number of the first byte.
    *medium.cursor() = Cursor {
        known: edits.sent(first),
        ..Cursor::default()
    };
    if !medium.begin_anew() {
        return Verdict::Drop;
    }
    medium.repeat::<WriteByte>(out_len);
    if !medium.end_anew() || cuts_fin && !medium.clear_fin() {
        return Verdict::Drop;
    }
    Verdict::Send
}

/// Writes one byte of what leaves.
struct WriteByte;

impl<M: Medium + ?Sized> Turn<M> for WriteByte {
    #[inline(always)]
    fn turn(medium: &mut M, index: u32) -> bool {
        let sent = medium.cursor().known;
        let parts = medium.parts();
        let (first, merge) = (parts.segment.first, parts.segment.merge);
        let edits = &direction(parts.session, parts.segment.is_replies).edits;
        let byte = match edits.source(sent.wrapping_add(index)) {
            (Some(byte), _) => byte,
            (None, seq) => {
                let at = seq.wrapping_sub(first);
                if at < merge {
                    medium.kept(at)
                } else {
                    medium.old(at.wrapping_sub(merge))
                }
            }
        };
        medium.put(index, byte);
        false
    }
}

/// Sets sequence and acknowledgement numbers, and SACK blocks, to the receiver's.
#[inline(always)]
pub fn number<M: Medium + ?Sized>(medium: &mut M) -> Verdict {
    let parts = medium.parts();
    let segment = parts.segment;
    let own = &direction(parts.session, segment.is_replies).edits;
    // The receiver has the byte before a keep-alive's already, and says what it waits for.
    let sent = own
        .sent(segment.first)
        .wrapping_sub(u32::from(segment.probe));
    let (seq, urgent) = (segment.seq, segment.urgent);
    let sent_urgent = if urgent == 0 {
        0
    } else {
        own.sent(seq.wrapping_add(urgent)).wrapping_sub(sent)
    };
    if sent != seq && !medium.set_seq(sent)
        || sent_urgent != urgent && !medium.set_urgent(sent_urgent)
    {
        return Verdict::Drop;
    }
    let parts = medium.parts();
    let segment = parts.segment;
    if !segment.has(flag::ACK) {
        return Verdict::Send;
    }
    let others = direction_mut(parts.session, segment.is_replies ^ 1);
    let old = segment.ack;
    let ack = acknowledge(others, old);
    let has_blocks = others.edits.adjusted != 0;
    if ack != old && !medium.set_ack(ack) || has_blocks && !medium.move_blocks() {
        return Verdict::Drop;
    }
    Verdict::Send
}

/// Sets the numbers of a segment that TCP would not believe to the receiver's, for the receiver to
/// judge; notes nothing.
#[inline(always)]
pub fn number_outside<M: Medium + ?Sized>(medium: &mut M) -> Verdict {
    let parts = medium.parts();
    let segment = parts.segment;
    let (old_seq, old_ack) = (segment.seq, segment.ack);
    let own = direction(parts.session, segment.is_replies);
    let seq = own.edits.sent(old_seq);
    let others = direction(parts.session, segment.is_replies ^ 1);
    let ack = others.edits.original(old_ack, false);
    let has_ack = segment.has(flag::ACK);
    let has_blocks = has_ack && others.edits.adjusted != 0;
    if seq != old_seq && !medium.set_seq(seq) || has_ack && ack != old_ack && !medium.set_ack(ack) {
        return Verdict::Drop;
    }
    if has_blocks && !medium.move_blocks() {
        return Verdict::Drop;
    }
    Verdict::Send
}
