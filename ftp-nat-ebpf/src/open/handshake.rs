//! Handshakes that are not finished: they live in a table of their own, from which the least recently
//! used one gives way.

use super::connection::{describe, describe_for_stack};
use super::{session, source};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::packet::options::{self, window_scale};
use crate::state::scratch::{self, Connection, Head, Opening};
use crate::state::{counters, maps, ports};
use aya_ebpf::bindings::BPF_ANY;
use ftp_nat_common::abi::{
    Flow, HalfOpen, HalfOpenKey, Handshake, flow_flag, half_open_flag, kind, port, role, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;
use ftp_nat_common::wire::tcp::offset;

/// What a packet is, as the gateway goes on with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Belongs {
    /// To no handshake that is known.
    Nowhere,
    /// To one that is not finished; the flow for this packet lies in the memory.
    Unfinished,
    /// It has finished one, or was let in by a mapping: its flows exist now.
    Finished,
    /// It may not be; it passes untouched.
    Denied,
    /// There is no room for it: it is dropped, so that its sender tries again.
    Refused,
}

/// A SYN to a published address, or of a masqueraded client: its handshake is noted.
#[inline(always)]
pub(super) fn start(skb: &Skb, hook: Hook, part: *mut Opening) -> Belongs {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, connection) = unsafe {
        (
            &(*part).head,
            &mut (*part).half_open,
            &mut (*part).connection,
        )
    };
    if hook == Hook::WanIngress {
        let Some(found) = session::published(&head.destination) else {
            return Belongs::Nowhere;
        };
        if !source::may_come_from_outside(skb, &head.source.addr, &head.destination.addr) {
            counters::add(Counter::DeniedSource, head.total);
            return Belongs::Refused;
        }
        half_open.role = role::PUBLISH;
        half_open.public = head.destination;
        half_open.to = found.server_for(&head.destination);
        half_open.client = Endpoint::default();
        half_open.flow_flags = session::flow_flags(found);
        connection.outside = head.source;
    } else {
        if hook != Hook::WanEgress || ports::marks(head.destination.port) & port::MASQUERADED == 0 {
            return Belongs::Nowhere;
        }
        half_open.role = role::MASQUERADE;
        half_open.public = head.source;
        half_open.to = head.source;
        half_open.client = session::client(skb, head);
        half_open.flow_flags = flow_flag::NO_NAT;
        connection.outside = head.destination;
    }
    // Text in a SYN (RFC 7413) would be read by a server and not by the gateway. Its client repeats
    // the SYN without.
    if head.len != 0 {
        counters::add(Counter::DeniedSynText, head.total);
        return Belongs::Refused;
    }
    half_open.client_isn = head.segment.seq;
    half_open.server_isn = 0;
    half_open.server_window = 0;
    half_open.flags = 0;
    half_open.server_scale = 0;
    half_open.pad = [0; 5];
    let scale = window_scale(skb, head.tcp + offset::OPTIONS, head.payload);
    if scale == options::NONE {
        half_open.client_scale = 0;
    } else {
        half_open.client_scale = scale;
        half_open.flags = half_open_flag::CLIENT_SCALES;
    }
    let key = key_of(half_open, connection);
    // A repetition must not forget the server's answer to the first one.
    if let Some(there) = maps::HALF_OPEN.get_ptr(key) {
        // SAFETY: the entry may be reused while it is read: then the numbers differ.
        let there = unsafe { &*there };
        if there.client_isn == half_open.client_isn && there.public == half_open.public {
            *half_open = *there;
            return Belongs::Unfinished;
        }
    }
    if maps::HALF_OPEN
        .insert(key, half_open, u64::from(BPF_ANY))
        .is_err()
    {
        counters::add(Counter::DeniedNoRoom, head.total);
        return Belongs::Refused;
    }
    counters::add(Counter::HandshakeStarted, 0);
    Belongs::Unfinished
}

/// The key of a handshake: its inside end as its own packets name it.
#[inline(always)]
fn key_of(half_open: &HalfOpen, connection: &Connection) -> HalfOpenKey {
    HalfOpenKey {
        inside: if half_open.flow_flags & flow_flag::NO_NAT == 0 {
            half_open.to
        } else {
            half_open.public
        },
        outside: connection.outside,
    }
}

/// Fills in the connection of the handshake in the memory, without a session.
#[inline(always)]
fn connect(part: *mut Opening) {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (half_open, connection) = unsafe { (&(*part).half_open, &mut (*part).connection) };
    connection.public = half_open.public;
    connection.inside = half_open.to;
    connection.session = 0;
    connection.kind = kind::CONTROL;
    connection.flags = half_open.flow_flags;
    connection.server_inside = u8::from(half_open.role == role::PUBLISH);
}

/// Makes the flow for one packet of the handshake in the memory.
#[inline(always)]
pub(super) fn flow(skb: &Skb, hook: Hook, part: *mut Opening) {
    connect(part);
    describe(skb, hook, part);
}

/// The packet in the memory, which has no flow or which TCP does not believe of the one that it has:
/// whether it belongs to a handshake, and what becomes of that.
///
/// Its two halves stand one beside the other and not within: Linux 6.1 allows a chain of calls 512
/// bytes of stack.
#[inline(always)]
pub fn see(skb: &Skb, hook: Hook) -> Belongs {
    match judge(skb, hook) {
        Belongs::Finished => finish(skb, hook),
        belongs => belongs,
    }
}

/// What the packet does to its handshake, short of making a session ([`Belongs::Finished`]).
#[inline(never)]
fn judge(skb: &Skb, hook: Hook) -> Belongs {
    let Some(part) = scratch::opening() else {
        return Belongs::Nowhere;
    };
    let outbound = hook.side() == side::OUTBOUND;
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, connection) = unsafe {
        (
            &(*part).head,
            &mut (*part).half_open,
            &mut (*part).connection,
        )
    };
    let key = key_for(head, outbound);
    let Some(found) = maps::HALF_OPEN.get_ptr_mut(key) else {
        // This machine's own stack would answer it.
        if hook == Hook::WanIngress
            && !source::may_come_from_outside(skb, &head.source.addr, &head.destination.addr)
        {
            counters::add(Counter::DeniedSource, head.total);
            return Belongs::Refused;
        }
        return Belongs::Nowhere;
    };
    // SAFETY: the entry may be reused while it is read, for another handshake: then its numbers are
    // not those of this packet.
    *half_open = unsafe { *found };
    connection.outside = key.outside;
    // The same ends by another public address: another handshake.
    if !outbound && half_open.public != head.destination {
        return Belongs::Nowhere;
    }
    let is_servers = outbound == (half_open.role == role::PUBLISH);
    match half_open.judge(&head.segment, is_servers) {
        Handshake::Passes => {}
        Handshake::Answers => {
            answer(skb, head, half_open);
            // SAFETY: as above; what is lost to a reuse is a handshake that starts again.
            unsafe { *found = *half_open };
        }
        Handshake::Resets => {
            let _ = maps::HALF_OPEN.remove(key);
        }
        Handshake::Finishes => return Belongs::Finished,
    }
    flow(skb, hook, part);
    Belongs::Unfinished
}

/// Makes the session of the handshake in the memory, and its flows.
#[inline(never)]
fn finish(skb: &Skb, hook: Hook) -> Belongs {
    let Some(part) = scratch::opening() else {
        return Belongs::Nowhere;
    };
    connect(part);
    if !session::begin(skb, hook, part) {
        // The handshake waits on: the server repeats its answer, or the client its data.
        // SAFETY: see `scratch`; no other reference to the headers is alive.
        counters::add(Counter::DeniedNoRoom, unsafe { (*part).head.total });
        return Belongs::Refused;
    }
    // SAFETY: see `scratch`; no other reference to these is alive.
    let key = unsafe { key_of(&(*part).half_open, &(*part).connection) };
    let _ = maps::HALF_OPEN.remove(key);
    Belongs::Finished
}

/// The flow, for one packet, of a handshake that an ICMP error from this side of the gateway is about:
/// of packets from `source` to `destination`. Only errors from the inside or this machine itself, such
/// as one about a SYN whose time to live ends here.
#[inline(never)]
pub fn quoted(hook: Hook, source: &Endpoint, destination: &Endpoint) -> Option<*mut Flow> {
    if hook.side() != side::OUTBOUND {
        return None;
    }
    let part = scratch::opening()?;
    let key = HalfOpenKey {
        inside: *source,
        outside: *destination,
    };
    let found = maps::HALF_OPEN.get_ptr(key)?;
    // SAFETY: see `scratch`; the entry may be reused while it is read, for another handshake.
    unsafe {
        (*part).half_open = *found;
        (*part).connection.outside = key.outside;
    }
    connect(part);
    describe_for_stack(hook, part);
    // SAFETY: see `scratch`.
    Some(unsafe { &raw mut (*part).flow })
}

/// Notes the server's answer.
#[inline(always)]
fn answer(skb: &Skb, head: &Head, half_open: &mut HalfOpen) {
    half_open.server_isn = head.segment.seq;
    half_open.server_window = head.window as u16;
    let scale = window_scale(skb, head.tcp + offset::OPTIONS, head.payload);
    half_open.flags |= half_open_flag::ANSWERED;
    half_open.flags &= !half_open_flag::SCALES;
    half_open.server_scale = 0;
    if scale != options::NONE && half_open.flags & half_open_flag::CLIENT_SCALES != 0 {
        half_open.server_scale = scale;
        half_open.flags |= half_open_flag::SCALES;
    }
}

/// The key of the handshake that a packet may belong to.
#[inline(always)]
fn key_for(head: &Head, outbound: bool) -> HalfOpenKey {
    if outbound {
        return HalfOpenKey {
            inside: head.source,
            outside: head.destination,
        };
    }
    let inside = match session::published(&head.destination) {
        Some(found) if session::flow_flags(found) & flow_flag::NO_NAT == 0 => {
            found.server_for(&head.destination)
        }
        _ => head.destination,
    };
    HalfOpenKey {
        inside,
        outside: head.source,
    }
}
