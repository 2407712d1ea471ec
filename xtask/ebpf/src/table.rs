//! What one call into a hash table costs: nothing else is done for a packet.
//!
//! Keys and values are as large as an IPv4 flow's. Turns put in and take away the keys number
//! `next & flows` of the plan, one after the other, and look up those number `next * STRIDE & flows`:
//! in another order than the one in which the table gave them their places.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, TC_ACT_UNSPEC},
    macros::{classifier, map},
    maps::HashMap,
    programs::TcContext,
};

use crate::{
    fresh::PLAN,
    layout::{STRIDE, TABLE_KEY, TABLE_VALUE, flow_address},
};

type Key = [u32; TABLE_KEY / 4];
type Value = [u64; TABLE_VALUE / 8];

/// Its room is there from the start, in pages of 4 KiB (`bpf_map_area_alloc`), as that of the datapath's
/// tables. The benchmark sets how many entries.
#[map]
static PREALLOCATED: HashMap<Key, Value> = HashMap::with_max_entries(1, 0);

/// Each entry gets its room when it is inserted.
#[map]
static ALLOCATED: HashMap<Key, Value> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The key of this turn. `step`: how far the numbers of two turns are from each other.
#[inline(always)]
fn key(step: u32) -> Key {
    let Some(plan) = PLAN.get_ptr_mut(0) else {
        return Key::default();
    };
    // SAFETY: one test run at a time.
    let plan = unsafe { &mut *plan };
    let number = plan.next;
    plan.next = number.wrapping_add(1);
    let flow = number.wrapping_mul(step) & plan.flows;
    [flow_address(flow), flow, 0]
}

/// A number that the caller checks: 1 where the call did what it should.
#[inline(always)]
fn verdict(is_done: bool) -> i32 {
    if is_done { 1 } else { TC_ACT_UNSPEC }
}

#[inline(always)]
fn look_up(table: &HashMap<Key, Value>) -> i32 {
    let Some(value) = table.get_ptr_mut(key(STRIDE)) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: an entry stays in its place while the program runs; one test run at a time.
    unsafe { (*value)[0] = (*value)[0].wrapping_add(1) };
    1
}

/// What measuring costs.
#[classifier]
fn table_nothing(_ctx: TcContext) -> i32 {
    verdict(key(STRIDE)[0] != 0)
}

#[classifier]
fn preallocated_lookup(_ctx: TcContext) -> i32 {
    look_up(&PREALLOCATED)
}

#[classifier]
fn preallocated_insert(_ctx: TcContext) -> i32 {
    verdict(PREALLOCATED.insert(key(1), [1; TABLE_VALUE / 8], 0).is_ok())
}

#[classifier]
fn preallocated_delete(_ctx: TcContext) -> i32 {
    verdict(PREALLOCATED.remove(key(1)).is_ok())
}

#[classifier]
fn allocated_lookup(_ctx: TcContext) -> i32 {
    look_up(&ALLOCATED)
}

#[classifier]
fn allocated_insert(_ctx: TcContext) -> i32 {
    verdict(ALLOCATED.insert(key(1), [1; TABLE_VALUE / 8], 0).is_ok())
}

#[classifier]
fn allocated_delete(_ctx: TcContext) -> i32 {
    verdict(ALLOCATED.remove(key(1)).is_ok())
}
