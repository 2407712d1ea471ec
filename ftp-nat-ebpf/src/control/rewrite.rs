//! Writing a control segment: edited pieces over its bytes, or its payload anew; its numbers.

use super::bytes;
use super::work::Work;
use crate::kernel::skb::Skb;
use crate::packet::headers::IP;
use crate::state::scratch::{Control, Piece, SegmentLayout};
use ftp_nat_common::abi::direction;
use ftp_nat_common::edit::text::TEXT_MAX;
use ftp_nat_common::stream::driver::{Cursor, Medium, Turn};
use ftp_nat_common::wire::checksum::{add_byte, apply, difference};
use ftp_nat_common::wire::tcp::{flag, offset};

/// Writes `len` bytes of the text of the edit that is `age` edits old, from its byte `from` on, over
/// the payload's byte `at` and those behind it, and their difference into the checksum.
#[inline(always)]
pub(super) fn patch(work: &mut Work<'_>, age: u32, at: u32, from: u32, len: u32) -> bool {
    let skb = work.skb;
    // SAFETY: by the contract of `Work::new`; the session is not written to meanwhile.
    let (session, part) = unsafe { (&*work.session, &mut *work.part) };
    let Control {
        segment,
        place,
        piece,
        ..
    } = part;
    let Some(edit) = direction(session, segment.is_replies).edits.recent(age) else {
        return false;
    };
    // Words of the payload are words of the checksum: TCP's header is a multiple of four.
    let odd = at % 2;
    let even = place.payload.wrapping_add(at).wrapping_sub(odd);
    let odd_len = len.wrapping_add(odd);
    bytes::clear(piece, &edit.text);
    let is_read = load(piece, skb, even, odd_len);
    let old = bytes::sum(piece);
    let text: &[u8; 2 * TEXT_MAX] = bytemuck::cast_ref(&piece.text);
    let is_written = is_read
        && skb.store_masked(even.wrapping_add(odd), text, from, len)
        && load(piece, skb, even, odd_len);
    let change = difference(old, bytes::sum(piece));
    is_written && skb.add_to_checksum(place.tcp + offset::CHECKSUM, change, false)
}

/// Copies `len` bytes from the packet into a piece.
#[inline(always)]
fn load(piece: &mut Piece, skb: &Skb, at: u32, len: u32) -> bool {
    let bytes: &mut [u8; 2 * TEXT_MAX] = bytemuck::cast_mut(&mut piece.words);
    skb.load_masked(at, bytes, len)
}

/// Adds a byte to the sum in the cursor's `next`.
struct SumByte;

impl Turn<Work<'_>> for SumByte {
    #[inline(always)]
    fn turn(work: &mut Work<'_>, index: u32) -> bool {
        let Some(byte) = work.byte(index) else {
            return true;
        };
        let sum = u64::from(work.cursor().next);
        work.cursor().next = add_byte(sum, byte, index % 2 == 1) as u32;
        false
    }
}

/// The same for a byte of the new payload.
struct SumNewByte;

impl Turn<Work<'_>> for SumNewByte {
    #[inline(always)]
    fn turn(work: &mut Work<'_>, index: u32) -> bool {
        let byte = work.part().out[index as usize & (crate::state::scratch::WINDOW - 1)];
        let sum = u64::from(work.cursor().next);
        work.cursor().next = add_byte(sum, byte, index % 2 == 1) as u32;
        false
    }
}

/// Sums up the old payload, into the cursor's `merge`, and loads what of it leaves.
#[inline(always)]
pub(super) fn begin(work: &mut Work<'_>) -> bool {
    let skb = work.skb;
    let before = *work.cursor();
    let len = work.part().segment.len;
    *work.cursor() = Cursor {
        len,
        ..Cursor::default()
    };
    work.repeat::<SumByte>(len);
    let sum = work.cursor().next;
    *work.cursor() = Cursor {
        merge: sum,
        ..before
    };
    let part = work.part();
    let keep = part.segment.keep;
    keep == 0 || skb.load_into(part.place.payload, &mut part.window, keep)
}

/// Makes the new payload the packet's, with its length and checksum.
#[inline(always)]
pub(super) fn end(work: &mut Work<'_>) -> bool {
    let skb = work.skb;
    let old_sum = work.cursor().merge;
    work.cursor().next = 0;
    let out_len = work.part().segment.out;
    work.repeat::<SumNewByte>(out_len);
    let new_sum = work.cursor().next;
    let Control { place, out, .. } = work.part();
    let end = place.payload.wrapping_add(out_len);
    if skb.len() != end && !skb.resize(end) {
        return false;
    }
    if out_len != 0 && !skb.store_from(place.payload, out, out_len) {
        return false;
    }
    let change = difference(u64::from(old_sum), u64::from(new_sum));
    skb.add_to_checksum(place.tcp + offset::CHECKSUM, change, false)
        && set_length(
            skb,
            place,
            place.payload.wrapping_sub(IP).wrapping_add(out_len),
        )
}

/// Sets the IP header's length, and what depends on it.
#[inline(always)]
fn set_length(skb: &Skb, place: &SegmentLayout, total: u32) -> bool {
    if total == place.total {
        return true;
    }
    let ip_header = place.tcp.wrapping_sub(IP);
    let new = (total as u16).to_be();
    if place.v4 != 0 {
        let Some(old) = skb.load::<u16>(IP + 2) else {
            return false;
        };
        let Some(check) = skb.load::<u16>(IP + 10) else {
            return false;
        };
        let check = apply(check, difference(u64::from(old), u64::from(new)));
        if !skb.store(IP + 2, &new) || !skb.store(IP + 10, &check) {
            return false;
        }
    } else if !skb.store(IP + 4, &(total.wrapping_sub(40) as u16).to_be()) {
        return false;
    }
    // TCP's length is part of its pseudo header.
    let old = (place.total.wrapping_sub(ip_header) as u16).to_be();
    let new = (total.wrapping_sub(ip_header) as u16).to_be();
    skb.add_to_checksum(
        place.tcp + offset::CHECKSUM,
        difference(u64::from(old), u64::from(new)),
        true,
    )
}

/// Takes the FIN off.
#[inline(always)]
pub(super) fn clear_fin(work: &mut Work<'_>) -> bool {
    let skb = work.skb;
    let tcp = work.part().place.tcp;
    let at = tcp + offset::OFFSET_FLAGS;
    let Some([data_offset, flags]) = skb.load::<[u8; 2]>(at) else {
        return false;
    };
    let old = u16::from_ne_bytes([data_offset, flags]);
    let new = u16::from_ne_bytes([data_offset, flags & !flag::FIN]);
    let change = difference(u64::from(old), u64::from(new));
    skb.store(at, &new) && skb.add_to_checksum(tcp + offset::CHECKSUM, change, false)
}

/// Writes over a number in the TCP header, and into the checksum. Numbers are in the machine's byte
/// order; `tcp` is where the header starts, `at` where the number stands.
#[inline(always)]
pub(super) fn change(skb: &Skb, tcp: u32, at: u32, old: u32, new: u32) -> bool {
    let mut change = difference(u64::from(old.to_be()), u64::from(new.to_be()));
    // Options need not be aligned.
    if at.wrapping_sub(tcp) % 2 == 1 {
        change = change.swap_bytes();
    }
    skb.store(at, &new.to_be()) && skb.add_to_checksum(tcp + offset::CHECKSUM, change, false)
}

/// Sets the sequence number.
#[inline(always)]
pub(super) fn set_seq(work: &mut Work<'_>, seq: u32) -> bool {
    let skb = work.skb;
    let Control { place, segment, .. } = work.part();
    change(skb, place.tcp, place.tcp + offset::SEQ, segment.seq, seq)
}

/// Sets the acknowledgement number.
#[inline(always)]
pub(super) fn set_ack(work: &mut Work<'_>, ack: u32) -> bool {
    let skb = work.skb;
    let Control { place, segment, .. } = work.part();
    change(skb, place.tcp, place.tcp + offset::ACK, segment.ack, ack)
}

/// Sets the urgent pointer.
#[inline(always)]
pub(super) fn set_urgent(work: &mut Work<'_>, urgent: u32) -> bool {
    let skb = work.skb;
    let Control { place, segment, .. } = work.part();
    let (old, new) = ((segment.urgent as u16).to_be(), (urgent as u16).to_be());
    let change = difference(u64::from(old), u64::from(new));
    skb.store(place.tcp + offset::URGENT, &new)
        && skb.add_to_checksum(place.tcp + offset::CHECKSUM, change, false)
}
