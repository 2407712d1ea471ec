//! Control connections: the SYN that begins a session.

use super::connection::create;
use crate::kernel::helpers::{jiffies, random};
use crate::kernel::hook::Hook;
use crate::kernel::skb::Skb;
use crate::state::scratch::{Opening, Syn};
use crate::state::{counters, maps};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::maps::lpm_trie::Key;
use ftp_nat_common::abi::{
    Answered, Asked, ClientKey, PublishKey, event, flow_flag, kind, publish_flag, role,
    session_flag,
};
use ftp_nat_common::counter::Counter;
use ftp_nat_common::stream::segment;
use ftp_nat_common::wire::addr::{Addr, Endpoint};

/// A client's SYN to a published control address.
#[inline(never)]
pub fn publish(skb: &Skb, hook: Hook, part: *mut Opening) -> bool {
    // SAFETY: see `scratch`: two fields that lie apart, to which no other reference is alive.
    let (syn, session) = unsafe { (&(*part).syn, &mut (*part).session) };
    let public = &syn.destination;
    let wanted = PublishKey {
        addr: public.addr,
        port: public.port,
        pad: 0,
    };
    // SAFETY: the entry stays in its place while the program runs.
    let Some(found) = (unsafe { maps::PUBLISHED.get(wanted) }) else {
        return false;
    };
    let mut flags = 0;
    if found.flags & publish_flag::KERNEL_NAT != 0 {
        flags |= session_flag::KERNEL_NAT;
    }
    if found.flags & publish_flag::LOCAL != 0 {
        flags |= session_flag::LOCAL;
    }
    if found.flags & publish_flag::ANY_PEER != 0 {
        flags |= session_flag::ANY_PEER;
    }
    session.inside = found.server;
    session.outside = syn.source;
    session.public = *public;
    session.advertise = found.advertise;
    session.role = role::PUBLISH;
    session.flags = flags;
    session.passive_first = found.passive_first;
    session.passive_last = found.passive_last;
    session.index = found.index;
    begin(skb, hook, part)
}

/// A SYN of an inside client to an outside server's control port, before the kernel's own NAT: its
/// own address is noted for [`masquerade`].
#[inline(never)]
pub(crate) fn note_client(part: *mut Opening) {
    // SAFETY: see `scratch`.
    let syn = unsafe { &(*part).syn };
    if is_inside(&syn.source.addr) {
        let _ = maps::CLIENTS.insert(client_key(syn), syn.source, u64::from(BPF_ANY));
    }
}

/// The same SYN at the WAN, translated by the kernel's own NAT: we read the connection.
#[inline(never)]
pub(crate) fn masquerade(skb: &Skb, hook: Hook, part: *mut Opening) -> bool {
    // SAFETY: see `scratch`: two fields that lie apart, to which no other reference is alive.
    let (syn, session) = unsafe { (&(*part).syn, &mut (*part).session) };
    session.inside = match maps::CLIENTS.get_ptr(client_key(syn)) {
        // SAFETY: the entry may be reused while it is read, by another client at worst: then the
        // announced address is not its own, and nothing opens.
        Some(client) => unsafe { *client },
        None => Endpoint::default(),
    };
    session.outside = syn.destination;
    session.public = syn.source;
    session.advertise = syn.source.addr;
    session.role = role::MASQUERADE;
    session.flags = session_flag::KERNEL_NAT;
    session.passive_first = 0;
    session.passive_last = 0;
    session.index = 0;
    begin(skb, hook, part)
}

#[inline(always)]
fn client_key(syn: &Syn) -> ClientKey {
    ClientKey {
        server: syn.destination,
        isn: syn.seq,
    }
}

/// Whether an address is one of the masqueraded clients'.
#[inline(never)]
pub(crate) fn is_inside(addr: &Addr) -> bool {
    maps::INSIDE.get(Key::new(128, *addr)).is_some()
}

/// Makes the session that lies in the scratch memory, and the flows of its control connection.
#[inline(always)]
fn begin(skb: &Skb, hook: Hook, part: *mut Opening) -> bool {
    // SAFETY: see `scratch`; no other reference to it is alive.
    let session = unsafe { &mut (*part).session };
    session.pad = 0;
    session.born = jiffies();
    session.asked = Asked::default();
    session.answered = Answered::default();
    segment::reset(&mut session.commands);
    segment::reset(&mut session.replies);
    // SAFETY: as above.
    segment::start(&mut session.commands, unsafe { (*part).syn.seq });
    // Complete, and too large to be passed by value.
    let session = &*session;
    let mut number = random() | 1;
    let mut tries = 0;
    while tries < 4 {
        if maps::SESSIONS
            .insert(number, session, u64::from(BPF_NOEXIST))
            .is_ok()
        {
            break;
        }
        number = random() | 1;
        tries += 1;
    }
    if tries == 4 {
        counters::add(Counter::PassedMapFull, 0);
        return false;
    }
    let no_nat = session.flags & (session_flag::KERNEL_NAT | session_flag::LOCAL) != 0;
    // SAFETY: as above.
    let connection = unsafe { &mut (*part).connection };
    connection.outside = session.outside;
    connection.public = session.public;
    connection.inside = session.inside;
    connection.session = number;
    connection.kind = kind::CONTROL;
    connection.flags = if no_nat { flow_flag::NO_NAT } else { 0 };
    connection.server_inside = u8::from(session.role == role::PUBLISH);
    if !create(skb, hook, part, false) {
        let _ = maps::SESSIONS.remove(number);
        counters::add(Counter::PassedMapFull, 0);
        return false;
    }
    counters::add(Counter::SessionOpened, 0);
    counters::tell(|told| {
        told.what = event::SESSION;
        told.kind = kind::CONTROL;
        told.reason = Counter::SessionOpened as u16;
        counters::about(told, session, number);
    });
    true
}
