//! Small packets: sent, and counted where they arrive.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::generated::bpf_redirect,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};

use crate::layout::{SMALL, STRIDE, Shot, Wanted, flow_address, flow_port};

/// What is sent.
#[map]
static SHOT: Array<Shot> = Array::with_max_entries(1, 0);

/// How many were sent from the sources of flows.
#[map]
static SENT: Array<u32> = Array::with_max_entries(1, 0);

/// What must arrive.
#[map]
static WANTED: Array<Wanted> = Array::with_max_entries(1, 0);

/// How many of them did.
#[map]
static ARRIVED: Array<u64> = Array::with_max_entries(1, 0);

/// Runs on live frames. The kernel uses their pages again without clearing them, and the router
/// has changed them meanwhile: so the whole frame is written each time.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    let Some(shot) = SHOT.get(0) else {
        return XDP_ABORTED;
    };
    let start = ctx.data();
    if start + SMALL > ctx.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: the bounds were checked just now, and the CPUs that eBPF runs on need no alignment
    // that a frame's start does not have.
    unsafe { *(start as *mut [u64; SMALL / 8]) = shot.frame };
    if shot.flows != 0 {
        let Some(sent) = SENT.get_ptr_mut(0) else {
            return XDP_ABORTED;
        };
        // SAFETY: all runs on one CPU; the bounds of the frame were checked just now.
        unsafe {
            let flow = (*sent).wrapping_mul(STRIDE) & shot.flows;
            *sent = (*sent).wrapping_add(1);
            let (address, port) = (flow_address(flow), flow_port(flow));
            let by_address = sum(!flow_address(0)) + sum(address);
            let by_port = u32::from(!flow_port(0)) + u32::from(port);
            *((start + 26) as *mut u32) = address;
            *((start + 34) as *mut u16) = port;
            change_sum(start + 24, by_address);
            change_sum(start + 50, by_address + by_port);
        }
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(shot.ifindex, 0) as u32 }
}

/// The sum of a 32-bit word's halves.
#[inline(always)]
const fn sum(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Changes an internet checksum by what its words changed by (RFC 1624).
///
/// # Safety
///
/// There must be two bytes of a packet at `at`.
#[inline(always)]
unsafe fn change_sum(at: usize, by: u32) {
    let at = at as *mut u16;
    // SAFETY: as this function's.
    unsafe { *at = !(sum(sum(u32::from(!*at) + by)) as u16) };
}

/// Counts what arrives as it should, and drops it; all else goes on.
#[xdp]
fn sink(ctx: XdpContext) -> u32 {
    let (Some(wanted), Some(arrived)) = (WANTED.get(0), ARRIVED.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    let start = ctx.data();
    if start + 38 > ctx.data_end() {
        return XDP_PASS;
    }
    // SAFETY: the bounds were checked just now; all runs on one CPU.
    unsafe {
        let is_tcp = *((start + 12) as *const u16) == 0x0800_u16.to_be()
            && *((start + 23) as *const u8) == 6;
        if is_tcp
            && *((start + 30) as *const u32) == wanted.address
            && *((start + 36) as *const u16) == wanted.port
        {
            *arrived += 1;
            return XDP_DROP;
        }
    }
    XDP_PASS
}
