//! A segment of a control connection: read, perhaps held or changed, its numbers adjusted.

use crate::clamp::Clamping;
use crate::count;
use crate::doorman::{Doorman, Search};
use crate::flow::{Connection, Exit, Net};
use crate::kernel::{Context, Hop, Skb, jiffies, repeat};
use crate::maps;
use crate::packet::{Packet, tcp};
use crate::rebuild::{self, Options, Piece};
use aya_ebpf::bindings::BPF_NOEXIST;
use bytemuck::Zeroable;
use core::mem::offset_of;
use ftp_nat_common::abi::direction_mut;
use ftp_nat_common::abi::{
    Flow, LINE_MAX, Lines, LinesKey, Mapping, Session, direction_flag, flow_flag,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::ftp::parser::Inspection;
use ftp_nat_common::ftp::tls::{self, PlainText};
use ftp_nat_common::stream::segment::{self, DROP, Hold, INSPECT, PASS};
use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// Bytes that are read at once, a power of two.
pub const WINDOW: usize = 2048;

/// A CPU's scratch memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// When the daemon was woken last for events, in jiffies.
    pub woken: u64,
    /// A SYN that may open something.
    pub syn: Syn,
    /// A session that is being made.
    pub session: Session,
    /// A connection that is being made.
    pub connection: Connection,
    /// Its flow, of one direction and then of the other.
    pub flow: Flow,
    /// Where its inbound direction leaves.
    pub inward: Exit,
    /// Where its outbound direction leaves.
    pub outward: Exit,
    /// The next hop that was looked up last.
    pub hop: Hop,
    /// The ends of the way that it was looked up for.
    pub way: [Addr; 2],
    /// Where the walk through a SYN's options is.
    pub clamping: Clamping,
    /// A mapping that is being used or made.
    pub mapping: Mapping,
    /// The search for its port.
    pub search: Search,
    /// The control segment under way.
    pub segment: Segment,
    /// The reader's state.
    pub inspection: Inspection,
    /// Judges whether an encrypted connection is so still.
    pub judge: PlainText,
    /// Where the walk through TCP's options is.
    pub options: Options,
    /// A piece of the payload, to be summed up.
    pub piece: Piece,
    /// The kept bytes in front of the segment under way.
    pub kept: [u8; LINE_MAX],
    /// No lines at all: what a direction's begin as.
    pub no_lines: Lines,
    /// Payload as it came.
    pub window: [u8; WINDOW],
    /// Payload as it leaves.
    pub out: [u8; WINDOW],
}

/// A SYN.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Syn {
    /// Who sent it.
    pub source: Endpoint,
    /// Where to.
    pub destination: Endpoint,
    /// Its sequence number.
    pub seq: u32,
    /// Length of the IP packet.
    pub total: u32,
}

/// A control segment on its way.
///
/// It lies in the scratch memory, not on the stack: what the verifier does not know of the caller
/// it need not try in all combinations.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Segment {
    /// The session's number.
    pub number: u32,
    /// Where the TCP header starts.
    pub tcp: u32,
    /// Where the payload starts.
    pub payload: u32,
    /// Length of the payload.
    pub len: u32,
    /// Length of the IP packet.
    pub total: u32,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The largest IP packet that can leave.
    pub mtu: u32,
    /// TCP flags.
    pub flags: u8,
    /// 1: the server's direction.
    pub is_replies: u8,
    /// 1: IPv4.
    pub v4: u8,
    /// 1: a keep-alive leaves in its place.
    pub probe: u8,
    /// The sender's number of the first byte that leaves.
    pub first: u32,
    /// Bytes that were read before, from the first of the kept ones on.
    pub skip: u32,
    /// Kept bytes in front of the payload.
    pub merge: u32,
    /// Bytes of the payload that leave.
    pub keep: u32,
    /// How many those become, with the kept ones and all edits.
    pub out: u32,
}

/// Whether a SYN with this sequence number began the control connection of this flow.
#[inline(always)]
pub fn is_same_start(flow: &Flow, seq: u32) -> bool {
    let Some(session) = maps::SESSIONS.get_ptr(flow.session) else {
        return false;
    };
    // SAFETY: a map's entry stays in its place while a program runs.
    unsafe { (*session).commands.isn == seq }
}

/// Prepares a segment for [`read`]; false: there is nothing to read it with.
#[inline(always)]
pub fn prepare<N: Net>(packet: &Packet<N>, flow: &Flow) -> bool {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    let segment = Segment {
        number: flow.session,
        tcp: packet.tcp,
        payload: packet.payload,
        len: packet.len,
        total: packet.total,
        seq: packet.seq,
        ack: packet.ack,
        mtu: if flow.out_mtu == 0 {
            1500
        } else {
            flow.out_mtu
        },
        flags: packet.flags,
        is_replies: u8::from(flow.flags & flow_flag::REPLIES != 0),
        v4: u8::from(N::V4),
        probe: 0,
        first: packet.seq,
        skip: 0,
        merge: 0,
        keep: packet.len,
        out: 0,
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    unsafe { (*scratch).segment = segment };
    true
}

/// Reads the prepared segment and changes the packet as it must be; false: it must not be sent on
/// now.
#[inline(always)]
pub fn read(skb: &Skb) -> bool {
    let context = skb.context();
    let Some(session) = session() else {
        return true;
    };
    match ftp_nat_plan(context, session) as u8 {
        DROP => false,
        INSPECT => ftp_nat_inspect(context, session) != 0 && rebuild::deliver(context, session),
        _ => rebuild::deliver(context, session),
    }
}

/// The session of the segment in the scratch memory.
///
/// It is looked up once; the steps of reading get it as their argument. To them it is plain memory
/// of a session's size (Linux 5.13).
#[inline(always)]
fn session() -> Option<*mut Session> {
    let scratch = maps::SCRATCH.get_ptr(0)?;
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    maps::SESSIONS.get_ptr_mut(unsafe { (*scratch).segment.number })
}

/// What a step of reading works on; None: it has got no session, which does not happen.
#[inline(always)]
pub fn work(skb: &Skb, session: *mut Session) -> Option<Work<'_>> {
    let scratch = maps::SCRATCH.get_ptr_mut(0)?;
    (!session.is_null()).then_some(Work {
        skb,
        session,
        scratch,
        at: 0,
        len: 0,
        merge: 0,
        next: 0,
        sum: 0,
    })
}

/// Whether the packet is a segment without payload that leaves as it came: so most acknowledgements
/// do. What it acknowledges is noted then.
#[inline(always)]
pub fn is_quiet<N: Net>(packet: &Packet<N>, flow: &Flow) -> bool {
    if packet.len != 0 || packet.flags & (tcp::SYN | tcp::FIN) != 0 {
        return false;
    }
    let Some(session) = maps::SESSIONS.get_ptr_mut(flow.session) else {
        return false;
    };
    // SAFETY: a map's entry stays in its place while a program runs. Each direction
    // writes its own half of the session.
    let session = unsafe { &mut *session };
    let ack = (packet.flags & tcp::ACK_FLAG != 0).then_some(packet.ack);
    segment::is_quiet(session, flow.flags & flow_flag::REPLIES != 0, ack)
}

/// Compares the segment with what its direction has seen.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_plan(context: Context, session: *mut Session) -> u32 {
    u32::from(plan(&Skb::of(context), session))
}

#[inline(always)]
fn plan(skb: &Skb, session: *mut Session) -> u8 {
    let Some(work) = work(skb, session) else {
        return PASS;
    };
    let Some(settings) = maps::SETTINGS.get(0) else {
        return PASS;
    };
    // SAFETY: the session's entry and this CPU's own scratch outlive the packet. Each direction
    // writes its own half of the session.
    let (session, scratch) = unsafe { (&mut *work.session, &mut *work.scratch) };
    let segment = &mut scratch.segment;
    if tls::is_encrypted(session, segment.is_replies != 0) && !is_plain_again(skb, work.session) {
        return PASS;
    }
    let direction = direction_mut(session, segment.is_replies);
    if segment.flags & tcp::SYN != 0 {
        if direction.flags & direction_flag::STARTED == 0 || direction.isn != segment.seq {
            segment::start(direction, segment.seq);
            // Data in a SYN (RFC 7413) is not read.
            direction.seen = direction.seen.wrapping_add(segment.len);
        }
        return PASS;
    }
    let (plan, counter) = segment::plan(
        direction,
        segment.seq,
        segment.len,
        segment.flags & tcp::FIN != 0,
        jiffies(),
        settings.hold_timeout,
    );
    if let Some(counter) = counter {
        count::add(counter, 0);
    }
    if plan.merge > 0 {
        let Some(lines) = maps::LINES.get_ptr(lines_key(segment)) else {
            // They went with their session, which the sweep took for dead.
            return PASS;
        };
        // SAFETY: a map's entry stays in its place while a program runs.
        copy_line(&mut scratch.kept, unsafe { (*lines).half(plan.from) });
    }
    segment.skip = plan.skip;
    segment.merge = plan.merge;
    segment.first = segment.seq.wrapping_sub(plan.merge);
    plan.verdict
}

// Lines and payload are copied by words: bytes would be copied one by one.
const _: () = assert!(offset_of!(Inspection, line) % 8 == 0);
const _: () = assert!(offset_of!(Scratch, inspection) % 8 == 0);
const _: () = assert!(offset_of!(Scratch, kept) % 8 == 0 && offset_of!(Scratch, window) % 8 == 0);

/// Copies a line; both lie in maps, aligned for words.
#[inline(always)]
fn copy_line(to: &mut [u8; LINE_MAX], from: &[u8; LINE_MAX]) {
    let mut at = 0;
    while at < LINE_MAX {
        // SAFETY: words of both. Volatile, or it becomes one copy of 512 bytes, over the stack.
        unsafe {
            let word = from.as_ptr().add(at).cast::<u64>();
            let there = to.as_mut_ptr().add(at).cast::<u64>();
            there.write_volatile(word.read_volatile());
        }
        at += 8;
    }
}

/// The key of the lines of a segment's direction.
#[inline(always)]
fn lines_key(segment: &Segment) -> LinesKey {
    LinesKey {
        session: segment.number,
        is_replies: segment.is_replies.into(),
    }
}

/// Where the lines of the direction are kept; a null pointer: there is no room for them.
#[inline(never)]
fn room_for_lines(scratch: &Scratch) -> *mut Lines {
    let (key, none) = (lines_key(&scratch.segment), &scratch.no_lines);
    // One that is there already stays.
    let _ = maps::LINES.insert(key, none, u64::from(BPF_NOEXIST));
    maps::LINES
        .get_ptr_mut(key)
        .unwrap_or(core::ptr::null_mut())
}

/// Whether an encrypted connection's segment is plain text, and so are those behind it.
#[inline(never)]
fn is_plain_again(skb: &Skb, session: *mut Session) -> bool {
    let Some(mut work) = work(skb, session) else {
        return false;
    };
    // SAFETY: as in `plan`.
    let (session, scratch) = unsafe { (&mut *work.session, &mut *work.scratch) };
    let segment = &scratch.segment;
    let is_replies = segment.is_replies != 0;
    if segment.len == 0 {
        return false;
    }
    let direction = direction_mut(session, segment.is_replies);
    if tls::pass_unread(direction, segment.seq, segment.len) {
        scratch.judge = PlainText::zeroed();
        work.at = segment.payload;
        work.len = segment.len;
        repeat(work.len, &mut work, judge_byte);
        if scratch.judge.is_plain(is_replies) {
            let mut doorman = Doorman {
                session: segment.number,
            };
            tls::clear(session, &mut doorman, is_replies, segment.seq);
            return true;
        }
    }
    count::add(Counter::PassedEncrypted, segment.total);
    false
}

/// Judges byte number `index`; 1 ends the loop.
unsafe extern "C" fn judge_byte(index: u64, work: *mut Work<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `is_plain_again` has; the scratch outlives the loop.
    let (work, scratch) = unsafe {
        let work = &*work;
        (work, &mut *work.scratch)
    };
    let Some(byte) = window_byte(work, &mut scratch.window, index as u32) else {
        return 1;
    };
    i64::from(!scratch.judge.feed(byte))
}

/// Reads kept bytes and what is new of the payload; false: nothing of it may leave.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_inspect(context: Context, session: *mut Session) -> u32 {
    u32::from(inspect(&Skb::of(context), session))
}

#[inline(always)]
fn inspect(skb: &Skb, session: *mut Session) -> bool {
    let Some(mut work) = work(skb, session) else {
        return true;
    };
    // SAFETY: as in `plan`.
    let (session, scratch) = unsafe { (&mut *work.session, &mut *work.scratch) };
    let segment = &mut scratch.segment;
    let is_replies = segment.is_replies != 0;
    scratch.inspection.begin(
        session,
        is_replies,
        segment.first.wrapping_add(segment.skip),
    );
    let known = segment.skip.saturating_sub(segment.merge);
    work.at = segment.payload.wrapping_add(known);
    work.len = segment.len.wrapping_sub(known);
    work.merge = segment.merge.saturating_sub(segment.skip);
    repeat(work.len.wrapping_add(work.merge), &mut work, read_on);
    let last = segment.flags & (tcp::FIN | tcp::RST) != 0;
    let Some(settings) = maps::SETTINGS.get(0) else {
        return true;
    };
    let mut hold = Hold::No;
    let mut lines = core::ptr::null_mut();
    if !last && scratch.inspection.must_hold(session) {
        lines = room_for_lines(scratch);
        hold = if lines.is_null() {
            count::add(Counter::PassedMapFull, 0);
            Hold::Full
        } else {
            Hold::Yes
        };
    }
    let segment = &mut scratch.segment;
    let outcome = segment::finish(
        session,
        &mut scratch.inspection,
        is_replies,
        hold,
        jiffies(),
        settings.hold_timeout,
    );
    if outcome.keeps && !lines.is_null() {
        // SAFETY: a map's entry stays in its place while a program runs.
        let half = unsafe { (*lines).half_mut(outcome.place) };
        copy_line(half, &scratch.inspection.line);
    }
    if let Some(counter) = outcome.counter {
        count::add(counter, 0);
    }
    if outcome.end == segment.first {
        count::add(Counter::LineHeld, 0);
        if !outcome.probe {
            return false;
        }
        count::add(Counter::LineAcknowledged, 0);
        segment.merge = 0;
        segment.keep = 0;
        segment.probe = 1;
        return true;
    }
    segment.keep = outcome.end.wrapping_sub(segment.seq);
    if segment.keep < segment.len {
        count::add(Counter::SegmentCut, 0);
    } else if segment.merge > 0 {
        count::add(Counter::LineMerged, 0);
    }
    true
}

/// What the loops over a segment's bytes work on.
#[repr(C)]
pub struct Work<'a> {
    /// The packet.
    pub skb: &'a Skb,
    /// The segment's connection.
    pub session: *mut Session,
    /// This CPU's scratch memory, the segment in it.
    pub scratch: *mut Scratch,
    /// Where in the packet the first byte is.
    pub at: u32,
    /// How many bytes there are from there on.
    pub len: u32,
    /// How many kept bytes come in front of them and have to be read.
    pub merge: u32,
    /// How many of both were read.
    pub next: u32,
    /// A sum over them.
    pub sum: u32,
}

/// Reads the next byte, or the next eight that nothing is to; 1 ends the loop.
unsafe extern "C" fn read_on(_index: u64, work: *mut Work<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `inspect` has; session and scratch outlive the loop.
    let (work, session, scratch) = unsafe {
        let work = &mut *work;
        let session = &mut *work.session;
        let scratch = &mut *work.scratch;
        (work, session, scratch)
    };
    let index = work.next;
    if index >= work.len.wrapping_add(work.merge) {
        return 1;
    }
    let byte = if index < work.merge {
        let at = index.wrapping_add(scratch.segment.skip);
        scratch.kept[at as usize & (LINE_MAX - 1)]
    } else {
        let at = index.wrapping_sub(work.merge);
        let Some(byte) = window_byte(work, &mut scratch.window, at) else {
            return 1;
        };
        if at % 8 == 0 && at.wrapping_add(8) <= work.len {
            let place = at as usize & (WINDOW - 8);
            // SAFETY: eight bytes from there on are in the window, which is aligned for words.
            let word = unsafe { *scratch.window.as_ptr().add(place).cast::<u64>() };
            if scratch.inspection.skim(word) {
                work.next = index.wrapping_add(8);
                return 0;
            }
        }
        byte
    };
    work.next = index.wrapping_add(1);
    if scratch.inspection.feed(session, byte) {
        act(work.session, scratch);
    }
    i64::from(scratch.inspection.stop != 0)
}

/// Does what the byte read last asks for, step by step.
///
/// The scratch memory comes as a pointer, because the steps write to it as well.
#[inline(always)]
fn act(session: *mut Session, scratch: *mut Scratch) {
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other. No reference
    // to it lives on while a step runs.
    unsafe {
        if (*scratch).inspection.must_announce() {
            ftp_nat_announce(session);
            if (*scratch).inspection.must_write() {
                ftp_nat_write(session);
                if (*scratch).inspection.must_insert() {
                    ftp_nat_insert(session);
                }
            }
        }
    }
    ftp_nat_conclude(session);
}

/// One step of what the byte read last asks for.
macro_rules! step {
    ($name:ident, $step:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// A global function: the verifier checks it once and by itself, not again wherever it is
        /// called from (Linux 5.6).
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(session: *mut Session) -> u32 {
            let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
                return 0;
            };
            // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
            let scratch = unsafe { &mut *scratch };
            // SAFETY: the caller's session, if it has one: a map's entry that lives on while it is
            // used. Each direction writes its own half of it.
            let Some(session) = (unsafe { session.as_mut() }) else {
                return 0;
            };
            let mut doorman = Doorman {
                session: scratch.segment.number,
            };
            scratch.inspection.$step(session, &mut doorman);
            0
        }
    };
}

step!(ftp_nat_announce, announce, "Lets an announcement through.");
step!(ftp_nat_write, write, "Writes it anew.");
step!(ftp_nat_insert, insert, "Puts it in its place.");
step!(ftp_nat_conclude, conclude, "Ends a line.");

/// Byte `at` of the work's bytes, through the window: whoever reads them in order reads all.
#[inline(always)]
pub fn window_byte(work: &Work<'_>, window: &mut [u8; WINDOW], at: u32) -> Option<u8> {
    let place = at as usize & (WINDOW - 1);
    if place == 0 {
        let rest = work.len.wrapping_sub(at).min(WINDOW as u32);
        if !work.skb.load_into(work.at.wrapping_add(at), window, rest) {
            return None;
        }
    }
    Some(window[place])
}
