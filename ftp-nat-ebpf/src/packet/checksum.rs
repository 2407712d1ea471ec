//! A TCP segment's checksum, where the device has not checked it.

use super::headers::{IP, TCP};
use crate::kernel::helpers::{repeat, sum_words};
use crate::kernel::skb::{Context, Skb};
use ftp_nat_common::wire::addr::Addr;
use ftp_nat_common::wire::checksum::{fold, of_addr};

/// Bytes that are summed at once: what `bpf_csum_diff` takes.
const CHUNK: usize = 256;

/// The words that are summed at once. A CPU's scratch memory.
pub type Words = [u32; CHUNK / 4];

/// Where the summing is.
struct Sum<'a> {
    skb: &'a Skb,
    words: *mut Words,
    at: u32,
    end: u32,
    sum: u32,
    failed: u32,
}

/// Whether a segment's receiver will find its checksum right. `tcp` is where the TCP header starts
/// and `total` the length of the IP packet, both in bytes, the one from the Ethernet header on.
#[inline(always)]
pub fn is_right(skb: &Skb, ends: &[Addr; 2], tcp: u32, total: u32, words: *mut Words) -> bool {
    // A super-packet was made of segments whose checksums were right.
    if skb.gso_size() != 0 || !skb.is_unchecked() {
        return true;
    }
    ftp_nat_sums_up(skb.context(), ends, tcp, total, words) != 0
}

/// The sum of [`is_right`]; 1: it is right.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_sums_up(
    context: Context,
    ends: *const [Addr; 2],
    tcp: u32,
    total: u32,
    words: *mut Words,
) -> u32 {
    // SAFETY: a reference, as `is_right` hands it over.
    let Some([source, destination]) = (unsafe { ends.as_ref() }) else {
        return 0;
    };
    if words.is_null() {
        return 0;
    }
    let skb = Skb::of(context);
    let end = IP.wrapping_add(total);
    let len = end.wrapping_sub(tcp);
    let v4 = source.is_v4();
    let pseudo = of_addr(&source.0, v4)
        + of_addr(&destination.0, v4)
        + u64::from(u16::from(TCP).to_be())
        + u64::from((len as u16).to_be());
    let mut sum = Sum {
        skb: &skb,
        words,
        at: tcp,
        end,
        sum: 0,
        failed: 0,
    };
    repeat(len / CHUNK as u32 + 1, &mut sum, add_chunk);
    u32::from(sum.failed == 0 && fold(u64::from(sum.sum) + pseudo) == 0xffff)
}

/// Adds the next bytes; 1 ends the loop.
unsafe extern "C" fn add_chunk(_index: u64, sum: *mut Sum<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_sums_up` has, which outlives the loop.
    let sum = unsafe { &mut *sum };
    let left = sum.end.wrapping_sub(sum.at);
    if left == 0 {
        return 1;
    }
    let len = left.min(CHUNK as u32);
    // SAFETY: the caller's scratch memory, to which no other reference is alive.
    let words = unsafe { &mut *sum.words };
    *words = [0; CHUNK / 4];
    let bytes: &mut [u8; CHUNK] = bytemuck::cast_mut(words);
    if !sum.skb.load_into(sum.at, bytes, len) {
        sum.failed = 1;
        return 1;
    }
    let Some(next) = sum_words(words, CHUNK as u32, sum.sum) else {
        sum.failed = 1;
        return 1;
    };
    sum.sum = next;
    sum.at = sum.at.wrapping_add(len);
    0
}
