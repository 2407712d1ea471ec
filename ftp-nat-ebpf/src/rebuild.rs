//! Writing what leaves of a control segment: held bytes in front, edited pieces, an end that is cut
//! off; and its numbers.

use crate::control::{Scratch, Segment, WINDOW, Work, window_byte, work};
use crate::kernel::{Context, Skb, repeat};
use crate::packet::{IP, tcp};
use core::mem::offset_of;
use ftp_nat_common::abi::{LINE_MAX, Session};
use ftp_nat_common::abi::{direction, direction_mut};
use ftp_nat_common::edit::edits::{Edit, Edits, REMEMBERED};
use ftp_nat_common::edit::text::TEXT_MAX;
use ftp_nat_common::stream::segment::acknowledge;
use ftp_nat_common::wire::checksum::{add_byte, apply, difference};

/// The longest payload that is written anew: longer ones are cut, and the sender repeats the rest.
const LONGEST: u32 = 1400;

/// What the loop over the bytes that leave works on.
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
    /// Sum of the bytes so far.
    sum: u32,
}

/// Writes what leaves of the segment into the packet, and its numbers; false: drop it.
#[inline(always)]
pub fn deliver(context: Context, session: *mut Session) -> bool {
    // One beside the other and not within: a chain of calls has 512 bytes of stack.
    let written = match ftp_nat_fit(context, session) {
        AS_IT_IS => true,
        IN_PLACE => ftp_nat_patch(context, session) != 0,
        _ => ftp_nat_rewrite(context, session) != 0,
    };
    written && ftp_nat_number(context, session) != 0
}

/// [`ftp_nat_fit`]'s answer: nothing of the payload changes.
const AS_IT_IS: u32 = 0;
/// Edits are written over its bytes.
const IN_PLACE: u32 = 1;
/// The payload is written anew.
const ANEW: u32 = 2;

/// Writes the payload anew.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_rewrite(context: Context, session: *mut Session) -> u32 {
    u32::from(rewrite(&Skb::of(context), session))
}

#[inline(always)]
fn rewrite(skb: &Skb, session: *mut Session) -> bool {
    let Some(mut work) = work(skb, session) else {
        return true;
    };
    // SAFETY: the session's entry and this CPU's own scratch outlive the packet.
    let (session, scratch) = unsafe { (&*work.session, &mut *work.scratch) };
    let segment = &mut scratch.segment;
    let edits = &direction(session, segment.is_replies).edits;
    let (first, merge) = (segment.first, segment.merge);
    let (keep, out_len) = (segment.keep, segment.out);
    if out_len > LONGEST {
        return false;
    }
    // All of it lies in a piece that got shorter, so the receiver has it: its acknowledgement is
    // what the sender lacks. The end of a stream asks for one by itself.
    let is_end = segment.flags & tcp::FIN != 0 && keep >= segment.len;
    if out_len == 0 && !is_end {
        segment.probe = 1;
    }
    let work = &mut work;
    let old_sum = sum_payload(work, segment);
    let window = &mut scratch.window;
    if keep != 0 && !work.skb.load_into(segment.payload, window, keep) {
        return false;
    }
    let mut writer = Writer {
        session: work.session,
        scratch: work.scratch,
        first,
        sent: edits.sent(first),
        merge,
        sum: 0,
    };
    repeat(out_len, &mut writer, write_byte);
    let end = segment.payload.wrapping_add(out_len);
    if work.skb.len() != end && !work.skb.resize(end) {
        return false;
    }
    let out = &scratch.out;
    if out_len != 0 && !work.skb.store_from(segment.payload, out, out_len) {
        return false;
    }
    let check = segment.tcp + tcp::CHECKSUM;
    let change = difference(u64::from(old_sum), u64::from(writer.sum));
    if !work.skb.add_to_checksum(check, change, false) {
        return false;
    }
    let total = segment.payload.wrapping_sub(IP).wrapping_add(out_len);
    if !set_length(work.skb, segment, total) {
        return false;
    }
    keep >= segment.len || segment.flags & tcp::FIN == 0 || clear_fin(skb, segment)
}

/// Whether none of a segment's edits changes a length, so that they can be written over its bytes.
#[inline(always)]
fn keeps_lengths(edits: &Edits, first: u32, mut len: u32) -> bool {
    let mut age = 0;
    while age < REMEMBERED as u32 && len > 0 {
        let patch = edits.patch(age, first, &mut len);
        if patch.len > 0 && patch.growth != 0 {
            return false;
        }
        age += 1;
    }
    true
}

/// Writes the segment's edits over its bytes, and their difference into the checksum; 0: drop it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_patch(context: Context, session: *mut Session) -> u32 {
    let skb = Skb::of(context);
    let Some(mut work) = work(&skb, session) else {
        return 1;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    work.len = unsafe { (*work.scratch).segment.len };
    repeat(REMEMBERED as u32, &mut work, write_patch);
    u32::from(work.sum == 0)
}

/// Writes the edit that is `age` edits old; 1 ends the loop. The work's `len`: what is left for it;
/// its `sum`: 1, a write failed.
unsafe extern "C" fn write_patch(age: u64, work: *mut Work<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_patch` has; session and scratch outlive the loop.
    let (work, session, scratch) = unsafe {
        let work = &mut *work;
        let session = &*work.session;
        let scratch = &mut *work.scratch;
        (work, session, scratch)
    };
    let segment = &scratch.segment;
    let edits = &direction(session, segment.is_replies).edits;
    if work.len == 0 {
        return 1;
    }
    let patch = edits.patch(age as u32, segment.seq, &mut work.len);
    let Some(edit) = edits.recent(age as u32) else {
        return 1;
    };
    if patch.len == 0 {
        return 0;
    }
    // Words of the payload are words of the checksum: TCP's header is a multiple of four.
    let odd = patch.at % 2;
    let even = segment.payload.wrapping_add(patch.at).wrapping_sub(odd);
    let len = patch.len.wrapping_add(odd);
    let piece = &mut scratch.piece;
    piece.clear(&edit.text);
    let is_read = piece.load(work.skb, even, len);
    let old = piece.sum();
    let at = even.wrapping_add(odd);
    let is_written = is_read
        && work
            .skb
            .store_masked(at, piece.text(), patch.from, patch.len)
        && piece.load(work.skb, even, len);
    let change = difference(old, piece.sum());
    let check = segment.tcp + tcp::CHECKSUM;
    if !is_written || !work.skb.add_to_checksum(check, change, false) {
        work.sum = 1;
        return 1;
    }
    0
}

/// Words that hold the longest text, wherever it starts in its first one.
const PIECE: usize = TEXT_MAX / 4 + 1;

/// A piece of the payload, zeros behind it, and the text that takes its place.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    words: [u32; TEXT_MAX / 2],
    text: [u32; TEXT_MAX / 2],
}

// A text is copied by words: bytes would be copied one by one, over the stack.
const _: () = assert!(offset_of!(Edit, text) % 4 == 0);

impl Piece {
    #[inline(always)]
    fn clear(&mut self, text: &[u8; TEXT_MAX]) {
        self.words = [0; TEXT_MAX / 2];
        let mut at = 0;
        while at < TEXT_MAX / 4 {
            // SAFETY: the text of an edit, aligned for words, see above. Volatile keeps the copy a
            // word at a time.
            self.text[at] = unsafe { text.as_ptr().cast::<u32>().add(at).read_volatile() };
            at += 1;
        }
    }

    #[inline(always)]
    fn text(&self) -> &[u8; 2 * TEXT_MAX] {
        bytemuck::cast_ref(&self.text)
    }

    /// Copies `len` bytes from the packet.
    #[inline(always)]
    fn load(&mut self, skb: &Skb, at: u32, len: u32) -> bool {
        let bytes: &mut [u8; 2 * TEXT_MAX] = bytemuck::cast_mut(&mut self.words);
        skb.load_masked(at, bytes, len)
    }

    /// The sum of its words.
    #[inline(always)]
    fn sum(&self) -> u64 {
        let mut sum = 0;
        let mut at = 0;
        while at < PIECE {
            sum += u64::from(self.words[at]);
            at += 1;
        }
        sum
    }
}

/// Finds out how much of the segment's own bytes can leave, and how long the payload gets; gives how
/// it is to be written.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_fit(context: Context, session: *mut Session) -> u32 {
    let skb = Skb::of(context);
    let Some(work) = work(&skb, session) else {
        return AS_IT_IS;
    };
    // SAFETY: the session's entry and this CPU's own scratch outlive the packet.
    let (session, segment) = unsafe { (&*work.session, &mut (*work.scratch).segment) };
    let edits = &direction(session, segment.is_replies).edits;
    let (first, merge) = (segment.first, segment.merge);
    let touched = edits.touch(first, merge.wrapping_add(segment.keep));
    if merge == 0 && segment.keep == segment.len && !touched {
        return AS_IT_IS;
    }
    let headers = segment.payload.wrapping_sub(IP);
    let mut room = segment.mtu.wrapping_sub(headers).min(LONGEST);
    // What is no super-packet any more must fit by itself.
    let segment_size = skb.gso_size();
    if segment_size != 0 {
        room = room.min(segment_size);
    }
    let sent = edits.sent(first);
    let mut keep = segment.keep.min(room.saturating_sub(merge));
    let mut out = edits
        .sent(first.wrapping_add(merge).wrapping_add(keep))
        .wrapping_sub(sent);
    if out > room {
        keep = keep.saturating_sub(out - room);
        out = edits
            .sent(first.wrapping_add(merge).wrapping_add(keep))
            .wrapping_sub(sent);
    }
    segment.keep = keep;
    segment.out = out;
    // Ethernet's padding goes when a segment is written anew.
    let is_whole = merge == 0
        && keep == segment.len
        && out == keep
        && skb.len() == segment.payload.wrapping_add(keep);
    if is_whole && keeps_lengths(edits, first, keep) {
        IN_PLACE
    } else {
        ANEW
    }
}

/// The sum of the payload as it came, however long.
#[inline(always)]
fn sum_payload(work: &mut Work<'_>, segment: &Segment) -> u32 {
    work.at = segment.payload;
    work.len = segment.len;
    repeat(work.len, work, sum_byte);
    work.sum
}

unsafe extern "C" fn sum_byte(index: u64, work: *mut Work<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `sum_payload` has; the scratch outlives the loop.
    let (work, scratch) = unsafe {
        let work = &mut *work;
        let scratch = &mut *work.scratch;
        (work, scratch)
    };
    let at = index as u32;
    let Some(byte) = window_byte(work, &mut scratch.window, at) else {
        return 1;
    };
    work.sum = add_byte(u64::from(work.sum), byte, at % 2 == 1) as u32;
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
    let direction = direction(session, scratch.segment.is_replies);
    let (text, seq) = direction.edits.source(writer.sent.wrapping_add(index));
    let byte = match text {
        Some(byte) => byte,
        None => {
            let at = seq.wrapping_sub(writer.first);
            if at < writer.merge {
                scratch.kept[at as usize & (LINE_MAX - 1)]
            } else {
                scratch.window[at.wrapping_sub(writer.merge) as usize & (WINDOW - 1)]
            }
        }
    };
    scratch.out[index as usize & (WINDOW - 1)] = byte;
    writer.sum = add_byte(u64::from(writer.sum), byte, index % 2 == 1) as u32;
    0
}

/// Sets the IP header's length, and what depends on it.
#[inline(always)]
fn set_length(skb: &Skb, segment: &Segment, total: u32) -> bool {
    if total == segment.total {
        return true;
    }
    let ip_header = segment.tcp.wrapping_sub(IP);
    let new = (total as u16).to_be();
    if segment.v4 != 0 {
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
fn clear_fin(skb: &Skb, segment: &Segment) -> bool {
    let at = segment.tcp + tcp::OFFSET_FLAGS;
    let Some([offset, flags]) = skb.load::<[u8; 2]>(at) else {
        return false;
    };
    let old = u16::from_ne_bytes([offset, flags]);
    let new = u16::from_ne_bytes([offset, flags & !tcp::FIN]);
    skb.store(at, &new)
        && skb.add_to_checksum(
            segment.tcp + tcp::CHECKSUM,
            difference(u64::from(old), u64::from(new)),
            false,
        )
}

/// Writes over a number in the TCP header, and into the checksum.
#[inline(always)]
fn change(skb: &Skb, tcp: u32, at: u32, old: u32, new: u32) -> bool {
    let mut change = difference(u64::from(old.to_be()), u64::from(new.to_be()));
    // Options need not be aligned.
    if at.wrapping_sub(tcp) % 2 == 1 {
        change = change.swap_bytes();
    }
    skb.store(at, &new.to_be()) && skb.add_to_checksum(tcp + tcp::CHECKSUM, change, false)
}

/// Sets sequence and acknowledgement numbers, and SACK blocks; false: drop it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_number(context: Context, session: *mut Session) -> u32 {
    u32::from(number(&Skb::of(context), session))
}

#[inline(always)]
fn number(skb: &Skb, session: *mut Session) -> bool {
    let Some(work) = work(skb, session) else {
        return true;
    };
    // SAFETY: the session's entry and this CPU's own scratch outlive the packet.
    let (session, segment) = unsafe { (&mut *work.session, &(*work.scratch).segment) };
    let own = &direction(session, segment.is_replies).edits;
    // The receiver has the byte before that already, and says what it waits for.
    let sent = own
        .sent(segment.first)
        .wrapping_sub(u32::from(segment.probe));
    if sent != segment.seq
        && !change(
            work.skb,
            segment.tcp,
            segment.tcp + tcp::SEQ,
            segment.seq,
            sent,
        )
    {
        return false;
    }
    if segment.flags & tcp::ACK_FLAG == 0 {
        return true;
    }
    let others = direction_mut(session, segment.is_replies ^ 1);
    let ack = acknowledge(others, segment.ack);
    if ack != segment.ack
        && !change(
            work.skb,
            segment.tcp,
            segment.tcp + tcp::ACK,
            segment.ack,
            ack,
        )
    {
        return false;
    }
    others.edits.adjusted == 0 || ftp_nat_blocks(skb.context(), work.session) != 0
}

/// Moves the edges of SACK blocks (RFC 2018); 0: drop the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_blocks(context: Context, session: *mut Session) -> u32 {
    let skb = Skb::of(context);
    let Some(mut work) = work(&skb, session) else {
        return 1;
    };
    // SAFETY: this CPU's own scratch; programs on one CPU do not interrupt each other.
    let scratch = unsafe { &mut *work.scratch };
    scratch.options = Options {
        at: scratch.segment.tcp + tcp::OPTIONS,
        edge: 0,
        blocks_end: 0,
        failed: 0,
    };
    repeat(40, &mut work, walk_option);
    u32::from(scratch.options.failed == 0)
}

/// Where the walk through TCP's options is.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Where the next option starts.
    at: u32,
    /// The SACK block's edge that comes next.
    edge: u32,
    /// Where the blocks end.
    blocks_end: u32,
    /// 1: a write failed.
    failed: u32,
}

/// One option, or one edge of a block; 1 ends the loop.
unsafe extern "C" fn walk_option(_index: u64, work: *mut Work<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_blocks` has; session and scratch outlive the loop.
    let (skb, session, scratch) = unsafe {
        let work = &*work;
        (work.skb, &*work.session, &mut *work.scratch)
    };
    let (segment, walk) = (&scratch.segment, &mut scratch.options);
    if walk.at.wrapping_add(4) <= walk.blocks_end {
        let Some(old) = skb.load::<u32>(walk.at) else {
            return 1;
        };
        let old = u32::from_be(old);
        let edits = &direction(session, segment.is_replies ^ 1).edits;
        // A left edge must not claim more than was received.
        let new = edits.original(old, walk.edge % 2 == 0);
        if new != old && !change(skb, segment.tcp, walk.at, old, new) {
            walk.failed = 1;
            return 1;
        }
        walk.edge = walk.edge.wrapping_add(1);
        walk.at = walk.at.wrapping_add(4);
        return 0;
    }
    let Some([kind, len]) = skb.load::<[u8; 2]>(walk.at) else {
        return 1;
    };
    if kind == 1 {
        walk.at = walk.at.wrapping_add(1);
    } else if kind == 5 {
        walk.edge = 0;
        walk.blocks_end = walk.at.wrapping_add(u32::from(len)).min(segment.payload);
        walk.at = walk.at.wrapping_add(2);
    } else {
        walk.at = walk.at.wrapping_add(u32::from(len.max(2)));
    }
    i64::from(kind == 0 || walk.at >= segment.payload)
}
