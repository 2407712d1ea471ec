//! A control segment before it is read.

use crate::kernel::skb::Skb;
use crate::packet::headers::IP;
use crate::packet::segment::{Headers, Packet};
use crate::state::maps;
use crate::state::scratch::{self, Place};
use ftp_nat_common::abi::{Flow, flow_flag};
use ftp_nat_common::stream::driver::{LONGEST, Segment};
use ftp_nat_common::stream::segment;
use ftp_nat_common::wire::tcp::flag;

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
        flow.out_mtu
    };
    let headers = packet.payload.wrapping_sub(IP);
    let mut room = mtu.wrapping_sub(headers).min(LONGEST);
    // What is no super-packet any more must fit by itself.
    let segment_size = skb.gso_size();
    if segment_size != 0 {
        room = room.min(segment_size);
    }
    let is_replies = flow.flags & flow_flag::REPLIES != 0;
    let segment = Segment::new(
        packet.seq,
        packet.ack,
        packet.len,
        room,
        packet.flags,
        packet.window.into(),
        is_replies,
    );
    let place = Place {
        session: flow.session,
        tcp: packet.tcp,
        payload: packet.payload,
        total: packet.total,
        v4: u32::from(N::V4),
    };
    // SAFETY: see `scratch`.
    unsafe {
        (*part).segment = segment;
        (*part).place = place;
    }
    true
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
    segment::is_quiet(session, is_replies, packet.seq, ack, packet.window.into())
}
