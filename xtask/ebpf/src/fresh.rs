//! Test runs with a fresh packet each turn.
//!
//! `BPF_PROG_TEST_RUN` repeats a program on one and the same packet: what the first turn has
//! changed is what the second one gets. So what is repeated is one of these two programs, which
//! write the packet anew and then go on into the program to be measured. An empty program measured
//! in the same way costs what the writing costs; the difference is the program's own.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_ABORTED, xdp_action::XDP_PASS},
    macros::{classifier, map, xdp},
    maps::{Array, ProgramArray},
    programs::{TcContext, XdpContext},
};

use crate::layout::{FRAME, FRAMES as FRAME_NUMBER, Plan, SMALL, STRIDE, flow_address, flow_port};

/// The frames to take in turn.
#[map]
static FRAMES: Array<[u64; FRAME / 8]> = Array::with_max_entries(FRAME_NUMBER as u32, 0);

/// Which of them, and for which flows.
#[map]
pub static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

/// The TC program to be measured.
#[map]
static TC_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The XDP program to be measured.
#[map]
static XDP_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Writes the next packet; false: there is no room for it.
#[inline(always)]
fn write(start: usize, end: usize) -> bool {
    let Some(plan) = PLAN.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: one test run at a time.
    let plan = unsafe { &mut *plan };
    let number = plan.next;
    plan.next = number.wrapping_add(1);
    let Some(frame) = FRAMES.get(number & plan.frames) else {
        return false;
    };
    // SAFETY: the bounds are checked before; the CPUs that eBPF runs on need no alignment.
    unsafe {
        if start + FRAME <= end {
            *(start as *mut [u64; FRAME / 8]) = *frame;
        } else if start + SMALL <= end {
            *(start as *mut [u64; SMALL / 8]) = *frame.as_ptr().cast();
        } else {
            return false;
        }
        if plan.flows != 0 {
            let flow = number.wrapping_mul(STRIDE) & plan.flows;
            *((start + 26) as *mut u32) = flow_address(flow);
            *((start + 34) as *mut u16) = flow_port(flow);
        }
    }
    true
}

#[classifier]
fn fresh(ctx: TcContext) -> i32 {
    if write(ctx.data(), ctx.data_end()) {
        // SAFETY: both fields are writable for TC programs. They outlive a turn too.
        unsafe {
            (*ctx.skb.skb).mark = 0;
            (*ctx.skb.skb).tc_index = 0;
            TC_PROGRAM.tail_call(&ctx, 0);
        }
    }
    // A verdict that nobody else gives: the run is void.
    -100
}

/// What measuring costs.
#[classifier]
fn empty(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[xdp]
fn fresh_xdp(ctx: XdpContext) -> u32 {
    if write(ctx.data(), ctx.data_end()) {
        // SAFETY: a plain helper call.
        unsafe { XDP_PROGRAM.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// What measuring costs.
#[xdp]
fn empty_xdp(ctx: XdpContext) -> u32 {
    let _ = ctx.as_ptr();
    XDP_PASS
}
