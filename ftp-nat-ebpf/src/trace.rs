//! Tracing: what becomes of each packet at a station, and why.
//!
//! Whether packets are traced, and which, are constants of the loaded program, set by its loader
//! (`ftp-nat/src/datapath/trace.rs`). Where they are not, the verifier knows that the branches below
//! are never taken and cuts them off, with all that only they call: what is left of them is one test
//! of a constant. So `ftp-nat trace` loads the stations a second time, with other constants, and
//! puts them in the place of the first for as long as it runs.
//!
//! The reasons are those of the counters: which ones this packet has moved on this CPU.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_log_ebpf::info;
use ftp_nat_common::abi::{direction, flow_flag, kind};
use ftp_nat_common::counter::COUNTERS;
use ftp_nat_common::wire::addr::{Addr, Endpoint};

use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::packet::headers::IPV4;
use crate::packet::segment::{Headers, Reading};
use crate::state::{flows, maps};
use ftp_nat_common::abi::{FlowKey4, FlowKey6};

/// Whether packets are traced: 0 or 1.
#[unsafe(no_mangle)]
static TRACE: Global<u8> = Global::new(0);

/// The address that must be one of a packet's ends, as [`Addr`] has it; zeros: any.
#[unsafe(no_mangle)]
static TRACE_PEER: Global<[u32; 4]> = Global::new([0; 4]);

/// The session that a packet must be of; 0: any.
#[unsafe(no_mangle)]
static TRACE_SESSION: Global<u32> = Global::new(0);

/// Words of 64 bits that have a bit for each counter.
const WORDS: usize = 2;
const _: () = assert!(COUNTERS <= 64 * WORDS);

/// A packet as it came to its station, and this CPU's counters before it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Traced {
    /// 1: it is one of those that are asked for.
    is_wanted: u32,
    /// Its number on this CPU.
    number: u32,
    hook: u32,
    flags: u32,
    source: Endpoint,
    destination: Endpoint,
    seq: u32,
    ack: u32,
    /// Bytes of payload.
    len: u32,
    /// The payload's first four bytes, if a line begins there.
    text: u32,
    /// Where the loops below are.
    at: u32,
    changed: [u64; WORDS],
    before: [u64; COUNTERS],
}

/// Entry 0 is this CPU's packet.
#[map]
static TRACED: PerCpuArray<Traced> = PerCpuArray::with_max_entries(1, 0);

/// Passes a packet to a station, and tells what became of it where that is asked for.
#[inline(always)]
pub fn watch(skb: &Skb, pass: impl FnOnce(&Skb) -> i32) -> i32 {
    if TRACE.load() != 0 {
        begin(skb);
    }
    let verdict = pass(skb);
    // Looked at again: what is kept meanwhile takes stack, and a chain of calls has 512 bytes.
    if TRACE.load() != 0 {
        end(skb, verdict);
    }
    verdict
}

#[inline(never)]
fn begin(skb: &Skb) {
    let Some(traced) = TRACED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own memory: see `state::scratch`.
    let traced = unsafe { &mut *traced };
    traced.is_wanted = 0;
    traced.number = traced.number.wrapping_add(1);
    traced.hook = Hook::of(skb.hook()) as u32;
    if skb.protocol() == IPV4 {
        read::<FlowKey4>(skb, traced);
    } else {
        read::<FlowKey6>(skb, traced);
    }
    if traced.is_wanted == 0 {
        return;
    }
    traced.at = 0;
    while traced.at < COUNTERS as u32 {
        let at = traced.at;
        if let (Some(before), Some(count)) = (
            traced.before.get_mut(at as usize),
            maps::COUNTERS.get_ptr(at),
        ) {
            // SAFETY: this CPU's own slot.
            *before = unsafe { (*count).packets };
        }
        traced.at = at + 1;
    }
}

/// Reads a packet's headers, and decides whether it is one of those that are asked for.
#[inline(always)]
fn read<N: Headers>(skb: &Skb, traced: &mut Traced) {
    let Reading::Tcp(packet) = N::read(skb) else {
        // Not TCP, or not to be read: it has no ends that could be asked for.
        traced.source = Endpoint::default();
        traced.destination = Endpoint::default();
        traced.flags = 0;
        traced.len = 0;
        traced.text = 0;
        traced.is_wanted =
            u32::from(TRACE_SESSION.load() == 0 && TRACE_PEER.load() == Addr::default().0);
        return;
    };
    traced.source = packet.key.source();
    traced.destination = packet.key.destination();
    traced.flags = packet.flags.into();
    traced.seq = packet.seq;
    traced.ack = packet.ack;
    traced.len = packet.len;
    traced.text = 0;
    let peer = TRACE_PEER.load();
    if peer != Addr::default().0
        && peer != traced.source.addr.0
        && peer != traced.destination.addr.0
    {
        return;
    }
    let wanted = TRACE_SESSION.load();
    let side = Hook::of(traced.hook).side();
    match flows::find(&traced.source, &traced.destination, side) {
        None => traced.is_wanted = u32::from(wanted == 0),
        Some(flow) => {
            // SAFETY: the entry stays in its place while the program runs.
            let flow = unsafe { &*flow };
            traced.is_wanted = u32::from(wanted == 0 || wanted == flow.session);
            // The middle of a line may be a part of a password.
            if flow.kind == kind::CONTROL
                && packet.len >= 4
                && let Some(session) = maps::SESSIONS.get_ptr(flow.session)
            {
                // SAFETY: as above.
                let session = unsafe { &*session };
                let lines = direction(session, flow.flags & flow_flag::REPLIES);
                if lines.line_len == 0 && lines.held_len == 0 && lines.seen == packet.seq {
                    traced.text = skb.load::<u32>(packet.payload).unwrap_or_default();
                }
            }
        }
    }
}

#[inline(never)]
fn end(skb: &Skb, verdict: i32) {
    let Some(traced) = TRACED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own memory: see `state::scratch`.
    let traced = unsafe { &mut *traced };
    if traced.is_wanted == 0 {
        return;
    }
    traced.changed = [0; WORDS];
    traced.at = 0;
    while traced.at < COUNTERS as u32 {
        let at = traced.at;
        if let (Some(before), Some(count)) =
            (traced.before.get(at as usize), maps::COUNTERS.get_ptr(at))
        {
            // SAFETY: this CPU's own slot.
            let has_moved = unsafe { (*count).packets } != *before;
            if let Some(word) = traced.changed.get_mut(at as usize / 64) {
                *word |= u64::from(has_moved) << (at % 64);
            }
        }
        traced.at = at + 1;
    }
    tell(skb, traced, verdict);
}

/// Three records of one packet: its headers, its flow, and what became of it. `packet` is in front of
/// each, then names and values: `ftp-nat/src/commands/trace/record.rs` reads them.
#[inline(always)]
fn tell(skb: &Skb, traced: &Traced, verdict: i32) {
    info!(
        skb,
        "packet {} hook {} from {:i} {} to {:i} {} flags {} seq {} ack {} len {} text {}",
        traced.number,
        traced.hook,
        octets(&traced.source.addr),
        traced.source.port.number(),
        octets(&traced.destination.addr),
        traced.destination.port.number(),
        traced.flags,
        traced.seq,
        traced.ack,
        traced.len,
        traced.text,
    );
    let side = Hook::of(traced.hook).side();
    if let Some(flow) = flows::find(&traced.source, &traced.destination, side) {
        // SAFETY: the entry stays in its place while the program runs.
        let flow = unsafe { &*flow };
        let (mut line, mut held) = (0, 0);
        if flow.kind == kind::CONTROL
            && let Some(session) = maps::SESSIONS.get_ptr(flow.session)
        {
            // SAFETY: as above.
            let session = unsafe { &*session };
            let lines = direction(session, flow.flags & flow_flag::REPLIES);
            (line, held) = (lines.line_len, lines.held_len);
        }
        info!(
            skb,
            "flow {} kind {} session {} out {} line {} held {} packets {}",
            traced.number,
            flow.kind,
            flow.session,
            flow.out_ifindex,
            line,
            held,
            flow.packets,
        );
    }
    info!(
        skb,
        "verdict {} is {} counted {} {}",
        traced.number,
        verdict,
        traced.changed[0],
        traced.changed[1],
    );
}

#[inline(always)]
fn octets(addr: &Addr) -> [u8; 16] {
    bytemuck::cast(addr.0)
}
