//! A SYN: whose it is, and whether it opens something.

use super::{mapping, session};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{self, Opening};
use crate::state::{counters, flows, maps, ports};
use ftp_nat_common::abi::{Flow, event, kind, port};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::tcp::flag;

/// A SYN, which lies in the scratch memory: whether it has a flow now.
#[inline(never)]
pub fn open(skb: &Skb, hook: Hook) -> bool {
    let Some(part) = scratch::opening() else {
        return false;
    };
    if mapping::use_for(skb, hook, part) {
        return true;
    }
    // SAFETY: see `scratch`; no other reference to the SYN is alive.
    let syn = unsafe { &(*part).syn };
    if let Some(flow) = flows::find(&syn.source, &syn.destination, hook.side()) {
        // SAFETY: the entry stays in its place while the program runs.
        let flow = unsafe { &*flow };
        let again = if flow.kind == kind::CONTROL {
            is_same_start(flow, syn.seq)
        } else {
            // A connection that got further than its SYN does not start again unannounced.
            flow.tcp_flags & (flag::ACK | flag::RST) == 0
        };
        if again {
            return true;
        }
    }
    match hook {
        Hook::WanIngress => session::publish(skb, hook, part) || deny(part),
        Hook::WanEgress => {
            ports::marks(syn.destination.port) & port::MASQUERADED != 0
                && session::masquerade(skb, hook, part)
        }
        Hook::LanIngress => {
            if ports::marks(syn.destination.port) & port::MASQUERADED != 0 {
                session::note_client(part);
            }
            false
        }
    }
}

/// Whether a SYN with this sequence number began the control connection of this flow.
#[inline(always)]
fn is_same_start(flow: &Flow, seq: u32) -> bool {
    let Some(session) = maps::SESSIONS.get_ptr(flow.session) else {
        return false;
    };
    // SAFETY: the entry stays in its place while the program runs.
    unsafe { (*session).commands.isn == seq }
}

/// Counts and reports a SYN that nobody announced; it has no flow.
#[inline(always)]
fn deny(part: *mut Opening) -> bool {
    // SAFETY: see `scratch`; no other reference to the SYN is alive.
    let syn = unsafe { &(*part).syn };
    counters::add(Counter::DeniedUnannounced, syn.total);
    counters::tell(|told| {
        told.what = event::DENIED;
        told.reason = Counter::DeniedUnannounced as u16;
        told.peer = syn.source;
        told.public = syn.destination;
    });
    false
}
