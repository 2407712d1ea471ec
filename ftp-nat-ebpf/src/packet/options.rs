//! TCP's options (RFC 9293 section 3.2): finding one.

use crate::kernel::helpers::repeat;
use crate::kernel::skb::{Context, Skb};

/// "End of option list".
const END: u8 = 0;
/// "No operation": the one option besides [`END`] without a length.
const NOP: u8 = 1;
/// As many options as fit into a header.
const MOST: u32 = 40;

/// Kinds of options, each a bit of a set of kinds.
pub mod kind {
    /// Maximum segment size (RFC 9293 section 3.2); its value has [`MSS_LEN`](super::MSS_LEN) bytes.
    pub const MSS: u32 = 1 << 2;
    /// Window scale (RFC 7323 section 2.2); its value is one byte.
    pub const WINDOW_SCALE: u32 = 1 << 3;
    /// Selective acknowledgements (RFC 2018 section 3); its value is pairs of sequence numbers.
    pub const SACK: u32 = 1 << 5;
    /// Timestamps (RFC 7323 section 3.2); its value is the sender's and the one that it echoes.
    pub const TIMESTAMP: u32 = 1 << 8;
    /// Signatures: MD5 (RFC 2385) and TCP-AO (RFC 5925). An end drops a segment that has one it shares
    /// no key for.
    pub const SIGNATURE: u32 = 1 << 19 | 1 << 29;
}

/// Length of the value of timestamps, in bytes.
const TIMESTAMP_LEN: u32 = 8;
/// TCP options of a segment that only has timestamps, as most do (RFC 7323 appendix A): two of no
/// operation, then kind 8 with its length of 10.
const USUAL: [u8; 4] = [1, 1, 8, 10];
/// The length of those.
const USUAL_LEN: u32 = 12;
/// Length of the value of a maximum segment size, in bytes.
pub const MSS_LEN: u32 = 2;
/// The largest shift of a window that may be used; a larger one means this one (RFC 7323 section 2.3).
const LARGEST_SHIFT: u8 = 14;

/// The value of an option that was found.
#[derive(Clone, Copy)]
pub struct Value {
    /// Where it starts, in bytes from the Ethernet header on.
    pub at: u32,
    /// Its length in bytes, 0 to 38. It ends where the options do or before.
    pub len: u32,
}

/// Where the walk is.
struct Walk<'a> {
    skb: &'a Skb,
    kinds: u32,
    at: u32,
    end: u32,
    found: Value,
}

/// The value of the first option of one of these kinds among those from `at` to `end`, in bytes from
/// the Ethernet header on. None: there is no such option, or it or one before it is cut short.
#[inline(always)]
pub fn find(skb: &Skb, at: u32, end: u32, kinds: u32) -> Option<Value> {
    let both = ftp_nat_find_option(skb.context(), at, end, kinds);
    let value = Value {
        at: (both >> 32) as u32,
        len: both as u32,
    };
    (value.at != 0).then_some(value)
}

/// [`find`], with both halves of the answer in one register; 0: None.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_find_option(context: Context, at: u32, end: u32, kinds: u32) -> u64 {
    let skb = Skb::of(context);
    let mut walk = Walk {
        skb: &skb,
        kinds,
        at,
        end,
        found: Value { at: 0, len: 0 },
    };
    repeat(MOST, &mut walk, step);
    u64::from(walk.found.at) << 32 | u64::from(walk.found.len)
}

/// One option; 1 ends the loop.
unsafe extern "C" fn step(_index: u64, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `ftp_nat_find_option` has, which outlives the loop.
    let walk = unsafe { &mut *walk };
    if walk.at >= walk.end {
        return 1;
    }
    // The byte behind the last option is there too: it is payload, or the load fails.
    let (option, len) = match walk.skb.load::<[u8; 2]>(walk.at) {
        Some([END, _]) | None => return 1,
        Some([NOP, _]) => (NOP, 1),
        Some([option, len]) => (option, u32::from(len)),
    };
    let next = walk.at.wrapping_add(len);
    // As `tcp_parse_options` of Linux ends there.
    if next > walk.end || (len < 2 && option != NOP) {
        return 1;
    }
    if option < 32 && walk.kinds >> option & 1 != 0 {
        walk.found = Value {
            at: walk.at.wrapping_add(2),
            len: len.wrapping_sub(2),
        };
        return 1;
    }
    walk.at = next;
    0
}

/// The shift of windows that a SYN offers, 0 to 14; None if it offers none. Its options stand from
/// `at` to `end`, in bytes from the Ethernet header on.
#[inline(always)]
pub fn window_scale(skb: &Skb, at: u32, end: u32) -> Option<u8> {
    let value = find(skb, at, end, kind::WINDOW_SCALE)?;
    let shift = skb.load::<u8>(value.at)?;
    (value.len == 1).then_some(shift.min(LARGEST_SHIFT))
}

/// Whether the options at `at` begin as those of segments that only have timestamps.
#[inline(always)]
pub fn is_usual(skb: &Skb, at: u32) -> bool {
    skb.load::<[u8; 4]>(at) == Some(USUAL)
}

/// The sender's timestamp among the options from `at` to `end`, in bytes from the Ethernet header on; 0:
/// there is none. None: there are two, or one of a wrong length.
#[inline(always)]
pub fn timestamp(skb: &Skb, at: u32, end: u32) -> Option<u32> {
    if end <= at {
        return Some(0);
    }
    let both = if end == at.wrapping_add(USUAL_LEN) && is_usual(skb, at) {
        u64::from(skb.load::<u32>(at.wrapping_add(4)).map_or(0, u32::from_be))
    } else {
        ftp_nat_find_timestamp(skb.context(), at, end)
    };
    (both != UNCLEAR).then_some(both as u32)
}

/// [`ftp_nat_find_timestamp`]'s answer where there is none that all receivers would go by.
const UNCLEAR: u64 = u64::MAX;

/// [`timestamp`] where other options are there; [`UNCLEAR`]: None.
///
/// A global function: the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ftp_nat_find_timestamp(context: Context, at: u32, end: u32) -> u64 {
    let skb = Skb::of(context);
    let Some(value) = find(&skb, at, end, kind::TIMESTAMP) else {
        return 0;
    };
    let behind = value.at.wrapping_add(value.len);
    if value.len != TIMESTAMP_LEN || find(&skb, behind, end, kind::TIMESTAMP).is_some() {
        return UNCLEAR;
    }
    u64::from(skb.load::<u32>(value.at).map_or(0, u32::from_be))
}
