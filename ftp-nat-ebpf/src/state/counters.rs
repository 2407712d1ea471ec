//! Counters, and events for the daemon.

use super::maps;
use crate::kernel::helpers::jiffies;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use bytemuck::Zeroable;
use ftp_nat_common::abi::{Event, LINE_MAX, SAID_HEAD, Said, Session, cluster, event};
use ftp_nat_common::counter::Counter;

/// One more packet, or event (`bytes` 0).
#[inline(always)]
pub fn add(counter: Counter, bytes: u32) {
    add_number(counter as u32, bytes);
}

/// The same for a counter's number.
#[inline(always)]
pub fn add_number(counter: u32, bytes: u32) {
    if let Some(count) = maps::COUNTERS.get_ptr_mut(counter) {
        // SAFETY: this CPU's own slot: see `scratch`.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(bytes);
        }
    }
}

/// Tells the daemon what `fill` writes; counts if nobody listens fast enough.
#[inline(always)]
pub fn tell(fill: impl FnOnce(&mut Event)) {
    let Some(mut entry) = maps::EVENTS.reserve::<Event>(0) else {
        add(Counter::EventsLost, 0);
        return;
    };
    // In place: an event is a sixth of the stack.
    // SAFETY: zeros are an event, and written at once.
    let event = unsafe {
        entry.write(Event::zeroed());
        entry.assume_init_mut()
    };
    let now = jiffies();
    event.time = now;
    fill(event);
    entry.submit(wakeup_for_event(now));
}

/// How many events of a jiffy may be about what was denied, on each CPU: that leaves most of the ring
/// to what was let in, however fast packets come that nobody asked for.
const DENIED_AT_ONCE: u64 = 16;

/// The same about something that was denied: what packets can bring about that nobody asked for.
#[inline(always)]
pub fn tell_denied(fill: impl FnOnce(&mut Event)) {
    if may_tell_denied() {
        tell(|told| {
            told.what = event::DENIED;
            fill(told);
        });
    }
}

/// Whether this jiffy has room for another event about what was denied; one that has not is counted.
#[inline(always)]
pub fn may_tell_denied() -> bool {
    let Some(telling) = maps::TELLING.get_ptr_mut(0) else {
        return false;
    };
    let now = jiffies();
    // SAFETY: this CPU's own slot: see `scratch`.
    let has_room = unsafe { (*telling).denied.add(now) } <= DENIED_AT_ONCE;
    if !has_room {
        add(Counter::EventsWithheld, 0);
    }
    has_room
}

/// Tells the daemon a command or a reply, with the first `len` bytes of its line, unless the ring is half
/// full: the other half is for events.
#[inline(never)]
pub fn tell_said(said: &mut Said, len: u32) {
    if maps::EVENTS.query(BPF_RB_AVAIL_DATA.into()) > u64::from(maps::EVENTS_SIZE / 2) {
        add(Counter::CommandsUntold, 0);
        return;
    }
    let now = jiffies();
    said.time = now;
    // The compiler would take the bound back if it knew where the number came from.
    let len = SAID_HEAD + core::hint::black_box(len).min(LINE_MAX as u32) as usize;
    // SAFETY: so many bytes of it at most, and any bytes are bytes.
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_mut(said).cast::<u8>(), len) };
    if maps::EVENTS.output::<[u8]>(bytes, wakeup(now)).is_err() {
        add(Counter::CommandsUntold, 0);
    }
}

/// Whether the daemon is woken for an event: as for what was said, but at once where other gateways must know.
#[inline(always)]
fn wakeup_for_event(now: u64) -> u64 {
    if maps::SETTINGS.get(0).is_some_and(|it| it.cluster != 0) {
        return wakeup_at_once(now);
    }
    wakeup(now)
}

/// The same for each of so many events of a jiffy on each CPU ([`cluster::PROMPT`]). Where more come, the daemon
/// looks by itself before the jiffy is over, and to wake it for each would take half of this CPU. The ring's
/// own rule (bpf_ringbuf_commit without flags) would wake nobody who has not read all that was said before.
#[inline(always)]
fn wakeup_at_once(now: u64) -> u64 {
    let Some(telling) = maps::TELLING.get_ptr_mut(0) else {
        return BPF_RB_FORCE_WAKEUP.into();
    };
    // SAFETY: this CPU's own slot: see `scratch`.
    if unsafe { (*telling).shared.add(now) } > cluster::PROMPT {
        return BPF_RB_NO_WAKEUP.into();
    }
    BPF_RB_FORCE_WAKEUP.into()
}

/// Whether the daemon is woken: once a tick on each CPU. To wake it means to interrupt
/// this CPU, which in a virtual machine costs more than all that led to the event; and once awake,
/// the daemon looks again until the tick is over.
#[inline(always)]
fn wakeup(now: u64) -> u64 {
    let Some(telling) = maps::TELLING.get_ptr_mut(0) else {
        return BPF_RB_FORCE_WAKEUP.into();
    };
    // SAFETY: this CPU's own slot: see `scratch`.
    unsafe {
        if (*telling).woken == now {
            return BPF_RB_NO_WAKEUP.into();
        }
        (*telling).woken = now;
    }
    BPF_RB_FORCE_WAKEUP.into()
}

/// Fills in what an event tells about its session.
#[inline(always)]
pub fn about(event: &mut Event, session: &Session, number: u32) {
    event.session = number;
    event.peer = session.outside;
    event.inside = session.inside;
    event.public = session.public;
}
