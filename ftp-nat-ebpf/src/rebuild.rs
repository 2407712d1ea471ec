//! Writing what leaves of a control segment: held bytes in front, edited pieces, an end that is cut
//! off; and its numbers.

use crate::control::{Scratch, Segment, WINDOW};
use crate::kernel::repeat;
use crate::maps;
use crate::packet::{IP, tcp};
use bytemuck::bytes_of;
use ftp_nat_common::abi::{LINE_MAX, Session};
use ftp_nat_common::checksum::{add_byte, apply, difference};
use ftp_nat_common::edit::Edits;
use ftp_nat_common::inspect::direction;

/// The longest payload that is written anew: longer ones are cut, and the sender repeats the rest.
const LONGEST: u32 = 1400;

/// What the writing loops work on.
#[repr(C)]
struct Writer {
    session: *const Session,
    scratch: *mut Scratch,
    /// The sender's number of the first byte.
    first: u32,
    /// The receiver's number of the first byte.
    sent: u32,
    /// Held bytes in front of the payload.
    merge: u32,
    is_replies: u32,
    /// Sum of the bytes.
    sum: u64,
}

/// Sends on the segment's bytes from `first`: `merge` held ones and `keep` of its own. Gives the IP
/// packet's new length, or 0: drop it.
#[inline(never)]
pub fn deliver(segment: &Segment<'_>, first: u32, merge: u32, keep: u32) -> u32 {
    // SAFETY: the map is not preallocated, so the entry lives on while it is used.
    let session = unsafe { &*segment.session };
    let edits = &direction(session, segment.is_replies).edits;
    let touched = edits.touch(first, merge.wrapping_add(keep));
    if merge == 0 && keep == segment.len && !touched {
        return number(segment, first);
    }
    let (keep, out_len) = fit(segment, edits, first, merge, keep);
    if out_len == 0 || out_len > LONGEST {
        return 0;
    }
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return 0 };
    let mut writer = Writer {
        session: segment.session,
        scratch,
        first,
        sent: edits.sent(first),
        merge,
        is_replies: segment.is_replies as u32,
        sum: 0,
    };
    let Some(old_sum) = sum_payload(segment, &mut writer) else { return 0 };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let (window, out) = unsafe { (&mut (*scratch).window, &(*scratch).out) };
    if !segment.skb.load_into(segment.payload, window, keep) {
        return 0;
    }
    writer.sum = 0;
    repeat(out_len, &mut writer, write_byte);
    let new_sum = writer.sum;
    let end = segment.payload.wrapping_add(out_len);
    if segment.skb.len() != end && !segment.skb.resize(end) {
        return 0;
    }
    if !segment.skb.store_from(segment.payload, out, out_len) {
        return 0;
    }
    let check = segment.tcp + tcp::CHECKSUM;
    if !segment.skb.add_to_checksum(check, difference(old_sum, new_sum), false) {
        return 0;
    }
    let total = segment.payload.wrapping_sub(IP).wrapping_add(out_len);
    if !set_length(segment, total) {
        return 0;
    }
    if keep < segment.len && segment.flags & tcp::FIN != 0 && !clear_fin(segment) {
        return 0;
    }
    if number(segment, first) == 0 { 0 } else { total }
}

/// How much of the segment's own bytes can leave, and how long the payload gets.
#[inline(always)]
fn fit(segment: &Segment<'_>, edits: &Edits, first: u32, merge: u32, keep: u32) -> (u32, u32) {
    let headers = segment.payload.wrapping_sub(IP);
    let mut room = segment.mtu.wrapping_sub(headers).min(LONGEST);
    // What is no super-packet any more must fit by itself.
    let segment_size = segment.skb.gso_size();
    if segment_size != 0 {
        room = room.min(segment_size);
    }
    let sent = edits.sent(first);
    let mut keep = keep.min(room.saturating_sub(merge));
    let mut out_len = edits.sent(first.wrapping_add(merge).wrapping_add(keep)).wrapping_sub(sent);
    if out_len > room {
        keep = keep.saturating_sub(out_len - room);
        out_len = edits.sent(first.wrapping_add(merge).wrapping_add(keep)).wrapping_sub(sent);
    }
    (keep, out_len)
}

/// What the summing loop works on.
#[repr(C)]
struct Summer<'a> {
    segment: &'a Segment<'a>,
    scratch: *mut Scratch,
    sum: u64,
}

/// The sum of the payload as it came, however long.
#[inline(always)]
fn sum_payload(segment: &Segment<'_>, writer: &mut Writer) -> Option<u64> {
    let mut summer = Summer { segment, scratch: writer.scratch, sum: 0 };
    repeat(segment.len, &mut summer, sum_byte);
    Some(summer.sum)
}

unsafe extern "C" fn sum_byte(index: u64, summer: *mut Summer<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `sum_payload` made.
    let summer = unsafe { &mut *summer };
    // SAFETY: this CPU's own scratch.
    let window = unsafe { &mut (*summer.scratch).window };
    let at = index as u32;
    let place = at as usize & (WINDOW - 1);
    if place == 0 {
        let rest = summer.segment.len.wrapping_sub(at).min(WINDOW as u32);
        if !summer.segment.skb.load_into(summer.segment.payload.wrapping_add(at), window, rest) {
            return 1;
        }
    }
    summer.sum = add_byte(summer.sum, window[place], at % 2 == 1);
    0
}

/// Writes byte number `index` of what leaves.
unsafe extern "C" fn write_byte(index: u64, writer: *mut Writer) -> i64 {
    // SAFETY: `repeat` hands over what `deliver` made; scratch and session outlive the loop.
    let (writer, session, scratch) = unsafe {
        let writer = &mut *writer;
        let session = &*writer.session;
        let scratch = &mut *writer.scratch;
        (writer, session, scratch)
    };
    let index = index as u32;
    let direction = direction(session, writer.is_replies as u8);
    let (text, seq) = direction.edits.source(writer.sent.wrapping_add(index));
    let byte = match text {
        Some(byte) => byte,
        None => {
            let at = seq.wrapping_sub(writer.first);
            if at < writer.merge {
                direction.line[at as usize & (LINE_MAX - 1)]
            } else {
                scratch.window[at.wrapping_sub(writer.merge) as usize & (WINDOW - 1)]
            }
        }
    };
    scratch.out[index as usize & (WINDOW - 1)] = byte;
    writer.sum = add_byte(writer.sum, byte, index % 2 == 1);
    0
}

/// Sets the IP header's length, and what depends on it.
#[inline(always)]
fn set_length(segment: &Segment<'_>, total: u32) -> bool {
    if total == segment.total {
        return true;
    }
    let skb = &segment.skb;
    let ip_header = segment.tcp.wrapping_sub(IP);
    let new = (total as u16).to_be();
    if segment.v4 != 0 {
        let Some(old) = skb.load::<u16>(IP + 2) else { return false };
        let Some(check) = skb.load::<u16>(IP + 10) else { return false };
        let check = apply(check, difference(u64::from(old), u64::from(new)));
        if !skb.store(IP + 2, &new) || !skb.store(IP + 10, &check) {
            return false;
        }
    } else if !skb.store(IP + 4, &(total.wrapping_sub(40) as u16).to_be()) {
        return false;
    }
    // TCP's length is part of its pseudo header.
    let old = (segment.total.wrapping_sub(ip_header) as u16).to_be();
    let new = (total.wrapping_sub(ip_header) as u16).to_be();
    skb.add_to_checksum(
        segment.tcp + tcp::CHECKSUM,
        difference(u64::from(old), u64::from(new)),
        true,
    )
}

/// The stream's end comes with the rest.
#[inline(always)]
fn clear_fin(segment: &Segment<'_>) -> bool {
    let at = segment.tcp + tcp::OFFSET_FLAGS;
    let Some([offset, flags]) = segment.skb.load::<[u8; 2]>(at) else { return false };
    change(segment, at, &[offset, flags], &[offset, flags & !tcp::FIN])
}

/// Writes over an even number of header bytes, and into the checksum.
#[inline(always)]
fn change<T: bytemuck::Pod>(segment: &Segment<'_>, at: u32, old: &T, new: &T) -> bool {
    let sum = |bytes: &[u8]| {
        let mut sum = 0;
        let mut at = 0;
        while at < size_of::<T>() {
            sum = add_byte(sum, bytes[at], at % 2 == 1);
            at += 1;
        }
        sum
    };
    segment.skb.store(at, new)
        && segment.skb.add_to_checksum(
            segment.tcp + tcp::CHECKSUM,
            difference(sum(bytes_of(old)), sum(bytes_of(new))),
            false,
        )
}

/// Sets sequence and acknowledgement numbers, and SACK blocks: `first` is the sender's number of
/// the first byte that leaves. Gives the IP packet's length, or 0: drop it.
#[inline(always)]
pub fn number(segment: &Segment<'_>, first: u32) -> u32 {
    // SAFETY: the map is not preallocated, so the entry lives on while it is used.
    let session = unsafe { &*segment.session };
    let own = &direction(session, segment.is_replies).edits;
    let others = &direction(session, segment.is_replies ^ 1).edits;
    let sent = own.sent(first);
    if sent != segment.seq {
        let at = segment.tcp + tcp::SEQ;
        if !change(segment, at, &segment.seq.to_be(), &sent.to_be()) {
            return 0;
        }
    }
    if others.adjusted != 0 && segment.flags & tcp::ACK_FLAG != 0 {
        let ack = others.original(segment.ack, false);
        if ack != segment.ack {
            let at = segment.tcp + tcp::ACK;
            if !change(segment, at, &segment.ack.to_be(), &ack.to_be()) {
                return 0;
            }
        }
        if !sack(segment, others) {
            return 0;
        }
    }
    segment.total
}

/// What the option walker works on.
#[repr(C)]
struct Walker<'a> {
    segment: &'a Segment<'a>,
    edits: *const Edits,
    /// Where the next option starts.
    at: u32,
    /// 1: a write failed.
    failed: u32,
}

/// Moves the edges of SACK blocks (RFC 2018).
#[inline(always)]
fn sack(segment: &Segment<'_>, edits: &Edits) -> bool {
    let mut walker = Walker { segment, edits, at: segment.tcp + tcp::OPTIONS, failed: 0 };
    repeat(40, &mut walker, walk_option);
    walker.failed == 0
}

unsafe extern "C" fn walk_option(_index: u64, walker: *mut Walker<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `sack` made; the edits lie in the session.
    let (walker, edits) = unsafe {
        let walker = &mut *walker;
        let edits = &*walker.edits;
        (walker, edits)
    };
    let end = walker.segment.payload;
    if walker.at >= end {
        return 1;
    }
    let skb = &walker.segment.skb;
    let Some(kind) = skb.load::<u8>(walker.at) else { return 1 };
    if kind == 1 {
        walker.at += 1;
        return 0;
    }
    // End of options, or one without a length.
    if kind == 0 || walker.at.wrapping_add(2) > end {
        return 1;
    }
    let Some(len) = skb.load::<u8>(walker.at + 1) else { return 1 };
    let len = u32::from(len);
    if len < 2 || walker.at.wrapping_add(len) > end {
        return 1;
    }
    if kind == 5 {
        let mut edge = 0;
        while edge < 8 {
            let at = walker.at + 2 + edge * 4;
            if 2 + edge * 4 + 4 > len {
                break;
            }
            let Some(old) = skb.load::<u32>(at) else { return 1 };
            // A block's left edge must not claim more than was received.
            let new = edits.original(u32::from_be(old), edge % 2 == 0).to_be();
            if new != old && !change_unaligned(walker.segment, at, old, new) {
                walker.failed = 1;
                return 1;
            }
            edge += 1;
        }
    }
    walker.at = walker.at.wrapping_add(len);
    0
}

/// Like [`change`], at any place of the header: options need not be aligned.
#[inline(always)]
fn change_unaligned(segment: &Segment<'_>, at: u32, old: u32, new: u32) -> bool {
    if !segment.skb.store(at, &new) {
        return false;
    }
    let mut change = difference(u64::from(old), u64::from(new));
    if at.wrapping_sub(segment.tcp) % 2 == 1 {
        change = change.swap_bytes();
    }
    segment.skb.add_to_checksum(segment.tcp + tcp::CHECKSUM, change, false)
}
