//! What a server sends to its client beside their session: a connection that no PORT or EPRT has announced,
//! which is told and left alone.

use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::Draft;
use crate::state::{counters, maps};
use aya_ebpf::bindings::BPF_ANY;
use ftp_nat_common::abi::{DialogueKey, Session, interface_flag, kind, role};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::wire::addr::Endpoint;

/// Below lie the services of the client itself: ident (RFC 1413), which servers ask at a login, is one.
const LOWEST_PORT: u16 = 1024;

/// Notes a session that begins. Where there is no room, less is told.
///
/// Not inlined: the key would lie on the stack of whoever calls it.
#[inline(never)]
pub(super) fn note(session: &Session, number: u32) {
    let key = DialogueKey::of(session);
    let _ = maps::DIALOGUES.insert(key, number, u64::from(BPF_ANY));
}

/// Whether a SYN that opens nothing is a server's to its client; it is counted and told then.
#[inline(never)]
pub(super) fn tell_uninvited(skb: &Skb, hook: Hook, part: *mut Draft) -> bool {
    // SAFETY: see `scratch`; no other reference to the headers is alive.
    let head = unsafe { &(*part).head };
    if head.destination.port.number() < LOWEST_PORT {
        return false;
    }
    let key = DialogueKey {
        server: head.source.addr,
        client: head.destination.addr,
    };
    // SAFETY: the entry stays in its place while the program runs; it may come to be another one's, whose
    // session has other ends.
    let Some(&number) = (unsafe { maps::DIALOGUES.get(key) }) else {
        return false;
    };
    let Some(session) = maps::SESSIONS.get_ptr(number) else {
        return false;
    };
    // SAFETY: as above.
    let session = unsafe { &*session };
    let is_outside = hook == Hook::WanIngress;
    if DialogueKey::of(session) != key || is_outside != (session.role == role::MASQUERADE) {
        return false;
    }
    // The hook of the inside has seen it already.
    if hook == Hook::WanEgress && is_attached(skb.ingress_ifindex()) {
        return false;
    }
    counters::add(Counter::DeniedUninvited, head.total);
    let (source, destination) = (head.source, head.destination);
    counters::tell_denied(|told| {
        counters::about(told, session, number);
        told.kind = kind::ACTIVE;
        told.reason = Counter::DeniedUninvited as u16;
        if is_outside {
            told.peer = source;
            told.public = destination;
            told.inside = Endpoint::new(session.inside.addr, destination.port);
        } else {
            told.peer = Endpoint::new(session.outside.addr, destination.port);
            told.public = Endpoint::new(session.public.addr, source.port);
            told.inside = source;
        }
    });
    true
}

/// Whether an interface is one of the inside with programs.
#[inline(always)]
fn is_attached(ifindex: u32) -> bool {
    // SAFETY: the entry stays in its place while the program runs.
    unsafe { maps::INTERFACES.get(ifindex) }.is_some_and(|it| it.flags & interface_flag::LAN != 0)
}
