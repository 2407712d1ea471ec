//! A SYN: whose it is, and whether it opens something.

use super::connection;
use super::dialogue;
use super::handshake::{self, Belongs};
use super::learning;
use super::lists;
use super::mapping::{self, Use};
use super::range::{self, Entry};
use super::takeover::{self, Untold};
use super::{refusal, session};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{self, Draft};
use crate::state::{flows, maps, ports};
use ftp_nat_common::abi::{Flow, kind, port, setting};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::tcp::flag;

/// A SYN, whose headers lie in the scratch memory.
///
/// Its parts stand one beside the other and not within: Linux 6.1 allows a chain of calls 512
/// bytes of stack, loops' bodies included.
#[inline(always)]
pub fn open(skb: &Skb, hook: Hook) -> Belongs {
    let Some(part) = scratch::opening() else {
        return Belongs::Nowhere;
    };
    match mapping::use_for(skb, hook, part) {
        Use::No => {}
        Use::Opened => return Belongs::Finished,
        Use::Expired => return Belongs::Denied,
        // Of the second one the client tries again.
        Use::Banned | Use::NoRoom => return Belongs::Refused,
    }
    if let Some(flow) = repeated(hook, part) {
        // Beside what follows and not within: a chain of calls has 512 bytes of stack.
        connection::choose_anew(skb, hook, part, flow);
        return Belongs::Finished;
    }
    let belongs = unannounced(skb, hook, part);
    if belongs != Belongs::Nowhere {
        return belongs;
    }
    if learning::is_shared() {
        match takeover::enter(skb, hook, part) {
            Untold::Opened => return Belongs::Finished,
            Untold::Unknown => {
                learning::refuse(part);
                return Belongs::Refused;
            }
            Untold::Nobody => {}
        }
    }
    if hook == Hook::WanEgress || hook == Hook::LanIngress && !range::has_client(part) {
        return deny(skb, hook, part, 0);
    }
    if is_banned(part) {
        return Belongs::Refused;
    }
    match range::enter(skb, hook, part) {
        Entry::Opened => Belongs::Finished,
        Entry::NoRoom => Belongs::Refused,
        Entry::Elsewhere => deny(skb, hook, part, 0),
        Entry::Denied(reason) => deny(skb, hook, part, reason as u32),
    }
}

/// Whether the sender of a SYN from outside is one whom nobody here talks to.
#[inline(always)]
fn is_banned(part: *mut Draft) -> bool {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    let Some(reason) = lists::refuse_peer(&head.source.addr) else {
        return false;
    };
    refusal::deny(head, reason as u32);
    true
}

/// The flow of a data connection whose SYN is repeated; None: it is the first one.
#[inline(never)]
fn repeated(hook: Hook, part: *mut Draft) -> Option<*mut Flow> {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    if !ports::is_announced(head.source.port, head.destination.port) {
        return None;
    }
    let flow = flows::find(&head.source, &head.destination, hook.side())?;
    // SAFETY: the entry stays in its place while the program runs.
    is_repeated(unsafe { &*flow }).then_some(flow)
}

/// A SYN that no mapping lets through.
#[inline(never)]
fn unannounced(skb: &Skb, hook: Hook, part: *mut Draft) -> Belongs {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    if hook == Hook::LanIngress && ports::marks(head.destination.port) & port::MASQUERADED != 0 {
        session::note_client(skb, head);
    }
    // For a live control connection this changes nothing: the server answers a SYN by what it thinks
    // of the connection (RFC 5961 section 4), and only a handshake that it finishes takes its place.
    let belongs = handshake::start(skb, hook, part);
    if belongs == Belongs::Unfinished {
        if hook == Hook::WanIngress && goes_by_stack() {
            connection::describe_for_stack(part, false);
        } else {
            connection::describe(skb, hook, part, hook == Hook::WanEgress);
        }
    }
    belongs
}

/// Whether a session's first packet goes through the firewall's rules ([`setting::SYN_BY_STACK`]).
#[inline(always)]
fn goes_by_stack() -> bool {
    maps::SETTINGS
        .get(0)
        .is_some_and(|it| it.flags & setting::SYN_BY_STACK != 0)
}

/// Whether a SYN may be of a data connection that was let through and got no further: one that did
/// does not start again unannounced.
#[inline(always)]
fn is_repeated(flow: &Flow) -> bool {
    flow.kind != kind::CONTROL && flow.tcp_flags & (flag::ACK | flag::RST) == 0
}

/// Counts and reports a SYN that opens nothing, under the number of the counter `reason`, or under none if that
/// is 0, unless it is a server's that dials its client; while the gateway learns, it is dropped, so that its
/// client tries again.
#[inline(never)]
fn deny(skb: &Skb, hook: Hook, part: *mut Draft, reason: u32) -> Belongs {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    if reason != 0 && learning::is_learning(&head.destination.addr) {
        learning::refuse(part);
        return Belongs::Refused;
    }
    let may_be_a_servers = reason == 0 || reason == Counter::DeniedUnannounced as u32;
    let is_told = may_be_a_servers && dialogue::tell_uninvited(skb, hook, part);
    if reason != 0 && !is_told {
        refusal::deny(head, reason);
    }
    if hook == Hook::WanIngress {
        Belongs::Denied
    } else {
        Belongs::Nowhere
    }
}
