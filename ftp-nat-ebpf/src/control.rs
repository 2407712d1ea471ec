//! A segment of a control connection: read, perhaps held or changed, its numbers adjusted.

use crate::count;
use crate::doorman::Doorman;
use crate::flow::Net;
use crate::kernel::{Skb, jiffies, repeat};
use crate::maps;
use crate::packet::{Packet, tcp};
use crate::rebuild;
use bytemuck::Zeroable;
use ftp_nat_common::abi::{Flow, LINE_MAX, Session, Settings, direction_flag, flow_flag};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::inspect::{Inspection, direction, direction_mut};
use ftp_nat_common::segment::{self, DROP, PASS};

/// Bytes that are read at once, a power of two.
pub const WINDOW: usize = 2048;

/// A CPU's scratch memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// A session that is being made.
    pub session: Session,
    /// The reader's state.
    pub inspection: Inspection,
    /// Payload as it came.
    pub window: [u8; WINDOW],
    /// Payload as it leaves.
    pub out: [u8; WINDOW],
}

/// A control segment on its way.
#[repr(C)]
pub struct Segment<'a> {
    /// The packet.
    pub skb: Skb,
    /// What the daemon wants.
    pub settings: &'a Settings,
    /// Its connection.
    pub session: *mut Session,
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
}

/// Whether a SYN with this sequence number began the control connection of this flow.
#[inline(always)]
pub fn is_same_start(flow: &Flow, seq: u32) -> bool {
    let Some(session) = maps::SESSIONS.get_ptr(flow.session) else { return false };
    // SAFETY: the map is not preallocated, so the entry lives on while it is read.
    unsafe { (*session).commands.isn == seq }
}

/// Reads a segment and changes it as it must be; gives the IP packet's length then, or None if the
/// segment must not be sent on now.
#[inline(always)]
pub fn segment<N: Net>(skb: &Skb, packet: &Packet<N>, settings: &Settings, flow: &Flow) -> Option<u32> {
    let Some(session) = maps::SESSIONS.get_ptr_mut(flow.session) else {
        return Some(packet.total);
    };
    let mut segment = Segment {
        skb: *skb,
        settings,
        session,
        number: flow.session,
        tcp: packet.tcp,
        payload: packet.payload,
        len: packet.len,
        total: packet.total,
        seq: packet.seq,
        ack: packet.ack,
        mtu: if flow.out_mtu == 0 { 1500 } else { flow.out_mtu },
        flags: packet.flags,
        is_replies: u8::from(flow.flags & flow_flag::REPLIES != 0),
        v4: u8::from(N::V4),
    };
    let total = read(&mut segment);
    if total == 0 { None } else { Some(total) }
}

/// The IP packet's new length, or 0: drop it.
#[inline(never)]
fn read(segment: &mut Segment<'_>) -> u32 {
    // SAFETY: the map is not preallocated, so the entry lives on while it is used. Each direction
    // writes its own half.
    let session = unsafe { &mut *segment.session };
    if segment.flags & tcp::SYN != 0 {
        let direction = direction_mut(session, segment.is_replies);
        if direction.flags & direction_flag::STARTED == 0 || direction.isn != segment.seq {
            segment::start(direction, segment.seq);
            // Data in a SYN (RFC 7413) is not read.
            direction.seen = direction.seen.wrapping_add(segment.len);
        }
        return segment.total;
    }
    if session.answered.encrypted != 0 {
        if segment.len > 0 {
            count::add(Counter::PassedEncrypted, segment.total);
        }
        return rebuild::number(segment, segment.seq);
    }
    let last = segment.flags & (tcp::FIN | tcp::RST) != 0;
    let now = jiffies();
    let timeout = segment.settings.hold_timeout;
    let direction = direction_mut(session, segment.is_replies);
    let (plan, counter) = segment::plan(direction, segment.seq, segment.len, now, timeout);
    if let Some(counter) = counter {
        count::add(counter, 0);
    }
    if plan.verdict == PASS {
        return rebuild::deliver(segment, segment.seq, 0, segment.len);
    }
    if plan.verdict == DROP {
        return 0;
    }
    let first = segment.seq.wrapping_sub(plan.merge);
    let end = inspect(segment, session, first, plan.skip, plan.merge, last, now);
    let keep = end.wrapping_sub(segment.seq).cast_signed();
    if keep <= 0 {
        count::add(Counter::LineHeld, 0);
        return 0;
    }
    if (keep as u32) < segment.len {
        count::add(Counter::SegmentCut, 0);
    }
    if plan.merge > 0 {
        count::add(Counter::LineMerged, 0);
    }
    rebuild::deliver(segment, first, plan.merge, keep as u32)
}

/// What the reading loop works on.
#[repr(C)]
struct Reader<'a> {
    segment: &'a Segment<'a>,
    session: *mut Session,
    scratch: *mut Scratch,
    /// Where in the packet the first unread byte is.
    at: u32,
    /// Unread bytes of the packet.
    len: u32,
    /// Held bytes in front of them.
    merge: u32,
}

/// Reads `merge` held bytes and then the payload behind `skip`; gives the sequence number up to
/// which the segment may be sent on.
#[inline(always)]
fn inspect(
    segment: &Segment<'_>,
    session: &mut Session,
    first: u32,
    skip: u32,
    merge: u32,
    last: bool,
    now: u64,
) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else {
        return segment.seq.wrapping_add(segment.len);
    };
    let is_replies = segment.is_replies != 0;
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    unsafe {
        (*scratch).inspection = Inspection::zeroed();
        (*scratch).inspection.begin(session, is_replies, first.wrapping_add(skip));
    }
    let mut reader = Reader {
        segment,
        session,
        scratch,
        at: segment.payload.wrapping_add(skip),
        len: segment.len.wrapping_sub(skip),
        merge,
    };
    let times = reader.len.wrapping_add(merge);
    repeat(times, &mut reader, read_byte);
    // SAFETY: as above.
    let inspection = unsafe { &(*scratch).inspection };
    segment::finish(session, inspection, is_replies, last, now)
}

/// Reads byte number `index`; 1 ends the loop.
unsafe extern "C" fn read_byte(index: u64, reader: *mut Reader<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `inspect` made; scratch and session outlive the loop.
    let (reader, scratch, session) = unsafe {
        let reader = &*reader;
        (reader, &mut *reader.scratch, &mut *reader.session)
    };
    let index = index as u32;
    let byte = if index < reader.merge {
        direction(session, reader.segment.is_replies).line[index as usize & (LINE_MAX - 1)]
    } else {
        let at = index - reader.merge;
        let place = at as usize & (WINDOW - 1);
        if place == 0 {
            let rest = reader.len.wrapping_sub(at).min(WINDOW as u32);
            if !reader.segment.skb.load_into(reader.at.wrapping_add(at), &mut scratch.window, rest) {
                return 1;
            }
        }
        scratch.window[place]
    };
    let mut doorman = Doorman {
        session: reader.segment.number,
        settings: reader.segment.settings,
    };
    scratch.inspection.feed(session, &mut doorman, byte);
    i64::from(scratch.inspection.stop)
}
