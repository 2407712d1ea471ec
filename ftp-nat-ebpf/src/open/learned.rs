//! Announced connections that were learned from another gateway: their SYN may have passed there, so
//! any packet of either end may be the first one here.

use super::connection::{Made, create, find_paths};
use super::handshake::Belongs;
use super::learning;
use super::mapping::{belongs_to, forget_learned, tell_used, used};
use super::takeover::{self, Untold};
use crate::kernel::helpers::jiffies;
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{self, Draft};
use crate::state::{counters, maps};
use aya_ebpf::bindings::BPF_NOEXIST;
use ftp_nat_common::abi::{MappingKey, REVERSED, mapping_flag, side};

/// A packet without a flow that is no SYN, whose headers lie in the scratch memory.
///
/// Its parts stand one beside the other, as those of [`super::syn::open`].
#[inline(always)]
pub fn open(skb: &Skb, hook: Hook) -> Belongs {
    let Some(part) = scratch::opening() else {
        return Belongs::Nowhere;
    };
    if use_for(skb, hook, part) {
        return Belongs::Finished;
    }
    match takeover::enter(skb, hook, part) {
        Untold::Opened => return Belongs::Finished,
        Untold::Unknown => {}
        Untold::Nobody => {
            // SAFETY: see `scratch`; no other reference to the headers is alive.
            let head = unsafe { &(*part).head };
            if hook != Hook::WanIngress || !learning::is_learning(&head.destination.addr) {
                return Belongs::Nowhere;
            }
        }
    }
    learning::refuse(part);
    Belongs::Refused
}

/// Looks for the mapping that the packet's connection was announced by, and makes its flows.
#[inline(never)]
fn use_for(skb: &Skb, hook: Hook, part: *mut Draft) -> bool {
    // SAFETY: see `scratch`: three fields that lie apart, to which no other reference is alive.
    let (head, mapping, connection) =
        unsafe { (&(*part).head, &mut (*part).mapping, &mut (*part).connection) };
    let (source, destination) = (&head.source, &head.destination);
    let mut key = MappingKey {
        src: source.addr,
        dst: destination.addr,
        dport: source.port,
        pad: 0,
        side: hook.side() | REVERSED,
    };
    let mut found = maps::MAPPINGS.get_ptr(key);
    if found.is_none() {
        key.dport = destination.port;
        key.side = hook.side();
        found = maps::MAPPINGS.get_ptr(key);
    }
    let Some(found) = found else { return false };
    // SAFETY: the entry stays in its place while the program runs.
    *mapping = unsafe { *found };
    if mapping.flags & mapping_flag::LEARNED == 0
        || jiffies() > mapping.expires
        || maps::MAPPINGS.remove(key).is_err()
    {
        return false;
    }
    belongs_to(connection, mapping);
    if hook.side() == side::INBOUND {
        connection.outside = *source;
        connection.public = *destination;
        connection.inside = mapping.to;
        if key.side & REVERSED != 0 {
            // From where the server has dialled: it keeps its port.
            connection.inside.port = destination.port;
        }
        connection.alias = *source;
        if !mapping.other.addr.is_none() {
            connection.alias = mapping.other;
        }
    } else {
        connection.alias = *destination;
        connection.outside = *destination;
        if !mapping.other.addr.is_none() {
            connection.outside = mapping.other;
        }
        connection.inside = *source;
        connection.public = mapping.to;
        if key.side & REVERSED == 0 {
            connection.public.port = source.port;
        }
    }
    find_paths(skb, hook, part);
    if create(false) != Made::Both {
        let _ = maps::MAPPINGS.insert(key, mapping, u64::from(BPF_NOEXIST));
        return false;
    }
    forget_learned(connection);
    counters::add(used(connection), 0);
    tell_used(connection, mapping.cause);
    true
}
