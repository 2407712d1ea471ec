//! TCP's options: a SYN's window scale, and signatures.

use crate::kernel::helpers::repeat;
use crate::kernel::skb::Skb;

/// "End of option list" (RFC 9293 section 3.2).
const END: u8 = 0;
/// "No operation".
const NOP: u8 = 1;
/// The window scale option (RFC 7323 section 2.2), and its length in bytes.
const SCALE: [u8; 2] = [3, 3];
/// The largest shift that may be used; a larger one means this one.
const LARGEST_SHIFT: u8 = 14;
/// [`window_scale`]'s answer: the SYN offers none.
pub const NONE: u8 = 0xff;

/// The signature options: MD5 (RFC 2385) and TCP-AO (RFC 5925). An end drops a segment that has one
/// it shares no key for.
const SIGNATURES: [u8; 2] = [19, 29];

/// Where the walk is.
struct Walk<'a> {
    skb: &'a Skb,
    at: u32,
    end: u32,
    shift: u8,
    is_signed: bool,
}

/// The window scale that a SYN offers, 0 to 14, or [`NONE`]. Its options stand from `at` to `end`, in
/// bytes from the Ethernet header on.
#[inline(always)]
pub fn window_scale(skb: &Skb, at: u32, end: u32) -> u8 {
    let mut walk = Walk {
        skb,
        at,
        end,
        shift: NONE,
        is_signed: false,
    };
    // As many options as fit into 40 bytes.
    repeat(40, &mut walk, step);
    walk.shift
}

/// Whether the options from `at` to `end` hold a signature.
#[inline(never)]
pub fn is_signed(skb: &Skb, at: u32, end: u32) -> bool {
    let mut walk = Walk {
        skb,
        at,
        end,
        shift: NONE,
        is_signed: false,
    };
    repeat(40, &mut walk, step);
    walk.is_signed
}

/// One option; 1 ends the loop.
unsafe extern "C" fn step(_index: u64, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: `repeat` hands over what `window_scale` has, which outlives the loop.
    let walk = unsafe { &mut *walk };
    if walk.at.wrapping_add(3) > walk.end {
        return 1;
    }
    let Some([kind, len, shift]) = walk.skb.load::<[u8; 3]>(walk.at) else {
        return 1;
    };
    if [kind, len] == SCALE {
        walk.shift = shift.min(LARGEST_SHIFT);
    }
    if kind == SIGNATURES[0] || kind == SIGNATURES[1] {
        walk.is_signed = true;
        return 1;
    }
    let len = if kind == NOP {
        1
    } else {
        u32::from(len.max(2))
    };
    walk.at = walk.at.wrapping_add(len);
    i64::from(kind == END)
}
