//! Helpers without a packet: the clock, random numbers, loops.

use aya_ebpf::helpers::generated;
use core::ffi::c_void;

/// Now, in jiffies: reading them costs nothing.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a plain helper call, which the verifier turns into a load.
    unsafe { generated::bpf_jiffies64() }
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: a plain helper call.
    unsafe { generated::bpf_get_prandom_u32() }
}

/// Calls `body` with 0, 1, .. up to `times`, until it answers 1. The verifier checks the body once
/// (Linux 5.17).
#[inline(always)]
pub fn repeat<T>(times: u32, context: &mut T, body: unsafe extern "C" fn(u64, *mut T) -> i64) {
    // SAFETY: the body gets the context that it was written for, which outlives the call.
    unsafe {
        generated::bpf_loop(
            times,
            body as *mut c_void,
            core::ptr::from_mut(context).cast(),
            0,
        );
    }
}

/// The ones' complement sum of words, added to `seed`. None: there are more than the helper takes at
/// once (128 words before Linux 6.14).
#[inline(always)]
pub fn sum_words<const N: usize>(words: &mut [u32; N], len: u32, seed: u32) -> Option<u32> {
    // SAFETY: the helper reads `len` bytes, which the caller has bounded by the array's.
    let sum = unsafe {
        generated::bpf_csum_diff(core::ptr::null_mut(), 0, words.as_mut_ptr(), len, seed)
    };
    u32::try_from(sum).ok()
}
