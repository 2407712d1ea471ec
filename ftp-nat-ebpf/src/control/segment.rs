//! A control segment before it is read.

use crate::kernel::helpers::jiffies;
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::packet::checksum;
use crate::packet::headers::IP;
use crate::packet::options::{self, find, kind};
use crate::packet::segment::{Headers, Packet};
use crate::state::maps;
use crate::state::scratch::{self, SegmentLayout};
use ftp_nat_common::abi::{Flow, flow_flag, session_flag};
use ftp_nat_common::stream::driver::{LONGEST, Segment};
use ftp_nat_common::stream::{segment, timestamp};
use ftp_nat_common::wire::checksum::difference;
use ftp_nat_common::wire::tcp::{flag, offset};

/// The MTU where a flow has none of its own, in bytes: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// Leaves a segment in the scratch memory for [`super::drive`]; false: there is no such memory.
#[inline(always)]
pub fn prepare<N: Headers>(skb: &Skb, packet: &Packet<N>, flow: &Flow) -> bool {
    let Some(part) = scratch::control() else {
        return false;
    };
    let mtu = if flow.out_mtu == 0 {
        USUAL_MTU
    } else {
        flow.out_mtu.into()
    };
    let headers = packet.payload.wrapping_sub(IP);
    let mut room = mtu.wrapping_sub(headers).min(LONGEST);
    // What is no super-packet any more must fit by itself.
    let segment_size = skb.gso_size();
    if segment_size != 0 {
        room = room.min(segment_size);
    }
    let is_replies = flow.flags & flow_flag::REPLIES != 0;
    let mut segment = Segment::new(
        packet.seq,
        packet.ack,
        packet.len,
        room,
        packet.flags,
        packet.window.into(),
        is_replies,
    );
    // SAFETY: see `scratch`.
    segment.timestamp = unsafe { (*part).place.timestamp };
    segment.rested = u32::from(has_rested(flow));
    if packet.flags & flag::URG != 0 {
        segment.urgent = settle_urgent(skb, packet.tcp, packet.payload, packet.len, is_replies);
    }
    let place = SegmentLayout {
        session: flow.session,
        tcp: packet.tcp,
        payload: packet.payload,
        total: packet.total,
        v4: u32::from(N::V4),
        timestamp: segment.timestamp,
        ttl: packet.ttl.into(),
    };
    // SAFETY: see `scratch`.
    unsafe {
        (*part).segment = segment;
        (*part).place = place;
    }
    true
}

/// Whether the flow was silent for so long that its sender's timestamps may have wrapped.
#[inline(always)]
fn has_rested(flow: &Flow) -> bool {
    let hz = maps::SETTINGS.get(0).map_or(0, |it| it.hz);
    (jiffies() as u32).wrapping_sub(flow.last_seen) > hz.wrapping_mul(timestamp::WRAP)
}

/// Telnet's commands begin here (RFC 854): a client that aborts a transfer sends their last byte as
/// urgent data (RFC 959 section 4.1.3).
const TELNET: u8 = 240;

/// Where a segment's urgent data ends, in bytes from its first one on; 0: there is none.
///
/// A receiver may take an urgent byte out of the stream (`SO_OOBINLINE` is off mostly), so that it
/// reads another command than the gateway has read: a client's byte that is no command of telnet is
/// made one like any other.
#[inline(never)]
fn settle_urgent(skb: &Skb, tcp: u32, payload: u32, len: u32, is_replies: bool) -> u32 {
    let Some(pointer) = skb.load::<u16>(tcp + offset::URGENT) else {
        return 0;
    };
    let urgent = u32::from(u16::from_be(pointer));
    let last = payload.wrapping_add(urgent).wrapping_sub(1);
    let is_telnet =
        urgent != 0 && urgent <= len && skb.load::<u8>(last).is_some_and(|byte| byte >= TELNET);
    if is_replies || is_telnet {
        return urgent;
    }
    let at = tcp + offset::OFFSET_FLAGS;
    let check = tcp + offset::CHECKSUM;
    let Some([data_offset, flags]) = skb.load::<[u8; 2]>(at) else {
        return 0;
    };
    let old = u16::from_ne_bytes([data_offset, flags]);
    let new = u16::from_ne_bytes([data_offset, flags & !flag::URG]);
    let change = difference(u64::from(old), u64::from(new));
    let _ = skb.store(at, &new) && skb.add_to_checksum(check, change, false);
    let change = difference(u64::from(pointer), 0);
    let _ = skb.store(tcp + offset::URGENT, &0_u16) && skb.add_to_checksum(check, change, false);
    0
}

/// Leaves the segment's timestamp in the scratch memory for [`is_quiet`] and [`prepare`]; false: it has
/// two, or one of a wrong length, and nobody knows which one its receiver goes by. `tcp` and `payload`: where
/// its header and its payload start.
#[inline(always)]
pub fn read_timestamp(skb: &Skb, tcp: u32, payload: u32) -> bool {
    let Some(timestamp) = options::timestamp(skb, tcp.wrapping_add(offset::OPTIONS), payload)
    else {
        return false;
    };
    if let Some(part) = scratch::control() {
        // SAFETY: see `scratch`.
        unsafe { (*part).place.timestamp = timestamp };
    }
    true
}

/// Whether the receiver will take the segment as far as its packet shows: it reaches it, its checksum
/// is right, and it has no signature that the receiver would have to share. What will not be taken
/// is not read.
#[inline(always)]
pub fn will_be_taken<N: Headers>(skb: &Skb, hook: Hook, packet: &Packet<N>, flow: &Flow) -> bool {
    if hook != Hook::WanEgress && packet.ttl <= 1 && !is_local(flow) {
        return false;
    }
    let at = packet.tcp.wrapping_add(offset::OPTIONS);
    if packet.payload > at
        && !options::is_usual(skb, at)
        && find(skb, at, packet.payload, kind::SIGNATURE).is_some()
    {
        return false;
    }
    let Some(words) = scratch::summed() else {
        return true;
    };
    let ends = [packet.key.source().addr, packet.key.destination().addr];
    checksum::is_right(skb, &ends, packet.tcp, packet.total, words)
}

/// Whether the flow's server runs on this machine.
#[inline(always)]
fn is_local(flow: &Flow) -> bool {
    // SAFETY: the entry stays in its place while the program runs.
    maps::SESSIONS
        .get_ptr(flow.session)
        .is_some_and(|session| unsafe { (*session).flags & session_flag::LOCAL != 0 })
}

/// Whether the packet is a segment without payload that leaves as it came: so most acknowledgements
/// do. What it acknowledges is noted then.
#[inline(always)]
pub fn is_quiet<N: Headers>(packet: &Packet<N>, flow: &Flow) -> bool {
    if packet.len != 0 || packet.flags & (flag::SYN | flag::FIN | flag::RST) != 0 {
        return false;
    }
    let Some(session) = maps::SESSIONS.get_ptr_mut(flow.session) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs. Each direction's packets write
    // its own half of the session.
    let session = unsafe { &mut *session };
    let ack = (packet.flags & flag::ACK != 0).then_some(packet.ack);
    let is_replies = flow.flags & flow_flag::REPLIES != 0;
    // SAFETY: see `scratch`.
    let timestamp = scratch::control().map_or(0, |part| unsafe { (*part).place.timestamp });
    segment::is_quiet(
        session,
        is_replies,
        packet.seq,
        ack,
        packet.window.into(),
        timestamp,
    )
}
