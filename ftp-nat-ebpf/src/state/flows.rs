//! The flow tables: finding, making and ending entries; noting packets in them.

use super::maps;
use crate::kernel::helpers::jiffies;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ftp_nat_common::abi::{Flow, FlowKey, FlowKey4, FlowKey6};
use ftp_nat_common::wire::addr::Endpoint;
use ftp_nat_common::wire::tcp::flag;

/// A flow key with its table.
pub trait Table: FlowKey {
    /// The flow of this key, whichever side its packets come by.
    ///
    /// The entry stays in its place while the program runs (see [`maps`]); other CPUs may write to
    /// it meanwhile, so its counts are reached by [`note`] only.
    fn look_up(&self) -> Option<*mut Flow>;
    /// Makes the flow of this key; false: it exists already (`BPF_NOEXIST`), or the table is full.
    fn insert(&self, flow: &Flow, flags: u32) -> bool;
    /// Ends the flow of this key, if there is one.
    fn remove(&self);

    /// The flow of this key whose packets come by this side ([`ftp_nat_common::abi::side`]).
    #[inline(always)]
    fn find(&self, side: u32) -> Option<*mut Flow> {
        let flow = self.look_up()?;
        // SAFETY: the entry stays in its place while the program runs.
        (unsafe { (*flow).side() } == side).then_some(flow)
    }
}

macro_rules! table {
    ($key:ty, $map:ident) => {
        impl Table for $key {
            #[inline(always)]
            fn look_up(&self) -> Option<*mut Flow> {
                maps::$map.get_ptr_mut(self)
            }

            #[inline(always)]
            fn insert(&self, flow: &Flow, flags: u32) -> bool {
                maps::$map.insert(self, flow, u64::from(flags)).is_ok()
            }

            #[inline(always)]
            fn remove(&self) {
                let _ = maps::$map.remove(self);
            }
        }
    };
}

table!(FlowKey4, FLOWS4);
table!(FlowKey6, FLOWS6);

/// The flow of packets from `src` to `dst` that come by this side.
#[inline(always)]
pub fn find(src: &Endpoint, dst: &Endpoint, side: u32) -> Option<*mut Flow> {
    if src.addr.is_v4() {
        FlowKey4::new(src, dst).find(side)
    } else {
        FlowKey6::new(src, dst).find(side)
    }
}

/// The flow of packets from `src` to `dst`, whichever side they come by.
#[inline(always)]
pub fn find_any(src: &Endpoint, dst: &Endpoint) -> Option<*mut Flow> {
    if src.addr.is_v4() {
        FlowKey4::new(src, dst).look_up()
    } else {
        FlowKey6::new(src, dst).look_up()
    }
}

/// Whether there is a flow of packets from `src` to `dst`.
#[inline(never)]
pub fn is_there(src: &Endpoint, dst: &Endpoint) -> bool {
    find_any(src, dst).is_some()
}

/// Makes the flow of packets from `src` to `dst`; false: see [`Table::insert`].
#[inline(never)]
pub fn insert(src: &Endpoint, dst: &Endpoint, flow: &Flow, flags: u32) -> bool {
    if src.addr.is_v4() {
        FlowKey4::new(src, dst).insert(flow, flags)
    } else {
        FlowKey6::new(src, dst).insert(flow, flags)
    }
}

/// Makes it where none exists yet.
#[inline(always)]
pub fn insert_new(src: &Endpoint, dst: &Endpoint, flow: &Flow) -> bool {
    insert(src, dst, flow, BPF_NOEXIST)
}

/// Makes it in place of one that may exist.
#[inline(always)]
pub fn replace(src: &Endpoint, dst: &Endpoint, flow: &Flow) -> bool {
    insert(src, dst, flow, BPF_ANY)
}

/// Ends the flow of packets from `src` to `dst`.
#[inline(never)]
pub fn remove(src: &Endpoint, dst: &Endpoint) {
    if src.addr.is_v4() {
        FlowKey4::new(src, dst).remove();
    } else {
        FlowKey6::new(src, dst).remove();
    }
}

/// How far before what the other end waits for a segment may begin, in bytes: something that is
/// repeated.
const BEHIND: u32 = 1 << 16;
/// How far beyond: what is on its way and not acknowledged yet.
const AHEAD: u32 = 1 << 22;

/// Whether a segment of a data connection can be its sender's, by its sequence number. `other`: the
/// other direction, which acknowledges; none of its packets has come: it can.
#[inline(always)]
pub fn is_near(other: &Flow, seq: u32) -> bool {
    let beyond = seq.wrapping_sub(other.acked);
    other.packets == 0 || beyond.wrapping_add(BEHIND) <= AHEAD + BEHIND
}

/// Notes where the stream of a data connection's direction begins or ends, by a segment with SYN or FIN:
/// its sequence number, and the length of its payload in bytes.
#[inline(always)]
pub fn note_bounds(flow: *mut Flow, flags: u8, seq: u32, len: u32) {
    // SAFETY: as in `note`.
    unsafe {
        if flags & flag::SYN != 0 {
            (&raw mut (*flow).start).write_volatile(seq.wrapping_add(1));
        }
        if flags & flag::FIN != 0 {
            (&raw mut (*flow).end).write_volatile(seq.wrapping_add(len));
        }
    }
}

/// Notes a packet in its flow: its TCP flags, its acknowledgement number and its length in bytes
/// from the IP header on.
///
/// A direction's packets seldom run on two CPUs at once; where they do, a count may be lost.
#[inline(always)]
pub fn note(flow: *mut Flow, flags: u8, ack: u32, bytes: u32) {
    // SAFETY: the entry stays in its place while the program runs, and its fields are aligned. The
    // target has no atomic loads and stores (BPF's v3 instructions); a volatile access of a whole
    // field is one instruction of the machine, which does not tear.
    unsafe {
        let packets = &raw mut (*flow).packets;
        packets.write_volatile(packets.read_volatile().wrapping_add(1));
        let all_bytes = &raw mut (*flow).bytes;
        all_bytes.write_volatile(all_bytes.read_volatile().wrapping_add(bytes.into()));
        (&raw mut (*flow).acked).write_volatile(ack);
        let now = jiffies() as u32;
        let last_seen = &raw mut (*flow).last_seen;
        if last_seen.read_volatile() != now {
            last_seen.write_volatile(now);
        }
        let all_flags = &raw mut (*flow).tcp_flags;
        let before = all_flags.read_volatile();
        // What comes after a reset shows that nobody took it.
        let after = before & !flag::RST | flags;
        if after != before {
            all_flags.write_volatile(after);
        }
    }
}
