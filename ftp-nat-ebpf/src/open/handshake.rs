//! Handshakes that are not finished: they live in a table of their own, from which the least recently
//! used one gives way.

use super::connection::{describe, describe_for_stack};
use super::{alias, half_open as table, lists, pool, refusal, session, source};
use crate::forward::return_path;
use crate::kernel::hook::Hook;
use crate::kernel::route::{Hop, LOOPBACK, route};
use crate::kernel::skb::Skb;
use crate::packet::options::{timestamp, window_scale};
use crate::state::scratch::{self, Connection, Draft, Head};
use crate::state::{counters, maps, ports, shares};
use ftp_nat_common::abi::{
    Flow, HalfOpen, HalfOpenKey, ReturnPath, flow_flag, half_open_flag, kind, port, publish_flag,
    role, side,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::handshake::{self, Handshake, Offer};
use ftp_nat_common::wire::addr::{Addr, Endpoint};
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
pub(super) fn start(skb: &Skb, hook: Hook, part: *mut Draft) -> Belongs {
    let belongs = if hook == Hook::WanEgress {
        masqueraded(skb, part)
    } else {
        published(skb, hook, part)
    };
    if belongs != Belongs::Unfinished {
        return belongs;
    }
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, is_translated) = unsafe {
        let flags = (*part).half_open.flow_flags;
        (&(*part).head, flags & flow_flag::NO_NAT == 0)
    };
    // Text in a SYN (RFC 7413) would be read by a server and not by the gateway. Its client repeats
    // the SYN without.
    if head.len != 0 {
        counters::add(Counter::DeniedSynText, head.total);
        return Belongs::Refused;
    }
    if is_listed(part) {
        return Belongs::Refused;
    }
    if let Err(reason) = may_begin(part) {
        refusal::deny(head, reason as u32);
        return Belongs::Refused;
    }
    if is_translated && !alias::choose() {
        counters::add(Counter::DeniedNoPort, head.total);
        return Belongs::Refused;
    }
    // One beside the other and not within: a chain of calls has 512 bytes of stack.
    if !read_offer(skb, part) {
        counters::add(Counter::DeniedTimestamp, head.total);
        return Belongs::Refused;
    }
    match note(part) {
        Noted::NoRoom => return Belongs::Refused,
        Noted::Before => {}
        Noted::Common => note_alias(part, false),
        Noted::Beyond => note_alias(part, true),
    }
    Belongs::Unfinished
}

/// Fills in whose connection a masqueraded client's SYN begins.
#[inline(always)]
fn masqueraded(skb: &Skb, part: *mut Draft) -> Belongs {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, connection) = unsafe {
        (
            &(*part).head,
            &mut (*part).half_open,
            &mut (*part).connection,
        )
    };
    if ports::marks(head.destination.port) & port::MASQUERADED == 0 {
        return Belongs::Nowhere;
    }
    half_open.role = role::MASQUERADE;
    half_open.flags = 0;
    half_open.public = head.source;
    half_open.to = head.source;
    half_open.client = session::client(skb, head);
    half_open.other = head.destination;
    half_open.flow_flags = flow_flag::NO_NAT;
    half_open.return_path = ReturnPath::default();
    connection.alias = head.destination;
    connect(half_open, connection);
    Belongs::Unfinished
}

/// Fills in whose connection a SYN to a published server begins.
#[inline(never)]
fn published(skb: &Skb, hook: Hook, part: *mut Draft) -> Belongs {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, connection) = unsafe {
        (
            &(*part).head,
            &mut (*part).half_open,
            &mut (*part).connection,
        )
    };
    let Some(found) = session::published(&head.destination) else {
        return Belongs::Nowhere;
    };
    let (source, here) = (&head.source.addr, &head.destination.addr);
    if hook != Hook::LanIngress && !source::may_come_from_outside(skb, source, here) {
        counters::add(Counter::DeniedSource, head.total);
        return Belongs::Refused;
    }
    half_open.to = found.server_for(&head.destination);
    half_open.flags = 0;
    let mut near = &raw const found.near;
    if found.flags & publish_flag::POOL != 0 {
        near = pool::choose(head, half_open);
        if near.is_null() {
            return Belongs::Denied;
        }
        half_open.flags = half_open_flag::POOL;
    }
    let mut is_hidden = found.flags & publish_flag::TOWARD_GATEWAY != 0;
    half_open.flow_flags = session::flow_flags(found);
    half_open.return_path = ReturnPath::default();
    if hook == Hook::LanIngress {
        // The kernel's own rules and routes have a way for those, or there is none.
        let is_translated =
            half_open.flow_flags & flow_flag::NO_NAT == 0 && half_open.to != head.destination;
        let is_own = skb.ifindex() == LOOPBACK;
        if is_own {
            half_open.return_path.ifindex = LOOPBACK;
        }
        if !is_translated || !is_own && !leads_back(skb, here, source) {
            return Belongs::Nowhere;
        }
        half_open.flow_flags |= flow_flag::HAIRPIN | flow_flag::NO_STACK;
        // On one network the server would answer its client without the gateway. A client on this machine
        // itself has a public address here, or one that nobody else reaches.
        is_hidden |= is_own || leads_back(skb, source, &half_open.to.addr);
    } else {
        return_path::of_packet(skb, &mut half_open.return_path);
    }
    half_open.role = role::PUBLISH;
    half_open.public = head.destination;
    half_open.client = Endpoint::default();
    half_open.other = head.source;
    connection.alias = head.source;
    if is_hidden {
        // SAFETY: the entry that it lies in stays in its place while the program runs.
        let near = unsafe { *near };
        if near.is_none() {
            return Belongs::Nowhere;
        }
        half_open.flow_flags |= flow_flag::NO_STACK;
        connection.alias = Endpoint::new(near, alias::hidden(head.source.port));
    }
    connect(half_open, connection);
    Belongs::Unfinished
}

/// Where a handshake was noted.
#[repr(u32)]
enum Noted {
    /// Nowhere: there is no room.
    NoRoom,
    /// It was before: the SYN is a repetition.
    Before,
    /// In the common table.
    Common,
    /// In the table for those beyond their share.
    Beyond,
}

/// Fills in what the SYN in the memory says of its sender; false: its timestamps are unclear. A function beside [`note`], as the search
/// for its options and the entries' keys are too much for one chain of calls.
#[inline(never)]
fn read_offer(skb: &Skb, part: *mut Draft) -> bool {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open) = unsafe { (&(*part).head, &mut (*part).half_open) };
    let Some(timestamp) = timestamp(skb, head.tcp + offset::OPTIONS, head.payload) else {
        return false;
    };
    handshake::offer(half_open, &offer_of(skb, head, timestamp));
    true
}

/// What a SYN, or the answer to one, offers.
#[inline(always)]
fn offer_of(skb: &Skb, head: &Head, timestamp: u32) -> Offer {
    Offer {
        isn: head.segment.seq,
        window: head.window,
        scale: window_scale(skb, head.tcp + offset::OPTIONS, head.payload),
        timestamp,
    }
}

/// Notes the handshake in the memory, whose offer was read.
#[inline(never)]
fn note(part: *mut Draft) -> Noted {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, connection) =
        unsafe { (&(*part).head, &mut (*part).half_open, &(*part).connection) };
    let key = key_of(half_open, connection);
    // A repetition must not forget the server's answer to the first one.
    if let Some(there) = table::find(&key) {
        // SAFETY: the entry may be reused while it is read: then the numbers differ.
        let is_same = unsafe {
            (*there).client_isn == half_open.client_isn && (*there).public == half_open.public
        };
        if is_same {
            // The server goes by the latest.
            let latest = half_open.client_timestamp;
            // SAFETY: the entry stays in its place; if it is reused, its handshake starts with another
            // timestamp.
            unsafe { (&raw mut (*there).client_timestamp).write_volatile(latest) };
            read(there, half_open);
            return Noted::Before;
        }
    }
    let is_beyond = table::begin(&half_open.share(&connection.outside));
    if !table::add(&key, half_open, is_beyond) {
        refusal::deny(head, Counter::DeniedNoRoom as u32);
        return Noted::NoRoom;
    }
    counters::add(Counter::HandshakeStarted, 0);
    if is_beyond {
        Noted::Beyond
    } else {
        Noted::Common
    }
}

/// Makes the entry that leads to the handshake in the memory from the outside's names, if it needs one.
#[inline(never)]
fn note_alias(part: *mut Draft, is_beyond: bool) {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (half_open, connection) = unsafe { (&mut (*part).half_open, &(*part).connection) };
    if !has_alias(half_open, connection) {
        return;
    }
    let flags = half_open.flags;
    half_open.other = connection.alias;
    half_open.flags = half_open_flag::ALIAS;
    table::add(&alias_key(connection), half_open, is_beyond);
    half_open.other = connection.outside;
    half_open.flags = flags;
}

/// Whether a second entry leads to the handshake: see [`HalfOpenKey`].
#[inline(always)]
fn has_alias(half_open: &HalfOpen, connection: &Connection) -> bool {
    half_open.flags & half_open_flag::POOL != 0 || connection.alias != connection.outside
}

/// Copies an entry, straight: a copy on the stack between them would take too much of it.
#[inline(always)]
fn read(entry: *const HalfOpen, to: &mut HalfOpen) {
    // SAFETY: the entry stays in its place while the program runs (see its callers for what it may
    // become), and the memory is another map's.
    unsafe { core::ptr::copy_nonoverlapping(entry, to, 1) }
}

/// Whether the lists keep the peer of the handshake in the memory from beginning a session; counts and
/// tells if so.
#[inline(never)]
fn is_listed(part: *mut Draft) -> bool {
    if lists::are_empty() {
        return false;
    }
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, peer) = unsafe {
        (
            &(*part).head,
            &(*part).half_open,
            &(*part).connection.outside,
        )
    };
    let found = if half_open.role == role::PUBLISH {
        session::published(&half_open.public)
    } else {
        None
    };
    let reason = match found {
        Some(found) => lists::refuse_session(&peer.addr, session::scope(found)),
        None => lists::refuse_peer(&peer.addr),
    };
    let Some(reason) = reason else { return false };
    refusal::deny_peer(head.total, reason as u32, peer, &half_open.public);
    true
}

/// Whether the client of the handshake in the memory may begin another session: there is room, and it
/// has not its share yet. This is asked of the SYN, because a client whose SYN is dropped tries again.
#[inline(never)]
fn may_begin(part: *mut Draft) -> Result<(), Counter> {
    if shares::is_no_room() {
        return Err(Counter::DeniedNoRoom);
    }
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (half_open, connection) = unsafe { (&(*part).half_open, &(*part).connection) };
    let Some(share) = shares::find(&half_open.share(&connection.outside)) else {
        return Ok(());
    };
    let most = if half_open.role == role::PUBLISH {
        session::published(&half_open.public).map_or(0, |it| it.client_sessions)
    } else {
        maps::SETTINGS.get(0).map_or(0, |it| it.client_sessions)
    };
    // SAFETY: see `shares::find`.
    if shares::is_full(unsafe { (*share).sessions }, most) {
        shares::note_refusal(share);
        return Err(Counter::DeniedClientSessions);
    }
    Ok(())
}

/// Whether packets from `from` to `to` leave by the interface that this one came by.
#[inline(never)]
fn leads_back(skb: &Skb, from: &Addr, to: &Addr) -> bool {
    let mut hop = Hop::NONE;
    route(skb, from, to, 0, &mut hop) && hop.ifindex == skb.ifindex()
}

/// The key of the entry that leads from the outside's names to the inside's.
#[inline(always)]
fn alias_key(connection: &Connection) -> HalfOpenKey {
    HalfOpenKey {
        inside: connection.public,
        outside: connection.outside,
    }
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
        outside: connection.alias,
    }
}

/// Fills in a handshake's connection but for its alias, without a session.
#[inline(always)]
fn connect(half_open: &HalfOpen, connection: &mut Connection) {
    connection.outside = half_open.other;
    connection.public = half_open.public;
    connection.inside = half_open.to;
    connection.return_path = half_open.return_path;
    connection.session = 0;
    connection.kind = kind::CONTROL;
    connection.flags = half_open.flow_flags;
    connection.server_inside = u8::from(half_open.role == role::PUBLISH);
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
    let from_inside = hook.side() == side::OUTBOUND;
    let mut outbound = false;
    let found = find(part, from_inside, &mut outbound);
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open) = unsafe { (&(*part).head, &mut (*part).half_open) };
    if found.is_null() {
        // This machine's own stack would answer it.
        if hook == Hook::WanIngress
            && !source::may_come_from_outside(skb, &head.source.addr, &head.destination.addr)
        {
            counters::add(Counter::DeniedSource, head.total);
            return Belongs::Refused;
        }
        return Belongs::Nowhere;
    }
    let is_servers = outbound == (half_open.role == role::PUBLISH);
    match handshake::judge(half_open, &head.segment, is_servers) {
        Handshake::Passes => {}
        Handshake::Answers => {
            answer(skb, part, found);
        }
        Handshake::Resets => end(part),
        Handshake::Finishes => return Belongs::Finished,
    }
    describe(skb, hook, part, outbound);
    Belongs::Unfinished
}

/// Makes the session of the handshake in the memory, and its flows.
#[inline(never)]
fn finish(skb: &Skb, hook: Hook) -> Belongs {
    let Some(part) = scratch::opening() else {
        return Belongs::Nowhere;
    };
    // Who was put on a list since its SYN came.
    if is_listed(part) {
        return Belongs::Refused;
    }
    if let Err(reason) = session::begin(skb, hook, part) {
        // The handshake waits on: the server repeats its answer, or the client its data.
        // SAFETY: see `scratch`; no other reference to the headers is alive.
        refusal::deny(unsafe { &(*part).head }, reason as u32);
        return Belongs::Refused;
    }
    end(part);
    Belongs::Finished
}

/// Finds the handshake of the packet in the memory, and leaves it there, with its key and its
/// connection; null: there is none. `is_outbound`: the packet comes from its inside end.
#[inline(never)]
fn find(part: *mut Draft, from_inside: bool, is_outbound: &mut bool) -> *mut HalfOpen {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open, key, connection) = unsafe {
        (
            &(*part).head,
            &mut (*part).half_open,
            &mut (*part).key,
            &mut (*part).connection,
        )
    };
    *is_outbound = false;
    let mut found = None;
    if from_inside {
        key.inside = head.source;
        key.outside = head.destination;
        found = table::find(key);
        *is_outbound = found.is_some();
    }
    if found.is_none() {
        found = of_client(head, key);
    }
    let Some(found) = found else {
        return core::ptr::null_mut();
    };
    // The entry may be reused while it is read, for another handshake: then its numbers are
    // not those of this packet.
    read(found, half_open);
    connection.alias = key.outside;
    connect(half_open, connection);
    // One that comes by the other side is of another connection.
    let is_hairpin = half_open.flow_flags & flow_flag::HAIRPIN != 0;
    if !*is_outbound && from_inside != is_hairpin {
        return core::ptr::null_mut();
    }
    found
}

/// The handshake of a packet from the end outside, and its key.
#[inline(always)]
fn of_client(head: &Head, key: &mut HalfOpenKey) -> Option<*mut HalfOpen> {
    key.outside = head.source;
    key.inside = match session::published(&head.destination) {
        Some(found) if session::flow_flags(found) & flow_flag::NO_NAT == 0 => {
            found.server_for(&head.destination)
        }
        _ => head.destination,
    };
    let is_here = |found: *mut HalfOpen| {
        // SAFETY: as in `find`.
        let found = unsafe { &*found };
        found.public == head.destination && found.other == head.source
    };
    if let Some(found) = table::find(key)
        && is_here(found)
    {
        return Some(found);
    }
    key.inside = head.destination;
    let there = table::find(key)?;
    // SAFETY: as in `find`.
    let there = unsafe { &*there };
    if there.flags & half_open_flag::ALIAS == 0 {
        return None;
    }
    key.inside = there.to;
    key.outside = there.other;
    let found = table::find(key)?;
    is_here(found).then_some(found)
}

/// Forgets the handshake in the memory.
#[inline(never)]
fn end(part: *mut Draft) {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (key, half_open, connection) =
        unsafe { (&mut (*part).key, &(*part).half_open, &(*part).connection) };
    if table::remove(key) {
        shares::finish_handshake(&half_open.share(&connection.outside));
    }
    if has_alias(half_open, connection) {
        *key = alias_key(connection);
        table::remove(key);
    }
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
    if !find_from_inside(part, source, destination) {
        return None;
    }
    describe_for_stack(part, true);
    // SAFETY: see `scratch`.
    Some(unsafe { &raw mut (*part).flow })
}

/// Leaves the handshake of packets between these ends, as the inside names them, in the memory;
/// false: there is none.
#[inline(never)]
fn find_from_inside(part: *mut Draft, source: &Endpoint, destination: &Endpoint) -> bool {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (half_open, key, connection) = unsafe {
        (
            &mut (*part).half_open,
            &mut (*part).key,
            &mut (*part).connection,
        )
    };
    key.inside = *source;
    key.outside = *destination;
    let Some(found) = table::find(key) else {
        return false;
    };
    // The entry may be reused while it is read, for another handshake.
    read(found, half_open);
    connection.alias = key.outside;
    connect(half_open, connection);
    true
}

/// Notes the server's answer.
#[inline(never)]
fn answer(skb: &Skb, part: *mut Draft, found: *mut HalfOpen) {
    // SAFETY: see `scratch`: fields that lie apart, to which no other reference is alive.
    let (head, half_open) = unsafe { (&(*part).head, &mut (*part).half_open) };
    let timestamp = timestamp(skb, head.tcp + offset::OPTIONS, head.payload).unwrap_or(0);
    handshake::answer(half_open, &offer_of(skb, head, timestamp));
    // SAFETY: the entry may be reused while it is written: what is lost to that is a handshake that
    // starts again.
    unsafe { *found = *half_open };
}
