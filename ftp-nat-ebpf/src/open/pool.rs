//! The server of a pool that a client's session goes to.

use super::{half_open, refusal};
use crate::state::scratch::Head;
use crate::state::{counters, maps};
use ftp_nat_common::abi::{HalfOpen, HalfOpenKey, PublishKey, half_open_flag, pool_mode};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Addr;

/// Chooses it for a SYN: `to` of its handshake. Gives the address under which this machine stands for
/// a client that the server must not see; null: there is no server, which is counted.
///
/// A SYN that is repeated goes where the first one went, whatever has become of the pool meanwhile.
#[inline(never)]
pub(super) fn choose(head: &Head, handshake: &mut HalfOpen) -> *const Addr {
    if let Some(there) = earlier(head) {
        handshake.to = there.to;
        return &raw const there.other.addr;
    }
    let key = PublishKey {
        addr: head.destination.addr,
        port: head.destination.port,
        pad: 0,
    };
    // SAFETY: the entry stays in its place while the program runs.
    let pool = unsafe { maps::POOLS.get(key) };
    let Some(pool) = pool.filter(|pool| pool.mode != pool_mode::CLOSED) else {
        refusal::deny(head, Counter::DeniedNoServer as u32);
        return core::ptr::null();
    };
    if pool.mode == pool_mode::UNCHECKED {
        counters::add(Counter::HandshakeUnchecked, 0);
    }
    let server = pool.server_for(&head.source.addr);
    handshake.to = server.server;
    &raw const server.near
}

/// What is known of the handshake that this very SYN has begun before.
#[inline(always)]
fn earlier(head: &Head) -> Option<&'static HalfOpen> {
    let there = half_open::find(&HalfOpenKey {
        inside: head.destination,
        outside: head.source,
    })?;
    // SAFETY: the entry may be reused while it is read: then its numbers are not those of this SYN.
    let there = unsafe { &*there };
    let is_ours = there.flags & half_open_flag::ALIAS != 0
        && there.client_isn == head.segment.seq
        && there.public == head.destination;
    is_ours.then_some(there)
}
